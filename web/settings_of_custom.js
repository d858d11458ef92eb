// Shows those settings of Train Perfusion Concept that only the preset Custom takes, only where it is chosen.

import { app } from "../../scripts/app.js";

const NODE = "PerfusionTrainConcept";
const CUSTOM = "Custom";
const SETTINGS = [
    "steps", "batch_size", "accumulation", "value_learning_rate", "word_learning_rate", "form", "training_bias",
    "training_temperature", "relative_value_rate", "relative_word_rate", "difference_decay", "difference_cap",
    "attention_weight", "relative_offset_rate",
];

app.registerExtension({
    name: "perfusion.SettingsOfCustom",
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const preset = node.widgets.find(widget => widget.name === "preset");
        after(preset, "callback", () => show(node, preset, true));
        after(node, "onConnectionsChange", () => show(node, preset, true));
        after(node, "onConfigure", () => show(node, preset, false)); // a saved node keeps its size
        show(node, preset, true);
    },
});

function after(object, name, action) {
    const before = object[name];
    object[name] = function (...given) {
        const result = before?.apply(this, given);
        action();
        return result;
    };
}

// What a wire brings is not known here: then all is shown.
function show(node, preset, resize) {
    const wired = name => node.inputs?.find(input => input.widget?.name === name)?.link != null;
    const all = preset.value === CUSTOM || wired("preset");
    const before = node.computeSize()[1];
    for (const widget of node.widgets.filter(one => SETTINGS.includes(one.name))) {
        const hidden = !all && !wired(widget.name);
        // The canvas reads the widget. The newer way of drawing nodes watches a state of its own; where there is none,
        // in old front ends, it would not show again what was hidden. None of them asks for "advanced" then.
        const seen = { hidden, advanced: false };
        const watched = widget._state ? [widget.options, widget._state.options] : [];
        for (const place of [widget, ...watched]) if (place) Object.assign(place, seen);
    }
    node.widgets = [...node.widgets]; // the newer way looks at the options again when the list changes
    if (resize) node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]);
    node.setDirtyCanvas(true, true);
}
