"""Train Perfusion Concept shows the settings that only the preset Custom takes where it is chosen, and nowhere else."""

from __future__ import annotations

import pytest
from test_what_nodes_show import drawing  # noqa: F401

OF_CUSTOM = ["steps", "batch_size", "word_learning_rate", "form", "relative_word_rate"]
BUILD = """() => {
    app.graph.clear();
    window.trainer = LiteGraph.createNode('PerfusionTrainConcept');
    trainer.pos = [300, 100];
    app.graph.add(trainer);
    app.canvas.ds.reset();
    app.canvas.setDirty(true, true);
}"""
CHOOSE = """preset => {
    const widget = trainer.widgets.find(widget => widget.name === 'preset');
    widget.value = preset;
    widget.callback?.(preset);
}"""
# Names of widgets that are drawn: those that the canvas lays out, or elements of the page.
SHOWN = """() => app.extensionManager.setting.get('Comfy.VueNodes.Enabled')
    ? document.querySelector(`[data-node-id="${trainer.id}"]`)?.innerText.split('\\n').map(line => line.trim()) ?? []
    : trainer.widgets.filter(one => !one.hidden && (!one.advanced || trainer.showAdvanced)).map(one => one.name)
"""
ALL = f"names => {{ const shown = ({SHOWN})(); return names.every(name => shown.includes(name)); }}"
NONE = (
    f"names => {{ const shown = ({SHOWN})(); return shown.length > 9 && !names.some(name => shown.includes(name)); }}"
)
# In front ends before 1.37 Nodes 2.0 was on trial; there everything stays visible.
ON_TRIAL = """() => app.extensionManager.setting.get('Comfy.VueNodes.Enabled')
    && !('Comfy.RightSidePanel.IsOpen' in app.extensionManager.setting.settings)"""


@pytest.mark.parametrize("first", ["Standard", "Custom"])
def test_settings_come_and_go_with_the_preset(drawing, front_end, first):  # noqa: F811
    front_end.evaluate(BUILD)
    for preset in (first, "Custom", "Quick", "Custom", "Standard"):
        front_end.evaluate(CHOOSE, preset)
        if preset == "Custom":
            front_end.wait_for_function(ALL, arg=OF_CUSTOM, timeout=15_000)
        else:
            hidden = ALL if front_end.evaluate(ON_TRIAL) else NONE
            front_end.wait_for_function(hidden, arg=OF_CUSTOM, timeout=15_000)


def test_a_saved_node_keeps_its_values_and_their_places(drawing, front_end):  # noqa: F811
    front_end.evaluate(BUILD)
    front_end.evaluate(CHOOSE, "Custom")
    front_end.evaluate("() => { trainer.widgets.find(widget => widget.name === 'steps').value = 77; }")
    custom = front_end.evaluate("() => trainer.serialize().widgets_values")
    front_end.evaluate(CHOOSE, "Quick")
    quick = front_end.evaluate("() => trainer.serialize().widgets_values")
    assert len(quick) == len(custom) and 77 in quick
    front_end.evaluate("values => trainer.configure({...trainer.serialize(), widgets_values: values})", custom)
    assert front_end.evaluate("() => trainer.widgets.find(widget => widget.name === 'steps').value") == 77
    front_end.wait_for_function(ALL, arg=OF_CUSTOM, timeout=15_000)
