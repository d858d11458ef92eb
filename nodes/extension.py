"""The extension that ComfyUI asks for: all nodes, in the order of the README.

To add a node, write one file beside this one (`label_grid` is a short example) and add its class to the list here.
What touches `comfy.*` goes into a wing of `host`, what needs no ComfyUI into `perfusion_core`.  The node also needs a
line in the docstring of this package, a help page in `web/docs`, a template that uses it and its name in the README:
`tests/host/test_nodes.py` says what is missing, `tests/host/test_node_schemas.py` how its schema is recorded,
`dev_tools/locales.py` how its texts get to those who read other languages.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_concepts import ConceptGate
from .blend_concepts import BlendConcepts
from .concept_info import ConceptInfo
from .demo import DemoModel, DemoPictures
from .describe_edit import DescribeEdit
from .edit_mask import EditMask
from .edit_prompt import EditPrompt
from .host.concept_folders import register_concept_folders
from .host.debug_log import tell_versions
from .host.gate.wiring import tell_of_queued_prompts
from .host.node_text import say
from .inspect_gate import InspectGate
from .label_grid import LabelGrid
from .load_concept import LoadConcept
from .load_kept_steps import KeptSteps
from .load_pictures import LoadPictures
from .measure_statistics import TextStatisticsNode
from .record_attention import RecordAttention
from .save_concept import SaveConcept
from .show_attention import ShowAttention
from .sweep_bias import GateSweep
from .train_concept import TrainConcept


class PerfusionExtension(ComfyExtension):
    """See the module."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes; called once when the host loads the pack."""
        register_concept_folders()
        tell_versions()
        tell_of_queued_prompts(say)
        return [
            LoadConcept, ConceptGate, GateSweep, LabelGrid, LoadPictures, TrainConcept, KeptSteps, SaveConcept,
            BlendConcepts, TextStatisticsNode, EditPrompt, DescribeEdit, EditMask, ConceptInfo, InspectGate,
            RecordAttention, ShowAttention, DemoModel, DemoPictures,
        ]  # fmt: skip
