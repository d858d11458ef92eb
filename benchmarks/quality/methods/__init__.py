"""The methods behind one protocol; `METHODS` names them.

    protocol      what every method is to the experiments
    perfusion     Perfusion as the pack ships it
    ablations     Perfusion with one piece of the method exchanged
    words         the superclass word alone, and textual inversion
    weights       weights of the diffusion model: like Custom Diffusion, and all of them
    host_lora     the host's own LoRA
    gradient      one training loop for words and weights

A method is asked to train on a lesson and to apply what it has learned at one setting of its knob.
"""

from __future__ import annotations

from ..plan import LOCKS
from .ablations import AlteredPerfusion
from .host_lora import HostLora
from .perfusion import Perfusion
from .protocol import Method
from .weights import CustomDiffusion, FineTuning
from .words import SuperclassWord, TextualInversion

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        SuperclassWord(),
        Perfusion("local"),
        *(Perfusion("local", lock) for lock in LOCKS),
        Perfusion("global"),
        TextualInversion(),
        HostLora(),
        CustomDiffusion(),
        FineTuning(),
        *(AlteredPerfusion(name) for name in AlteredPerfusion.ALTERATIONS),
    )
}
