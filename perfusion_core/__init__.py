"""Key-locked, gated rank-one editing (Perfusion) in plain PyTorch.

Nothing in this package knows of a host program, of a graph of nodes or of a network.

The method:

    edit                 the equations: similarity, gate, edited contexts
    word_in_prompt       the similarity relative to the word as it stands in a prompt
    edit_present         the edit of prompts of which it is known whose words they have
    joint_directions     the part of them that is solved for several concepts at once
    text_statistics      the second moment of text encodings, C, and its inverse
    captions             the built-in captions on which C is measured
    captions_words       their words
    concept              what a learned concept is, and a stack of concepts with their gate settings
    concept_blend        a concept between two others

Looking at a sampling run:

    attention_record     running sums of cross-attention maps, from which words are chosen afterwards

Editing a picture by its prompt:

    prompt_edit          what an edit asks for
    token_alignment      which tokens of two prompts correspond
    attention_editing    the equations by which an edit takes over its source's attention

Learning a concept:

    training             the trainer: what one step does
    denoising            what it asks of the model
    training_batch       the samples of one forward pass, and the mean of their errors
    learning_rates       how far a step goes, absolute and relative to the size of what is learned
    encoding_offset      a second vector of a word, behind the text encoder
    value_difference     what holds values that are learned as a difference to the word's own
    caption_templates    the texts that a word is learned in: templates, and captions in their place
    training_trial       one picture forward and backward, to see what it takes
    memory_plan          how many pictures at once, and whether with gradient checkpointing
    live_memory          the bytes of tensors as they come and go
    training_run         a training to its end, whatever happens
    step_pace            noticing that steps take several times what they should
    training_state       all that it depends on between two steps
    training_state_file  the file from which it goes on
    training_status      the line of text while it runs
    picture_inputs       pictures, masks and captions as people connect them
    picture_fitting      the size that a picture of any size is trained at
    training_pictures    pictures and masks at these sizes
    varied_prompts       how similar a word is to its concept in many prompts, and so which bias
    step_choice          which step is best, by samples that were held out
    likeness             the same by the similarity of painted pictures
    attention_maps       soft masks from cross-attention
    attention_aim        a loss that draws the word's attention into the mask
    learned_tensors      what was learned, in the units of its use
    concept_check        whether it is in the file and does something

Files and errors:

    concept_file         the file that carries a concept
    twelve_bits          vectors in three quarters of the room of half precision, for the larger of them
    word_file            the word alone, as a textual inversion file; a command
    importers            concepts of other implementations; a command
    tensor_file          safetensors, read with distrust and written in one step
    errors               the one exception for bad input
    out_of_memory        telling that memory ran out, and saying so
"""
