"""Makes the parts importable that are of use without a host, each without the rest of the pack."""

from __future__ import annotations

from by_location import load_package

load_package("perfusion_core", "perfusion_core")
load_package("dev_tools", "dev_tools")
load_package("quality", "benchmarks/quality")
