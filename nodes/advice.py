"""The numbers that users are told, each in one place.

Tooltips are built from them and from the defaults of the training; a test reads the templates, the help pages and the
README against both. What was measured for them stands in benchmarks/.
"""

from __future__ import annotations

from ..perfusion_core.concept import RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE
from ..perfusion_core.prompt_edit import LocalBlend, PromptEdit

BIAS, TEMPERATURE = RECOMMENDED_BIAS, RECOMMENDED_TEMPERATURE
LOWEST_BIAS, HIGHEST_BIAS = -1.0, 2.0  # that the nodes take
BIAS_OF_THE_FILE = -2.0  # the loader's default: what its file recommends; no number that a bias may be
TEMPERATURE_OF_THE_FILE = 0.0  # the same of the temperature, which is above 0

# Where likeness and where the prompt wins clearly; and where the gate opens for other words, and for none.
BIAS_FOR_LIKENESS, BIAS_FOR_PROMPT = 0.6, 1.0
BIAS_OPEN_TO_OTHERS, BIAS_SHUT = 0.4, 1.3
BIAS_OF_A_STYLE = BIAS_FOR_LIKENESS  # so that it also acts on what the other words paint
BIAS_NUDGE = 0.1  # between two concepts of which one takes over
# With the keys of the whole prompt locked a concept acts less, so its gate is opened further.
WHOLE_PROMPT_LOCK_BIAS = 0.45
SWEPT_BIASES = (0.5, 0.7, BIAS, 1.0, 1.2)

LOCK_OF_THE_FILE = -1.0  # for "as the file says"

LEAKING_TEMPERATURE = 0.3
BURNING_STRENGTH = 1.2
START_FOR_FREER_LAYOUT = 0.1

TRAINING_PICTURES = 5
DEMO_CFG, SD15_CFG, SDXL_CFG = 3.0, 7.0, 6.0
CFG_OF_FAMILY = {"perfusion_demo": DEMO_CFG, "sdxl": SDXL_CFG, "sdxl_refiner": SDXL_CFG}  # of others SD15_CFG
CFG_OF_THE_FAMILY = 0.0  # for "what suits the model's family"
PREVIEW_EVERY = 100
KEEP_EVERY = 50

# Of an edited prompt: the defaults are for a thing in the place of another.
EDIT, BLEND = PromptEdit(), LocalBlend()
SELF_END_FOR_COLOUR, THRESHOLD_FOR_ADDITION = 0.6, 0.7
SELF_END_FOR_ONE_KIND, REAL_END_FOR_A_CONCEPT = 0.8, 0.4  # of a concept in a picture that is there already
BLEND_END_AROUND, THRESHOLD_AROUND, SOFTNESS_AROUND = 0.8, 0.7, 0.3  # of another background behind a thing


def in_words(numbers: tuple[float, ...]) -> str:
    """Numbers as a list that an input takes: "0.5, 0.7, 1"."""
    return ", ".join(f"{number:g}" for number in numbers)
