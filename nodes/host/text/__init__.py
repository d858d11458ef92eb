"""Words in the host's text encoders.

    encoders             the text encoders inside a CLIP, their tokenizers and embedding tables
    words                teaching a CLIP the words of concepts: here a word enters the encoder
    inserted_words       words that a tokenizer does not know, between what it makes of the text around them
    whole_words          words of several vectors stay in one chunk of a long prompt
    encoder_patch        code of the pack around the encoding of a prompt
    encoding_memory      encodings that a change of the gate need not make again
    own_tokens           which tokens of an encoding are a concept's own, marked on it
    known_prompts        which prompts are known not to have a word
    prompt_words         the words of a prompt, and where they lie in its encoding
    prompt_notes         what is noted of prompts: words in them, and words that look like it
    clip_layer           clip skip: a warning of another layer than a concept's
    superclass_encoding  the second text encoding that the lock of the whole prompt feeds to the keys
    pooled_lock          the pooled vector of the prompt with the superclass, for concepts trained with it
    statistics           the second moment of a CLIP's encodings, measured and kept

Imports nothing from the other wings.
"""
