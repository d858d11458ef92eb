"""The embedded demo model, as the pack's demo nodes load it.

    load          MODEL, CLIP and VAE from the weight files, through the host's classes
    eight_bits    how the weights are stored
    model         the sizes of its parts, and what of it is not in the weights
    world         the procedural pictures it was trained on, and the things that concepts are learned of
    making        how all of it was made and measured (not part of the registry's archive)

Weights lie in weights/, two ready concepts in concepts/.  Of the pack these modules know perfusion_core, and
nodes/host/old_hosts for what old hosts lack.
"""
