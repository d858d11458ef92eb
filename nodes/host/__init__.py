"""All that touches the host (comfy.*), one module per kind of host trap.

    cross_attention       finding the cross-attention layers of a diffusion model by their structure
    projection_swap       replacing the forward of modules for the length of one call
    gate_patch            putting concepts on a MODEL
    gate_run              what one sampling run of such a MODEL remembers between its steps
    text_encoders         the text encoders inside a CLIP, their tokenizers and embedding tables
    concept_words         teaching a CLIP the words of concepts
    superclass_encoding   the second text encoding that the global key lock feeds to the keys
"""
