"""Concepts in a model that torch.compile has compiled, as TorchCompileModel does it: the same picture, compiled once.

The backend runs the captured graphs as they are: what is tested is what is captured, and how often.
"""

import psutil
import pytest
import torch
from coexistence import EFFECT, make_scene, record_pair
from comfy_api.torch_helpers import set_torch_compile_wrapper
from perfusion_pack.nodes.host.gate.patch import apply_concepts
from tiny_models import ONE_LAYER, difference, sample
from torch._dynamo.utils import counters


@pytest.fixture(scope="module")
def scene():
    return make_scene(**ONE_LAYER)  # compiling takes its time even for the smallest model


@pytest.fixture(scope="module", autouse=True)
def free_memory_that_stays():
    """On a CPU the host's attention asks in every call how much memory the machine has left.

    torch.compile takes the answer for a constant at first, and compiles once more when it has changed: a graph that
    depends on what else the machine does, and not on the concepts.
    """
    now = psutil.virtual_memory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", torch._dynamo.disable(lambda: now))
        yield


@pytest.fixture(autouse=True)
def nothing_compiled_yet():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(model):
    clone = model.clone()
    set_torch_compile_wrapper(model=clone, backend="eager")
    return clone


def drawn_with_graphs(model, scene):
    """Return the latents and how many graphs had been compiled after each step."""
    graphs = []

    def count(*_):
        graphs.append(counters["stats"]["unique_graphs"])

    return sample(model, scene.positive, scene.negative, callback=count), graphs


@pytest.fixture(scope="module")
def graphs_of_the_base(scene):
    torch._dynamo.reset()
    counters.clear()
    result, graphs = drawn_with_graphs(compiled(scene.model), scene)
    assert difference(result, scene.without_partner(None)) == 0.0
    return graphs


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("concepts_first", [True, False])
def test_torch_compile(scene, graphs_of_the_base, concepts_first, lock, record_property):
    def both(stack):
        if concepts_first:
            return compiled(apply_concepts(scene.model, stack, lock))
        return apply_concepts(compiled(scene.model), stack, lock)

    model = both(scene.stack)
    result, graphs = drawn_with_graphs(model, scene)
    again, later_graphs = drawn_with_graphs(model, scene)
    base, concepts = scene.without_partner(None), scene.without_partner(lock)
    numbers = {
        "reference": difference(result, concepts),
        "concept's effect": difference(result, base) / base.abs().max().item(),
        "graphs": graphs[-1],
        "graphs of the base": graphs_of_the_base[-1],
    }
    name = f"TorchCompileModel, concepts {'first' if concepts_first else 'last'}"
    record_pair(record_property, f"{name}, global lock" if lock == "global" else name, **numbers)
    assert numbers["reference"] == difference(again, result) == 0.0
    assert numbers["concept's effect"] > EFFECT
    assert graphs == graphs_of_the_base, "the concepts add no graph"
    assert set(later_graphs) == {graphs[-1]}, "and none is compiled again in a later run"
    if concepts_first:  # compiling takes long; the order makes no difference to a window that never opens
        assert difference(drawn_with_graphs(both(scene.closed()), scene)[0], base) == 0.0
