"""The pack's own socket types."""

from comfy_api.latest import io

PerfusionConcept = io.Custom("PERFUSION_CONCEPT")  # a ConceptStack: a tuple of GatedConcept
PerfusionStatistics = io.Custom("PERFUSION_STATISTICS")  # a TextStatistics

CATEGORY = "perfusion"
ALIASES = ["perfusion", "key-locked", "rank-one", "personalization", "concept", "subject"]
