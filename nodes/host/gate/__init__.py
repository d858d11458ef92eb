"""Concepts on a MODEL, there only while it runs.

    patch            putting concepts on a MODEL
    run              what one sampling run of such a MODEL remembers between its steps
    run_report       what a run made of the concepts, in a line: gates, and mistakes that raise no error
    wiring           the mistake that only the queued graph shows: sampling the MODEL from before the gate
    cross_attention  finding the cross-attention layers of a diffusion model by their structure
    projection_swap  replacing the forward of modules for the length of one call

The gate itself is computed in `perfusion_core/edit.py`.  Imports from the wing text.
"""
