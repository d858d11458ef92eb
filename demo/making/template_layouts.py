"""How the templates look: where each node of a prompt lies, what it is called, and what its page in app mode shows.

Each opens readable on a small screen: the host fits a template into three quarters of the page, and below a scale of
.571 its canvas draws no text. The note is on the left; wires run from left to right, the model's above the prompts and
the VAE's above all, so that none goes under a node.
"""

from __future__ import annotations

from . import prompts, replacing_prompts, template_notes
from .template import DEMO, GATE, GROWN_LOADER, LOADER, NOTE, Box, Template

A, B, C, D, E = 360, 680, 980, 1290, 1590  # left edges of the columns, and where the last one ends
END = 1950


def _note(height: int = 850) -> dict[str, Box]:
    return {NOTE: (0, 0, 320, height)}


def _sampling(prompts_top: int = 170, sampler_top: int = 110) -> dict[str, Box]:
    """The stock nodes from prompts to pictures, in three columns."""
    return {
        "positive": (C, prompts_top, 260, 100),
        "negative": (C, prompts_top + 150, 260, 100),
        "latent": (C, prompts_top + 300, 260, 106),
        "decode": (D, 20, 260, 54),
        "sampler": (D, sampler_top, 260, 262),
        "picture": (E, 0, END - E, 640),
    }


def _groups(first: str = "Model and concept", bottom: int = 730) -> dict[str, Box]:
    return {
        first: (A - 20, -80, C - A, bottom + 80),
        "Prompt": (C - 20, -80, 300, bottom + 80),
        "Picture (stock sampler and VAE)": (D - 20, -80, END - D + 40, bottom + 80),
    }


_SAMPLING_TITLES = {"positive": "Prompt", "negative": "Negative prompt", "picture": "Pictures"}
_TEXT, _BIAS, _SEED = ("positive", "text"), ("concept0", "bias"), ("sampler", "seed")
_FIRST: dict[str, Box] = {
    **_note(),
    "demo": (A, 0, 260, DEMO),
    "concept0": (A, 150, 260, LOADER),
    "gate": (B, 110, 260, GATE),
    **_sampling(),
}
_SWEPT: dict[str, Box] = {
    **_FIRST,
    **_sampling(prompts_top=450, sampler_top=300),
    "sweep": (C, 110, 260, 278),
    "grid": (E, 110, END - E, 122),
    "picture": (E, 300, END - E, 540),
}
_TRAINED: dict[str, Box] = {
    NOTE: (0, 0, 340, 530),
    "pictures": (0, 585, 340, 182),
    "demo": (0, 806, 340, DEMO),
    "train": (400, 0, 340, 680),
    "gate": (830, 700, 250, GATE),
    "positive": (1120, 110, 250, 100),
    "negative": (1120, 260, 250, 100),
    "latent": (1120, 410, 250, 106),
    "sampler": (1420, 520, 250, 262),
    "decode": (1420, 826, 250, 54),
    "picture": (1740, 0, 240, 860),
}

TEMPLATES = (
    Template(
        "First picture",
        prompts.first_picture_prompt(),
        template_notes.FIRST_PICTURE,
        _FIRST,
        (_TEXT, _BIAS, _SEED),
        "picture",
        _SAMPLING_TITLES,
        _groups(),
    ),
    Template(
        "Train a concept",
        prompts.without(
            prompts.train_prompt("bruno", "a photo of a <bruno> on the beach"), "statistics", "report", "loss"
        ),
        template_notes.TRAIN,
        _TRAINED,
        (("pictures", "thing"), ("train", "word"), ("train", "preset"), _TEXT),
        "picture",
        _SAMPLING_TITLES,
        {
            "Training": (380, -80, 380, 1010),
            "The new word in a picture (stock sampler and VAE)": (810, -80, 1190, 1010),
        },
    ),
    Template(
        "Train on your own photos",
        prompts.own_photos_prompt(),
        template_notes.OWN_PHOTOS,
        {
            **_note(900),
            "demo": (A, 0, 260, DEMO),
            "pictures": (A, 150, 260, 182),
            "checkpoint": (A, 420, 260, 98),
            "own pictures": (A, 590, 290, 200),
            "statistics": (710, 240, 220, 140),
            "train": (970, 0, 360, 870),
            "report": (1380, 0, 570, 870),
        },
        (("pictures", "thing"), ("train", "word"), ("train", "superclass"), ("train", "preset")),
        "report",
        {
            "report": "Report",
            "checkpoint": "Load Checkpoint (muted)",
            "own pictures": "Load Concept Pictures (muted)",
        },
        {
            "Demo: take away": (A - 20, -80, 330, 430),
            "Your own: unmute": (A - 20, 360, 330, 460),
            "Training": (690, -80, END - 670, 970),
        },
        ("checkpoint", "own pictures"),
    ),
    Template(
        "Two concepts in one picture",
        prompts.two_concepts_prompt(),
        template_notes.TWO_CONCEPTS,
        {
            **_FIRST,
            "concept0": (A, 0, 260, GROWN_LOADER),
            "concept1": (A, 590, 260, LOADER),
            "demo": (B, 0, 260, DEMO),
            "gate": (B, 180, 260, GATE),
            "sampler": (D, 180, 260, 262),
            "positive": (C, 240, 260, 100),
            "negative": (C, 390, 260, 100),
            "latent": (C, 540, 260, 106),
        },
        (_TEXT, _BIAS, ("concept1", "bias"), _SEED),
        "picture",
        {**_SAMPLING_TITLES, "concept0": "Load Perfusion Concept: teddy", "concept1": "Load Perfusion Concept: cup"},
        _groups("Model and concepts", 910),
    ),
    Template(
        "Sweep the bias",
        prompts.sweep_prompt(),
        template_notes.SWEEP,
        _SWEPT,
        (_TEXT, ("sweep", "biases"), _SEED),
        "picture",
        {**_SAMPLING_TITLES, "picture": "Labelled pictures"},
        _groups(bottom=870),
    ),
    Template(
        "Choose the lock",
        prompts.lock_prompt(),
        template_notes.LOCK,
        _SWEPT,
        (_TEXT, ("sweep", "locks"), ("sweep", "biases"), _SEED),
        "picture",
        {**_SAMPLING_TITLES, "picture": "Labelled pictures"},
        _groups(bottom=870),
    ),
    Template(
        "With a LoRA",
        prompts.lora_prompt(),
        template_notes.LORA,
        {**_FIRST, "lora": (A, 150, 260, 82), "concept0": (A, 320, 260, LOADER)},
        (_TEXT, ("lora", "strength_model"), _BIAS, _SEED),
        "picture",
        _SAMPLING_TITLES,
        _groups("Model, LoRA and concept", 870),
    ),
    Template(
        "Inpaint a concept",
        prompts.inpaint_prompt(),
        template_notes.INPAINT,
        {
            **_FIRST,
            "concept0": (A, 140, 260, LOADER),
            "pictures": (A, 720, 260, 182),
            "encode": (B, 720, 260, 54),
            "grown": (B, 812, 260, 90),
            "latent": (C, 720, 260, 54),
        },
        (_TEXT, ("pictures", "thing"), ("grown", "expand"), _BIAS),
        "picture",
        _SAMPLING_TITLES,
        _groups("Model, concept, picture and mask", 910),
    ),
    Template(
        "Attention maps",
        prompts.maps_prompt(),
        template_notes.MAPS,
        {
            **_FIRST,
            "gate": (B, 330, 260, GATE),
            "record": (B, 110, 260, 98),
            "decode": (D, 20, 260, 54),
            "sampler": (D, 250, 260, 262),
            "positive": (C, 290, 260, 100),
            "negative": (C, 440, 260, 100),
            "latent": (C, 590, 260, 106),
            "maps": (1610, 120, 340, 520),
            "picture": (1610, 710, 340, 190),
        },
        (_TEXT, ("maps", "words"), _SEED),
        "maps",
        _SAMPLING_TITLES,
        {
            "Model and concept": (A - 20, -80, C - A, 810),
            "Prompt": (C - 20, -80, 300, 810),
            "Pictures and maps": (D - 20, -80, END - D + 40, 1010),
        },
    ),
    Template(
        "Inspect the gate",
        prompts.inspect_prompt(),
        template_notes.INSPECT,
        {
            **_note(),
            "concept0": (A, 0, 260, GROWN_LOADER),
            "concept1": (A, 590, 260, LOADER),
            "demo": (B, 720, 260, DEMO),
            "inspect": (1000, 70, 455, 786),
            "info": (1495, 0, 455, 856),
        },
        (("inspect", "prompt"), ("inspect", "bias")),
        "inspect",
        {"concept0": "Load Perfusion Concept: teddy", "concept1": "Load Perfusion Concept: cup"},
        {"Model and concepts": (A - 20, -80, 620, 960), "What they do": (980, -80, 990, 960)},
    ),
    Template(
        "Compare steps",
        prompts.without(prompts.compare_prompt(save_as="bruno_best"), "report"),
        template_notes.COMPARE,
        {
            **_TRAINED,
            "kept": (830, 0, 250, 142),
            "save": (760, 255, 215, 110),
            "grid": (1740, 0, 240, 126),
            "picture": (1740, 170, 240, 690),
        },
        (("pictures", "thing"), ("train", "word"), _TEXT, ("kept", "steps")),
        "picture",
        {**_SAMPLING_TITLES, "picture": "Labelled pictures", "save": "Save Perfusion Concept (muted)"},
        {
            "Training and its kept steps": (380, -80, 720, 1010),
            "A picture for each (stock sampler and VAE)": (1110, -80, 890, 1010),
        },
        ("save",),
    ),
    Template(
        "Edit a picture",
        prompts.edit_prompt(),
        template_notes.EDIT,
        {
            **_note(),
            "demo": (A, 0, 260, DEMO),
            "concept0": (A, 150, 260, LOADER),
            "gate": (B, 110, 260, GATE),
            "described": (B, 378, 260, 357),
            "latent": (B, 793, 260, 106),
            "edit": (C, 250, 260, 300),
            "negative": (C, 685, 260, 100),
            "decode": (D, 20, 260, 54),
            "sampler": (D, 270, 260, 262),
            "mask": (D, 620, 260, 26),
            "picture": (E, 0, END - E, 530),
            "masks": (E, 600, END - E, 276),
        },
        (("edit", "text"), ("edit", "edit"), _SEED),
        "picture",
        {**_SAMPLING_TITLES, "masks": "Where the edits may change the picture"},
        {
            "Model and concept": (A - 20, -80, 300, 810),
            "Source and edits": (B - 20, -80, D - B, 990),
            "Pictures (stock sampler and VAE)": (D - 20, -80, END - D + 40, 990),
        },
    ),
    Template(
        "Blend two concepts",
        prompts.blend_prompt(),
        template_notes.BLEND,
        {
            NOTE: (0, 0, 260, 860),
            "concept0": (300, 0, 250, GROWN_LOADER),
            "concept1": (300, 590, 250, LOADER),
            "demo": (590, 0, 250, DEMO),
            "blend": (590, 180, 250, 170),
            "gate": (880, 110, 250, GATE),
            "positive": (1170, 170, 250, 100),
            "negative": (1170, 320, 250, 100),
            "latent": (1170, 470, 250, 106),
            "sampler": (1460, 110, 250, 262),
            "decode": (1460, 20, 250, 54),
            "picture": (1750, 0, 240, 640),
        },
        (_TEXT, ("blend", "share"), _SEED),
        "picture",
        {**_SAMPLING_TITLES, "concept0": "Load Perfusion Concept: A", "concept1": "Load Perfusion Concept: B"},
        {
            "Model, two concepts and their blend": (280, -80, 580, 1010),
            "Gate and prompt": (860, -80, 580, 1010),
            "Picture (stock sampler and VAE)": (1440, -80, 570, 1010),
        },
    ),
    Template(
        "Replace a subject",
        replacing_prompts.replace_prompt(),
        template_notes.REPLACE,
        {
            **_note(900),
            "demo": (A, 0, 260, DEMO),
            "concept0": (A, 140, 260, LOADER),
            "pictures": (A, 720, 260, 182),
            "gate": (B, 110, 260, GATE),
            "latent": (B, 385, 260, 54),
            "described": (B, 495, 260, 357),
            "edit": (C, 230, 260, 330),
            "negative": (C, 685, 260, 100),
            "decode": (D, 20, 260, 54),
            "sampler": (D, 270, 260, 262),
            "picture": (E, 0, END - E, 640),
        },
        (("edit", "text"), ("described", "text"), ("pictures", "thing"), ("described", "self_end")),
        "picture",
        {**_SAMPLING_TITLES, "picture": "Each picture, and what becomes of it"},
        {
            "Model, concept and pictures": (A - 20, -80, 300, 1000),
            "The edit": (B - 20, -80, D - B, 1000),
            "Pictures (stock sampler and VAE)": (D - 20, -80, END - D + 40, 1000),
        },
    ),
    Template(
        "Replace a face",
        replacing_prompts.head_prompt(),
        template_notes.FACE,
        {
            NOTE: (0, 0, 270, 900),
            "demo": (300, 0, 250, DEMO),
            "concept0": (300, 140, 250, LOADER),
            "pictures": (300, 720, 250, 182),
            "gate": (590, 110, 250, GATE),
            "encode": (590, 460, 250, 54),
            "grown": (590, 590, 250, 90),
            "below": (590, 740, 250, 116),
            "positive": (880, 170, 250, 100),
            "negative": (880, 320, 250, 100),
            "head": (880, 600, 250, 140),
            "latent": (1170, 460, 250, 54),
            "sampler": (1460, 110, 250, 262),
            "decode": (1460, 20, 250, 54),
            "picture": (1750, 0, 240, 640),
        },
        (_TEXT, ("grown", "expand"), ("sampler", "denoise"), _BIAS),
        "picture",
        {**_SAMPLING_TITLES, "below": "Create Solid Mask: below the neck", "head": "Combine Masks: the head alone"},
        {
            "Model, concept and pictures": (280, -80, 290, 1000),
            "Mask of the head": (570, -80, 870, 1000),
            "Picture (stock sampler and VAE)": (1440, -80, 570, 1000),
        },
    ),
    Template(
        "Paint in a style",
        prompts.style_prompt(),
        template_notes.STYLE,
        _FIRST,
        (_TEXT, _BIAS, _SEED),
        "picture",
        _SAMPLING_TITLES,
        _groups(),
    ),
)


def file_name(template: Template) -> str:
    """What the template's files are called, which is also its title: the host knows no other, and no order but that of
    the folder. The number makes that the order of learning where folders are sorted; the host's search for templates
    looks at the title alone, so it says whose the template is."""
    return f"Perfusion {TEMPLATES.index(template) + 1:02} {template.name}"
