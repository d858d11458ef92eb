"""The methods behind one protocol; `METHODS` names them."""

from __future__ import annotations

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
        Perfusion("global"),
        TextualInversion(),
        HostLora(),
        CustomDiffusion(),
        FineTuning(),
        *(AlteredPerfusion(name) for name in AlteredPerfusion.ALTERATIONS),
    )
}
