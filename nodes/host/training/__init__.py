"""Learning a concept inside the host's process, on the models of a node's sockets.

    request                 what a training is asked for, and what is watched of it
    checks                  what can be told of its inputs at once
    job                     the training from beginning to end: prepare, run, verify, result
    latents                 pictures and masks at the size that the model sees
    denoising_task          the host's model as the training loop wants it
    inpainting              what an inpainting model sees of the pictures
    pooled                  what SDXL is told of each prompt besides its encoding
    word_similarity         how similar the word is to its concept in many prompts
    size_hints              what SDXL is told of a picture's size
    autograd                what the host does to its models that autograd cannot live with, and the cures
    fused_operations        operations of transformers without a backward pass, and what is done in their place
    gradient_checkpointing  less memory for one more forward pass
    measured_memory         what a picture takes, and how many go through the model at once
    dynamic_memory          models that the host streams, copied so that they can be trained through
    captured_attention      queries and keys of the layers, and the loss of where the word's attention is
    attention_mask          where the thing is, by the model's attention to the superclass
    judge                   which step is best, by a CLIP vision model
    sampling                pictures made as the host's own sampler makes them
    concept_effect          what the learned concept does to the model
    files                   the training on disk: its concept, its state, its report
    weight_hash             names of weights and pictures, to tell whether a training may go on

Imports from the wings text and gate.
"""
