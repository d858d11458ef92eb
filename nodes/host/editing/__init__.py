"""Prompt-to-Prompt: a picture and its edits side by side in one run of the host's samplers.

    edited_prompts    a prompt and its edits as tokens, and as one conditioning with a row for each
    edited_latents    latents with a row for each
    edited_rows       which rows of a call of the model are a source and its edits
    shared_noise      the same noise for them, whatever sampler draws it
    attention_blocks  finding the attention layers of a model
    edit_run          what one run remembers, and what it makes of each step's result
    edited_attention  the layers' projections, by which an edit takes over its source's attention
    edit_masks        where a run changed a picture, for the node that shows it
    edit_patch        all of it on a MODEL, there only while it runs

The equations are in `perfusion_core/attention_editing.py`.  Imports from the wings text and gate.
"""
