"""All that touches the host (comfy.*), one module per kind of host trap.

Using concepts:
    cross_attention       finding the cross-attention layers of a diffusion model by their structure
    projection_swap       replacing the forward of modules for the length of one call
    gate_patch            putting concepts on a MODEL
    gate_run              what one sampling run of such a MODEL remembers between its steps
    text_encoders         the text encoders inside a CLIP, their tokenizers and embedding tables
    concept_words         teaching a CLIP the words of concepts
    encoder_patch         code of the pack around the encoding of a prompt
    encoding_memory       encodings that a change of the gate need not make again
    clip_layer            clip skip: a warning of another layer than a concept's
    superclass_encoding   the second text encoding that the global key lock feeds to the keys

Before anything else:
    host_version          is this ComfyUI new enough?
    old_hosts             what the oldest ones lack, in one place

Learning and keeping them:
    train_concept         training on the models of a node's sockets
    denoising_task        the host's model as the training loop wants it
    inference_tensors     parameters that were made in inference mode, and autograd
    text_gradients        the text encoders' in-place residuals, and autograd
    frozen_weights        weights that are cast for every operation, and autograd
    text_statistics       the second moment of a CLIP's encodings, and its cache
    model_family          the name of a model's family
    concept_folders       where concept files live
    progress              the progress bar, and Cancel
    sampling              samples for the trainer's report
"""
