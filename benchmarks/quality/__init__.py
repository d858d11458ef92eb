"""The quality benchmark: does a learned concept look like the thing, and does the picture do what the prompt says?

Pure, without the host or the demo world (tests/core loads them alone):
    measures      obedience, likeness, harmonic mean, bootstrap intervals, curves
    cache         one file for each finished piece of work, named by a hash of all that determines it
    plan          sizes of a run, methods with their settings and knobs
    tables        Markdown and CSV
    plot          lines and bars, drawn with Pillow
    answers       the bars, and whether they are met
    archive       finished numbers in one file of the repository
    jobs          pieces of work that can be counted before they are done
    schedule      the order in which a run does them
    budget        what a run still costs
    precision     whether pictures in bfloat16 read as those in float32; a command

With the host and the demo world (imported once `workbench.open_workbench` has loaded them):
    workbench     models, recogniser, text statistics, and the hashes of their weights
    prompts       what is asked for, and the same scenes drawn for real
    conditions    how training pictures were taken, and what is asked for after each
    painting      prompts x seeds in few large batches of the host's sampler
    background    whether a background is in its own colours
    reading       what the recogniser finds in the pictures
    methods       the methods behind one protocol
    single        the main experiment: one thing, many scenes, every condition
    several       several things in one picture
    harm          what loaded concepts do to prompts that do not name them
    ablation      what each piece of Perfusion is worth
    choice        settings by successive halving, and the knob at which several are loaded
    curves        lines of tables, curves and comparisons
    sheets        contact sheets
    report        puts the results together
    run           the command
    shortcuts     whether cheaper painting reads worse; a command
"""
