"""What does a folder of ten photos take in a running ComfyUI, from the files to a training of two steps?

    python benchmarks/photos_through_the_server.py [--models demo sd15 sdxl]

Draws the photos of benchmarks/preparing_photos.py, writes checkpoints of SD1.5's and SDXL's layout with random weights
(text encoders in full; a UNet of the true depth and encoding width, all levels as wide as the first; the small
autoencoder TAESD), starts a server, and queues *Load Checkpoint*, *Load Concept Pictures* and *Train Perfusion
Concept*.
Printed are for each act the seconds that its processor worked, on however busy a machine, and by how much the highest
memory of the server lay above that before the act.
The text statistics are measured on 100 captions: random encoders have nothing to tell that would take longer.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import torch
from open_pack import open_pack

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHITECTURE = {"sd15": "SD1.x", "sdxl": "SDXL"}
TRAINING = {
    "word": "<disc>", "superclass": "ball", "preset": "Custom", "seed": 0, "samples": 0, "steps": 2, "batch_size": 1,
    "accumulation": 1, "flip": False, "validate_every": 0, "preview_every": 0, "automatic_mask": False,
}  # fmt: skip
READ, SHOWN, TRAINED = "photos read", "fitted, and shown in the node", "encoded, trained for two steps, saved"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=["demo", *ARCHITECTURE], default=["demo", *ARCHITECTURE])
    chosen = parser.parse_args().models
    open_pack()
    sys.path.insert(0, str(REPOSITORY / "tests" / "host"))
    dev_tools = _dev_tools()
    from photos import draw_photos

    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        draw_photos(base / "input" / "photos")
        for model in set(chosen) & set(ARCHITECTURE):
            write_checkpoint(ARCHITECTURE[model], base, f"{model}.safetensors")
        host = dev_tools.host.find()
        device = "cpu" if not torch.cuda.is_available() else "cuda"
        interpreter = dev_tools.interpreters.Interpreter(Path(sys.executable), device, False)
        dev_tools.server.START_SECONDS = 3600  # of a busy machine
        with dev_tools.server.running(host, interpreter, base) as server:
            print("| model | act | processor, s | highest memory, above that before |\n|---|---|---|---|", flush=True)
            for model in chosen:
                for act, (seconds, memory) in asyncio.run(measured(server, prompt_for(model))).items():
                    print(f"| {model} | {act} | {seconds:.1f} | {memory:.0f} MB |", flush=True)


def _dev_tools() -> Any:
    """The package by its path: the repository's root must not come before the host's modules."""
    spec = importlib.util.spec_from_file_location(
        "dev_tools",
        REPOSITORY / "dev_tools" / "__init__.py",
        submodule_search_locations=[str(REPOSITORY / "dev_tools")],
    )
    sys.modules["dev_tools"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    for name in ("host", "interpreters", "server"):
        setattr(package, name, importlib.import_module(f"dev_tools.{name}"))
    return package


def write_checkpoint(name: str, base: Path, file_name: str) -> None:
    """A file for Load Checkpoint."""
    from architectures import ARCHITECTURES, checkpoint, random_weights, text_checkpoint
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    architecture = ARCHITECTURES[name]
    weights = checkpoint(architecture) | text_checkpoint(architecture, {})
    autoencoder = TAESD()
    for part in ("taesd_encoder", "taesd_decoder"):
        weights |= random_weights(getattr(autoencoder, part), f"first_stage_model.{part}.")
    folder = base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / file_name)


def prompt_for(model: str) -> dict[str, Any]:
    """The folder and the trainer, which alone is a graph."""
    loader = {"class_type": "PerfusionDemoModel", "inputs": {}}
    if model in ARCHITECTURE:
        loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"{model}.safetensors"}}
    sockets = {"model": ["model", 0], "clip": ["model", 1], "vae": ["model", 2]}
    measured_on = {"clip": sockets["clip"], "captions_file": "", "caption_count": 100}
    lists = {"images": ["pictures", 0], "masks": ["pictures", 1], "captions": ["pictures", 2]}
    return {
        "model": loader,
        "statistics": {"class_type": "PerfusionTextStatistics", "inputs": measured_on},
        "pictures": {"class_type": "PerfusionLoadPictures", "inputs": {"folder": "photos", "names": ""}},
        "train": {
            "class_type": "PerfusionTrainConcept",
            "inputs": {**sockets, **lists, **TRAINING, "statistics": ["statistics", 0], "file_name": model},
        },
    }


async def measured(server: Any, prompt: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Seconds and MB of each act, in one run of the prompt."""
    watch, acts = Watch(server.process.pid), {}
    name = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws?clientId={name}", max_msg_size=0) as socket,
    ):
        async with session.post(f"{server.url}/prompt", json={"prompt": prompt, "client_id": name}) as answer:
            said = await answer.json()
            if "prompt_id" not in said:
                raise SystemExit(json.dumps(said))
        node = None
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                if node == "train" and SHOWN not in acts and message.data[:4] in (b"\0\0\0\1", b"\0\0\0\4"):
                    acts[SHOWN] = watch.lap()  # the first picture in the node
                continue
            event = json.loads(message.data)
            if event["type"] == "execution_error":
                raise SystemExit(event["data"]["exception_message"])
            if event["type"] == "executing":
                lap = watch.lap()
                if node in ("pictures", "train"):
                    acts[READ if node == "pictures" else TRAINED] = lap
                node = event["data"]["node"]
                if node is None:
                    return acts
    raise SystemExit("the server closed the connection")


class Watch:
    """Seconds of the processor and the highest memory of a process since the last lap, above its memory then, in MB."""

    def __init__(self, process: int) -> None:
        self._status, self._times = (Path(f"/proc/{process}/{name}") for name in ("status", "stat"))
        self._start()
        threading.Thread(target=self._follow, daemon=True).start()

    def lap(self) -> tuple[float, float]:
        found = self._worked() - self._began, max(self._highest, self._memory()) - self._before
        self._start()
        return found

    def _start(self) -> None:
        self._began, self._before = self._worked(), self._memory()
        self._highest = self._before

    def _follow(self) -> None:
        while self._status.exists():
            try:
                self._highest = max(self._highest, self._memory())
            except (OSError, StopIteration):
                return
            time.sleep(0.02)

    def _worked(self) -> float:
        user, system = self._times.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float:
        text = self._status.read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
