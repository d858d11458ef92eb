"""Concepts on a MODEL, there only while it runs.

    patch            putting concepts on a MODEL
    run              what one sampling run of such a MODEL remembers between its steps
    words_in_prompt  where the words of concepts stand in an encoding as it arrives
    reading          what a run makes of an encoding, without sampling
    inspection       how far gates would open at the words of a prompt
    silent_failures  what goes wrong in a run without an error, told in one warning
    cross_attention  finding the cross-attention layers of a diffusion model by their structure
    refined_text     the text as the layers see it, where the model makes something else of it first
    run_report       what a run made of the concepts, in one line
    run_time         how long runs take
    wiring           the mistake in which nothing of the pack runs, read off the graph
    model_call       one call of the model under a patch, and how its projections find it
    projection_swap  replacing the forward of modules for the length of one call

The gate itself is computed in `perfusion_core/edit.py`.  Imports from the wing text.
"""
