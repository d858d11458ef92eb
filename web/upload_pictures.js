// Gives Load Concept Pictures a button by which pictures are uploaded, and takes pictures that are dropped on the node.
// The host's own upload button takes one picture a node.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "PerfusionLoadPictures";
const LABEL = "choose pictures to upload";
const ACCEPTED = "image/*,.txt"; // captions lie beside their pictures

app.registerExtension({
    name: "perfusion.UploadPictures",
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        // Appended, and not stored: the values in saved workflows keep their places.
        const button = node.addWidget("button", "upload", null, () => choose(node, button), { serialize: false });
        button.label = LABEL;
        button.serialize = false;
        node.onDragOver = event => Boolean(event.dataTransfer?.types?.includes("Files"));
        node.onDragDrop = event => {
            const files = [...(event.dataTransfer?.files ?? [])].filter(isWanted);
            if (files.length) upload(node, button, files);
            return files.length > 0;
        };
    },
});

const isWanted = file => file.type.startsWith("image/") || file.name.toLowerCase().endsWith(".txt");

function choose(node, button) {
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, accept: ACCEPTED });
    input.onchange = () => upload(node, button, [...input.files]);
    input.click();
}

// Each set of pictures gets a folder of its own below the input folder, which is then chosen.
async function upload(node, button, files) {
    const folder = newFolder();
    try {
        for (const [number, file] of files.entries()) {
            show(node, button, `uploading ${number + 1} of ${files.length}`);
            await send(file, folder);
        }
        await app.refreshComboInNodes();
        const widget = node.widgets.find(one => one.name === "folder");
        if (Array.isArray(widget.options?.values) && !widget.options.values.includes(folder))
            widget.options.values.push(folder);
        widget.value = folder;
        widget.callback?.(folder);
    } catch (problem) {
        app.extensionManager.toast.add({ severity: "error", summary: "Upload", detail: String(problem.message) });
    } finally {
        show(node, button, LABEL);
    }
}

async function send(file, folder) {
    const body = new FormData();
    body.append("image", file);
    body.append("subfolder", folder);
    const answer = await api.fetchApi("/upload/image", { method: "POST", body });
    if (answer.status !== 200) throw new Error(`${file.name} was not uploaded: ${answer.status} ${answer.statusText}`);
}

// Such as "pictures 2026-01-31 18.05.09", the local time.
function newFolder() {
    const now = new Date();
    const two = number => String(number).padStart(2, "0");
    const day = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map(two).join("-");
    return `pictures ${day} ${[now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join(".")}`;
}

function show(node, button, text) {
    button.label = text;
    node.setDirtyCanvas(true, true);
}
