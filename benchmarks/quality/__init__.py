"""The quality benchmark: does a learned concept look like the thing, and does the picture do what the prompt says?

Pure, without the host or the demo world (tests/core loads them alone):
    measures      obedience, likeness, harmonic mean, bootstrap intervals, curves
    cache         one file for each finished piece of work, named by a hash of all that determines it
    plan          sizes of a run, methods with their settings and knobs
    tables        Markdown and CSV
    plot          line plots, drawn with Pillow
    answers       the bars, and whether they are met

With the host and the demo world (imported once `workbench.open_workbench` has loaded them):
    workbench     models, recogniser, text statistics, and the hashes of their weights
    prompts       what is asked for, and the same scenes drawn for real
    painting      prompts x seeds in few large batches of the host's sampler
    reading       what the recogniser finds in the pictures
    methods/      the methods behind one protocol
    single, several, harm    the three experiments
    sheets        contact sheets
    report        puts the results together
    run           the command
"""
