"""How the templates look: where each node of a prompt lies, what it is called, and the note that explains the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from . import prompts
from .prompts import Prompt

Box = tuple[int, int, int, int]  # left, top, width, height of a node without its title bar

NOTE = "note"
LOADER = 242  # height of Load Perfusion Concept; below it is room for its line of text and its picture

# No code spans in the notes: the newer of the two ways in which the host draws nodes makes them unreadable on brown.
FIRST_PICTURE_NOTE = """\
## First picture

**\\<hugsy>** is a toy that words cannot describe. A concept file of a few kilobytes shows the model what it is.

1. Press **Run**: four pictures of **\\<hugsy>** on the beach.
2. Change the **prompt** and keep the word: *a photo of a* **\\<hugsy>** *with a hat in the snow*.
3. Turn **bias** in *Load Perfusion Concept* and run again. Lower (0.6) looks more like the toy, higher (1) follows \
the rest of the prompt more. The seed is fixed, so that you see what the gate alone does.

The demo model only paints toys, 128 x 128: teddies, balls, cups, cars, trees, houses, fish and stars; on the beach, \
in the snow, on the grass, at night, in a pink room, in a grey studio.

With your own concept files, *Load Checkpoint* takes the place of *Load Perfusion Demo Model*; everything else stays.
"""

TRAIN_NOTE = """\
## Train a concept

Press **Run**. Five pictures of a toy become the word **\\<bruno>**, which is then used in a new scene. The concept is \
saved in *output/perfusion*; press **R** to see it in *Load Perfusion Concept*. *Report* shows the pictures, the loss \
and samples.

**Your own checkpoint and pictures**
1. *Load Checkpoint* in place of *Load Perfusion Demo Model*; its size in *Empty Latent Image* (512 x 512 for SD1.5, \
1024 x 1024 for SDXL).
2. *Load Concept Pictures* (muted here: Ctrl+M) in place of *Draw Demo Pictures*: a folder below ComfyUI's input \
folder, with about five pictures of any sizes, the thing before different backgrounds. Masks are optional.
3. Write a new **word**, such as **\\<rex>**, and the **superclass**, the plain word for what it is, such as *dog*.
4. *cfg* of the sampler: 3 here, 7 for SD1.5, 6 for SDXL. The trainer's *sample_cfg* finds these by itself.

**What to turn**: preset *Quick* to try, *Standard* to keep, *Low memory* to take the least. How much the result looks \
like your thing is set later, without training again, by the **bias** in *Load Perfusion Concept*.

*Measure Text Statistics* may be left out: the trainer then measures by itself. *Save Perfusion Concept* is muted: \
the trainer has saved already. Unmute it (Ctrl+M) to save a copy that carries the new picture.
"""

TWO_CONCEPTS_NOTE = """\
## Two concepts in one picture

**\\<hugsy>** and **\\<sippy>** were trained apart and do not know of each other. One gate node takes them \
both; a free input appears for the next.

1. Press **Run**: the toy beside the cup.
2. Change the **prompt**; each concept acts where its word is, and is silent where it is not.
3. Each loader has its own **bias**. If one concept takes over, raise its bias or lower that of the other, by 0.1.

**key_lock** *global* locks the keys of the whole prompt to the superclasses (a teddy beside a cup): freer scenes, \
less likeness; use a bias of 0.45 with it.
"""

SWEEP_NOTE = """\
## Sweep the bias

One concept, two seeds, five biases: *Sweep Gate Bias* gives the model once for each, *Label Grid* joins the pictures.

1. Press **Run**. On the left all toy and hardly a hat, on the right an ordinary teddy with a hat; between is what \
you want.
2. Write other **biases**, such as *0.7, 0.85, 1*, and run again: only the sampler runs.
3. Take the bias that you like for your own work: set it in *Load Perfusion Concept*.

With several concepts write one **word**, such as **\\<hugsy>**, to sweep that one alone.
"""


COMPARE_NOTE = """\
## Compare steps

A training that goes on too long ignores prompts, and no number says surely when. *Train Perfusion Concept* keeps the \
concept every 50 steps; *Load Kept Steps* gives all of them, and *Label Grid* joins what they paint.

1. Press **Run**: a quick training, then two seeds with the concept of each step, and with the one that was saved.
2. Change the **prompt** and run again: nothing is trained again.
3. Write the step that you like into **steps**, unmute *Save Perfusion Concept* (Ctrl+M), and run: it becomes a file \
of its own.

Later, without the trainer: take away the link to **path** and choose a **training**. The steps stay for the last \
three trainings.
"""

EDIT_NOTE = """\
## Edit a picture

A picture of a teddy, the same picture with **\\<hugsy>** in its place, and with a cup: painted side by side from the \
same noise. Pose, hat and beach stay, since the edits take over the attention of the source.

1. Press **Run**: two seeds, three pictures each. Below them is where each edit was allowed to change the picture.
2. Change **edit**, such as *teddy -> ball* or *beach -> grass*, or the source's **text**. Leave open what shall \
stay: a prompt that states everything needs no edit.
3. *Describe Prompt Edit* has the knobs: how long the source is followed, weights of words, where the picture may \
change.

**A picture that you have**: *VAE Encode* in place of *Empty Latent Image*, **real_picture** on, and its description \
as **text**.
"""


@dataclass(frozen=True)
class Template:
    """A template: its prompt, and for each node of it (and the note) its box; titles where the node's own says too
    little; names of nodes that are muted; groups by title."""

    name: str
    prompt: Prompt
    note: str
    boxes: Mapping[str, Box]
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Box] = field(default_factory=dict)
    muted: tuple[str, ...] = ()


def _sampling(left: int, top: int = 0, bottom: int = 446) -> dict[str, Box]:
    """The stock nodes from prompts to pictures, in three columns; the VAE's link has the lowest place to itself."""
    return {
        "positive": (left, top, 340, 100),
        "negative": (left, top + 150, 340, 88),
        "latent": (left, top + 290, 340, 106),
        "sampler": (left + 400, top, 300, 262),
        "decode": (left + 400, bottom - 46, 300, 46),
        "picture": (left + 740, top, 460, bottom - top),
    }


def _sampling_groups(left: int, top: int = 0, bottom: int = 446) -> dict[str, Box]:
    height = bottom - top + 120
    return {
        "Prompt": (left - 20, top - 80, 380, height),
        "Picture (stock sampler and VAE)": (left + 380, top - 80, 840, height),
    }


_SAMPLING_TITLES = {"positive": "Prompt", "negative": "Negative prompt", "picture": "Pictures"}

TEMPLATES = (
    Template(
        "First picture",
        prompts.first_picture_prompt(),
        FIRST_PICTURE_NOTE,
        {
            NOTE: (-440, -50, 380, 420),
            "concept0": (0, 0, 300, LOADER),
            "demo": (0, 640, 300, 66),
            "gate": (360, 0, 300, 220),
            **_sampling(740, 0, 706),
        },
        _SAMPLING_TITLES,
        {"Model and concept": (-20, -80, 700, 826), **_sampling_groups(740, 0, 706)},
    ),
    Template(
        "Train a concept",
        prompts.train_prompt(
            "bruno", "a photo of a <bruno> on the beach", save_again_as="bruno_with_picture", own_pictures=True
        ),
        TRAIN_NOTE,
        {
            NOTE: (-480, -50, 420, 620),
            "pictures": (0, 0, 300, 146),
            "statistics": (0, 250, 300, 58),
            "own pictures": (0, 480, 300, 180),
            "train": (380, 0, 340, 850),
            "report": (780, 0, 660, 850),
            "loss": (1480, 0, 480, 420),
            "save again": (1480, 700, 300, 80),
            "gate": (380, 1100, 300, 220),
            "demo": (-460, 1480, 300, 66),
            **_sampling(760, 1100, 1546),
        },
        {
            **_SAMPLING_TITLES,
            "report": "Report",
            "save again": "Save Perfusion Concept (muted)",
            "own pictures": "Load Concept Pictures (muted)",
        },
        {
            "Pictures of the thing": (-20, -80, 340, 1070),
            "Training": (340, -80, 1640, 1070),
            "Model and concept": (-480, 1020, 1200, 566),
            **_sampling_groups(760, 1100, 1546),
        },
        ("save again", "own pictures"),
    ),
    Template(
        "Two concepts in one picture",
        prompts.two_concepts_prompt(),
        TWO_CONCEPTS_NOTE,
        {
            NOTE: (-440, -50, 380, 420),
            "concept0": (0, 0, 300, LOADER),
            "concept1": (340, 0, 300, LOADER),
            "demo": (0, 640, 300, 66),
            "gate": (700, 0, 300, 240),
            **_sampling(1080, 0, 706),
        },
        {**_SAMPLING_TITLES, "concept0": "Load Perfusion Concept: teddy", "concept1": "Load Perfusion Concept: cup"},
        {"Model and concepts": (-20, -80, 1040, 826), **_sampling_groups(1080, 0, 706)},
    ),
    Template(
        "Sweep the bias",
        prompts.sweep_prompt(),
        SWEEP_NOTE,
        {
            NOTE: (-440, -50, 380, 420),
            "concept0": (0, 0, 300, LOADER),
            "demo": (0, 640, 300, 66),
            "gate": (360, 0, 300, 220),
            "sweep": (360, 340, 300, 106),
            **_sampling(740, 0, 706),
            "grid": (1480, 0, 460, 78),
            "picture": (1480, 150, 460, 556),
        },
        {**_SAMPLING_TITLES, "picture": "Labelled pictures"},
        {"Model, concept and biases": (-20, -80, 700, 826), **_sampling_groups(740, 0, 706)},
    ),
    Template(
        "Compare steps",
        prompts.compare_prompt(save_as="bruno_best"),
        COMPARE_NOTE,
        {
            NOTE: (-820, -50, 420, 560),
            "pictures": (-360, 0, 300, 146),
            "demo": (-360, 640, 300, 66),
            "train": (0, 0, 340, 850),
            "report": (-820, 640, 420, 400),
            "kept": (400, 0, 300, 106),
            "gate": (400, 400, 300, 220),
            "save": (400, 720, 300, 80),
            **_sampling(780, 0, 706),
            "grid": (1520, 0, 460, 78),
            "picture": (1520, 150, 460, 556),
        },
        {
            **_SAMPLING_TITLES,
            "picture": "Labelled pictures",
            "report": "Report",
            "save": "Save Perfusion Concept (muted)",
        },
        {"Training and its kept steps": (-380, -80, 1100, 950), **_sampling_groups(780, 0, 706)},
        ("save",),
    ),
    Template(
        "Edit a picture",
        prompts.edit_prompt(),
        EDIT_NOTE,
        {
            NOTE: (-440, -50, 380, 480),
            "concept0": (0, 0, 300, LOADER),
            "demo": (0, 640, 300, 66),
            "gate": (360, 0, 300, 220),
            "described": (740, 0, 340, 500),
            "latent": (740, 600, 340, 106),
            "edit": (1140, 0, 340, 440),
            "negative": (1140, 600, 340, 88),
            "sampler": (1540, 0, 300, 262),
            "mask": (1540, 360, 300, 46),
            "mask picture": (1540, 470, 300, 46),
            "decode": (1540, 660, 300, 46),
            "picture": (1880, 0, 460, 380),
            "masks": (1880, 450, 460, 256),
        },
        {**_SAMPLING_TITLES, "masks": "Where the edits may change the picture"},
        {
            "Model and concept": (-20, -80, 700, 826),
            "Source and edits": (720, -80, 780, 826),
            "Pictures (stock sampler and VAE)": (1520, -80, 840, 826),
        },
    ),
)
