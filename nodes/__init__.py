"""The graph's face: one file per job, each node its schema and a few lines of execute.

    extension           the list of nodes that ComfyUI asks for
    load_concept        Load Perfusion Concept
    apply_concepts      Apply Perfusion Concepts (Gate)
    sweep_bias          Sweep Gate Bias
    label_grid          Label Grid
    concept_info        Show Perfusion Concept
    inspect_gate        Inspect Perfusion Gate
    record_attention    Record Attention
    show_attention      Show Attention Maps
    load_pictures       Load Concept Pictures
    train_concept       Train Perfusion Concept
    load_kept_steps     Load Kept Steps
    save_concept        Save Perfusion Concept
    blend_concepts      Blend Perfusion Concepts
    measure_statistics  Measure Text Statistics
    edit_prompt         Edit with Prompt-to-Prompt
    describe_edit       Describe Prompt Edit
    edit_mask           Show Edit Mask
    demo                Load Perfusion Demo Model, Draw Demo Pictures

What they share:

    types               the pack's own socket types, category and search words
    declared            inputs as the schema declares them, whatever a wire brings
    advice              the numbers that users are told, each in one place
    pictures            the host's pictures as Pillow images and back
    shown               the line of text and the picture that a node shows
    drawing             how the pictures that explain something are drawn
    gate_picture        what was found of gates, as picture, text and numbers
    sweep               the settings of a table of runs, and what its columns and rows are called
    grid_picture        pictures of several runs in one
    concept_card        all that a concept says of itself
    form_words          what its form means, in words
    attention_picture   heat maps of words over pictures
    trainer_inputs      what the inputs of the trainer ask for
    training_settings   its presets and its advanced inputs
    resume_text         how an unfinished training differs from the one that is asked for
    training_display    what it shows while it learns
    training_samples    pictures that it paints then and at the end
    training_report     the picture that tells a whole training
    host                all that touches ComfyUI's own code
"""
