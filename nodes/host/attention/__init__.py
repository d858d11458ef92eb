"""Watching where a sampling run looks at each word of its prompts; nothing of the picture changes.

    recording     maps of cross-attention in every run of a MODEL
    chosen_words  the words of a recorded run, and the maps of those that are asked for
    run_prompts   the prompts of a run: which of them are watched, and what words lie where

The sums are kept by `perfusion_core/attention_record.py`.  Imports from the wings text and gate.
"""
