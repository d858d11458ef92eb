"""Key-locked, gated rank-one editing (Perfusion) in plain PyTorch.

Nothing in this package knows of a host program, of a graph of nodes or of a network.

    edit          the equations: similarity, gate, edited contexts
    joint_directions  the part of them that is solved for several concepts at once
    concept       what a learned concept is, and a stack of concepts with their gate settings
    concept_file  the file that carries a concept
    statistics    the second moment of text encodings, C, and its inverse
    training      learning a concept from a few pictures
                  (_run: to its end, whatever happens; _state, _state_file: stopping and going on)
    concept_check whether what was trained is in the file and does something
    word_file     the word alone, as a textual inversion file; a command
    importers     concepts of other implementations; a command
"""
