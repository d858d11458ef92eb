"""All that touches the host (comfy.*), one module per kind of host trap, in wings.

    text             words in the text encoder, and what is encoded around them
    gate             concepts on a MODEL while it samples
    attention        watching where a sampling run looks at each word
    editing          a picture and its edits in one run (Prompt-to-Prompt)
    training         learning a concept on the models of a node's sockets

The last three import from gate, which imports from text, and not from each other; what all may use lies beside them:

    host_version     is this ComfyUI new enough?  Asked before anything else
    old_hosts        all that the oldest ComfyUI does otherwise than today's
    model_family     the name of a model's family, and models that see no text
    concept_folders  where concept files live
    kept_steps       where a training keeps the concepts of its steps
    picture_files    a folder of pictures below the input folder
    debug_log        what a bug report needs, where the switch is on
    progress         the progress bar, and Cancel
    node_text        the line of text under a node
    equal_tensors    whether two tensors are the same in every number
    executing_node   which node of the graph is running
"""
