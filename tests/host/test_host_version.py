"""The host of these tests is one that the pack accepts."""

import importlib.util

import pytest
from perfusion_pack.nodes.host import host_version
from perfusion_pack.perfusion_core.errors import PerfusionError


def test_this_host_is_new_enough():
    assert host_version.is_supported(host_version.host_version())
    host_version.require_supported_host()


def test_this_host_without_its_node_schema_is_not(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "comfy_api.latest" else find(name))
    with pytest.raises(PerfusionError, match=r"needs ComfyUI 0[.\d]+ or newer.*V3 node schema.*update ComfyUI"):
        host_version.require_supported_host()
