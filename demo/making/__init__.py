"""How the demo model, its concepts, the templates and the tables were made.  No node needs any of it.

Every script is started by its name, `python demo/making/run.py NAME`:
    dataset             draws the pictures
    train_vae           trains the autoencoder
    refine_vae          improves it on whole pictures
    train_unet          trains UNet and text encoder on its latents
    export_weights      writes the weight files of the pack
    train_recogniser    trains the network that reads pictures
    train_close_reader  trains the one that tells looks of one kind apart
    make_generated      paints pictures for it to learn from
    measure             does the model paint what prompts ask?
    make_concepts       trains the concepts that ship
    measure_concepts    is it the thing, in the scene that was asked for?
    tour                what `python dev.py demo` shows
    readme_pictures     cuts the README's pictures out of it
    make_templates      builds workflows/*.json in the host's own front end
    make_thumbnails     paints workflows/*.jpg
    make_edit_strip     paints the README's row of edits
    make_blueprints     builds subgraphs/*.json
    make_lora           trains the LoRA of one template
    make_emblem         draws the icon and the banner of the registry

What they share:
    run                 the launcher
    host                ComfyUI on the import path
    initial_weights     the parts of the model before any training
    trained_weights     the weights in half precision, of which those that ship are made
    training_state      seeds, threads, optimiser, and the state that a stopped run resumes from
    text                captions as token numbers, on a vocabulary cut down to the world's words
    text_model          the text encoder while it trains
    look_words          words that name looks, in training only
    body_weights        where objects stand in a latent, so that a loss can count them more
    recogniser          the network that reads pictures and measures likeness
    recogniser_data     the pictures it learns from, and how they are disturbed
    candidates          what a picture of a thing is compared with
    close_reader        the network that looks at the main object alone, enlarged
    close_looks         the pictures it learns from: looks of one kind that differ in one or two traits
    gallery             a thing among 200 others of its kind
    own_frame           an object upright, centred and of one size, whatever its pose
    part_colours        how far the colours of its parts are off
    instrument          both questions, and what real pictures reach
    prompts             the templates as API prompts
    replacing_prompts   those in which a concept takes the place of what pictures show
    template            what a template is
    template_layouts    where the nodes of each template lie
    template_notes      what the note of each template says
    queue_client        a connection to a running ComfyUI
    tour_check          do the pictures of the quick tour show what was asked for?
"""
