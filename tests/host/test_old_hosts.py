"""What stands in for what old hosts lack: the same prompts, the same results; also tried on hosts that lack nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from comfy_api.latest import io
from perfusion_pack.nodes.apply_concepts import ConceptGate
from perfusion_pack.nodes.host import old_hosts
from perfusion_pack.nodes.host.old_hosts import GrowingInput, choice
from perfusion_pack.nodes.types import PerfusionConcept

GROWN = GrowingInput("things", "thing", most=12)
TEMPLATE = PerfusionConcept.Input("thing", tooltip="A thing.")


@pytest.fixture
def old_host(monkeypatch):
    """The module on a host without inputs that grow."""
    monkeypatch.setattr(old_hosts, "io", SimpleNamespace(Combo=io.Combo))


def test_sockets_of_an_old_host_have_the_names_that_new_ones_put_into_prompts(old_host):
    inputs = GROWN.inputs(TEMPLATE, tooltip="Things.")
    assert [one.id for one in inputs] == ["things.thing0", "things.thing1", "things.thing2", "things.thing3"]
    assert [one.display_name for one in inputs] == ["thing0", "thing1", "thing2", "thing3"]
    assert all(one.optional for one in inputs), "the node before any of them may be muted or bypassed"
    assert all(one.tooltip == "A thing." and one.io_type == "PERFUSION_CONCEPT" for one in inputs)
    assert TEMPLATE.id == "thing" and not TEMPLATE.optional


def test_execute_gets_the_same_dict_in_the_order_of_the_numbers(old_host):
    """Also beyond those that are shown, and with gaps."""

    @GROWN.gathered
    def execute(cls, model, things, lock="local"):
        """Named as the node's."""
        return cls, model, things, lock

    inputs = {"things.thing10": "k", "lock": "global", "things.thing2": "c", "things.thing0": "a"}
    cls, model, things, lock = execute("node", "model", **inputs)
    assert list(things.items()) == [("thing0", "a"), ("thing2", "c"), ("thing10", "k")]
    assert (cls, model, lock) == ("node", "model", "global") and execute.__doc__ == "Named as the node's."
    for given in (("model", {"thing0": "a"}), ("model",)):
        named = {} if len(given) == 2 else {"things": {"thing0": "a"}}
        assert execute("node", *given, **named) == ("node", "model", {"thing0": "a"}, "local")
    assert execute("node", "model") == ("node", "model", {}, "local")  # none is connected
    with pytest.raises(TypeError, match="thing12"):  # one more than the most
        execute("node", "model", **{"things.thing0": "a", "things.thing12": "m"})


def test_a_host_with_growing_inputs_makes_the_dict_itself():
    if not hasattr(io, "Autogrow"):
        assert len([one for one in ConceptGate.define_schema().inputs if one.id.startswith("concepts.")]) == 4
        return
    (grown,) = (one for one in ConceptGate.define_schema().inputs if one.id == "concepts")
    assert [one.id for one in grown.template.get_all()] == [f"concept{number}" for number in range(32)]

    def execute(cls, things): ...

    assert GROWN.gathered(execute) is execute


def test_a_choice_is_a_list_where_the_host_checks_lists_alone(old_host):
    one = choice("lock", options=["local", "global"], default="local", tooltip="A lock.")
    assert one.get_io_type() == ["local", "global"]
    assert isinstance(one, io.Combo.Input) and one.default == "local" and one.tooltip == "A lock."


def test_marks_are_dropped_where_the_schema_does_not_know_them():
    def knows(number, advanced=None): ...

    def does_not(number): ...

    assert old_hosts._takes(knows, "advanced") and not old_hosts._takes(does_not, "advanced")
    assert io.Float.Input("bias", **old_hosts.ADVANCED).id == "bias"
    assert io.Schema(node_id="A", display_name="A", category="a", **old_hosts.search_aliases("b")).node_id == "A"
