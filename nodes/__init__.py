"""The graph's face: one file per job, each node its schema and a few lines of execute.

    extension           the list of nodes that ComfyUI asks for
    load_concept        Load Perfusion Concept
    apply_concepts      Apply Perfusion Concepts (Gate)
    sweep_bias          Sweep Gate Bias
    label_grid          Label Grid
    train_concept       Train Perfusion Concept
    save_concept        Save Perfusion Concept
    measure_statistics  Measure Text Statistics
    demo                Load Perfusion Demo Model, Draw Demo Pictures

What they share:

    types               the pack's own socket types, category and search words
    pictures            the host's pictures as Pillow images and back
    training_settings   the trainer's presets and its advanced inputs
    training_samples    pictures painted while the trainer learns and at its end
    training_report     the picture that tells a whole training
    host                all that touches ComfyUI's own code
"""
