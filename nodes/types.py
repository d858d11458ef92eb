"""The pack's own socket types."""

from comfy_api.latest import io

PerfusionConcept = io.Custom("PERFUSION_CONCEPT")  # a ConceptStack: a tuple of GatedConcept
PerfusionStatistics = io.Custom("PERFUSION_STATISTICS")  # a TextStatistics
PerfusionMaps = io.Custom("PERFUSION_ATTENTION_MAPS")  # a RecordedAttention
PerfusionSweep = io.Custom("PERFUSION_SWEEP")  # a Sweep
PerfusionEdit = io.Custom("PERFUSION_EDIT")  # a PromptEdit

CATEGORY = "perfusion"

# Words for the method and for what it is wanted for. They belong to the trainer, the loader and the gate, which whoever
# looks for them needs first; other nodes have words for their own job alone.
ALIASES = [
    *("perfusion", "key-locked", "rank-one", "personalization", "personalize", "concept", "subject", "identity"),
    *("character", "embedding", "train face"),
]
