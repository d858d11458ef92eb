"""What a running server sends to a page in the browser while it trains: text, bar and previews, as they travel."""

from __future__ import annotations

import asyncio
import html
import io
import json
import re
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from perfusion_pack.demo.making import prompts
from perfusion_pack.demo.making.queue_client import QueueClient
from PIL import Image

pytestmark = pytest.mark.slow

# Numbers of the host's protocol.py that its front end knows by heart too.
TEXT, PREVIEW_WITH_METADATA = 3, 4
SHORT = {"preset": "Custom", "steps": 3, "batch_size": 2, "samples": 0}
FOLLOWS = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@dataclass
class Heard:
    """All that came while a prompt ran.

    texts: (node id, line of text under it).  previews: (node id, picture).  bars: (node id, value, maximum).
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    previews: list[tuple[str, np.ndarray]] = field(default_factory=list)
    bars: list[tuple[str, int, int]] = field(default_factory=list)

    def note(self, data: str | bytes) -> None:
        if isinstance(data, str):
            event = json.loads(data)
            if event["type"] == "progress":
                self.bars.append(tuple(event["data"][name] for name in ("node", "value", "max")))
            return
        kind, length = struct.unpack(">II", data[:8])
        head, rest = data[8 : 8 + length].decode(), data[8 + length :]
        if kind == TEXT:
            self.texts.append((head, rest.decode()))
        elif kind == PREVIEW_WITH_METADATA:
            self.previews.append((json.loads(head)["node_id"], np.asarray(Image.open(io.BytesIO(rest)))))


class Listening:
    """A web socket that notes every message which it hands on."""

    def __init__(self, socket: Any, heard: Heard) -> None:
        self._socket, self._heard = socket, heard

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for message in self._socket:
            self._heard.note(message.data)
            yield message

    async def close(self) -> None:
        await self._socket.close()


def follow(server: Any, prompt: prompts.Prompt) -> Heard:
    """Run the prompt, and return what a page heard meanwhile that shows previews in their nodes, as the host's does."""
    heard = Heard()

    async def queued() -> None:
        async with QueueClient(server.url) as client:
            await client._socket.send_str(json.dumps(FOLLOWS))
            client._socket = Listening(client._socket, heard)
            await client.run(prompt, "test")

    asyncio.run(queued())
    return heard


def test_text_bar_and_previews_of_a_training(running_host):
    heard = follow(running_host, prompts.train_prompt("finny", file_name="watched", **SHORT, preview_every=1))

    texts = [text for node, text in heard.texts if node == "train"]
    assert texts[0] == "3 steps of 2 · &lt;finny&gt;, a fish ·\n5 pictures at 128 x 128"
    assert texts[1].startswith("3 steps of 2 · ") and "at once" in texts[1], texts[1]  # how many, once memory is known
    assert texts[-2:] == ["drawing the report", texts[-1]]
    assert re.fullmatch(r"watched\.safetensors: step \d of 3,\seffect\s.*%", texts[-1], re.DOTALL)
    assert all(len(html.unescape(line)) <= 40 for text in texts for line in text.split("\n"))
    lines = [text.replace(" ·\n", " · ") for text in texts[2:-2]]
    assert [line.split(" · ")[0] for line in lines] == [f"step {step} of 3" for step in (1, 2, 3)]
    number = r"\d+\.\d+"
    for line in lines:
        for part in (rf"loss {number}", rf"gate {number}", rf"memory {number} of {number} GB"):
            assert re.search(rf" · {part}", line), (part, line)
    assert all(re.match(r"step \d of 3 · \d+ s left · ", line) for line in lines[:-1])
    assert lines[-1].startswith("step 3 of 3 · choosing the best step · ")

    bars = [(value, most) for node, value, most in heard.bars if node == "train"]
    assert bars == sorted(bars) and bars[-1] == (3, 3) and {value for value, _ in bars} >= {1, 2}

    pictures = [picture for node, picture in heard.previews if node == "train"]
    # The pictures of the training, then under their masks, two previews, and the report.
    shapes = [picture.shape for picture in pictures]
    assert shapes[:-1] == [(320, 640, 3)] * (len(shapes) - 3) + [(128, 256, 3)] * 2
    assert shapes[-1][0] > 400 and shapes[-1][1] > 600
    assert all(picture.std() > 1 for picture in pictures)


def test_statistics_that_the_trainer_measures_show_how_far_they_are(running_host):
    for kept in (running_host.base_directory / "user").rglob("text_statistics_*"):
        kept.unlink()
    prompt = prompts.train_prompt("finny", file_name="measured", **{**SHORT, "steps": 2})
    del prompt["statistics"], prompt["train"]["inputs"]["statistics"]
    heard = follow(running_host, prompt)

    texts = [text.replace("\n", " ") for _, text in heard.texts]
    measuring = [re.fullmatch(r"Measuring text statistics: (\d+) of (\d+) captions", text) for text in texts]
    done = [int(match[1]) for match in measuring if match]
    captions = next(int(match[2]) for match in measuring if match)
    assert done == sorted(done) and len(done) > 10 and done[-1] == captions
    bars = [(value, most) for node, value, most in heard.bars if node == "train"]
    assert (captions, captions) in bars and len([most for _, most in bars if most == captions]) > 2
    assert bars[-1] == (2, 2) and texts[-1].startswith("measured.safetensors: step ")
    assert {node for node, _ in heard.texts} == {"train"}


def test_the_gate_tells_of_a_run_and_of_a_sampler_that_goes_round_it(running_host):
    """Also where the host has kept the results of every node but the sampler, so that no code of the pack runs."""
    prompt = prompts.first_picture_prompt("a <hugsy> in a pink room", batch=1)
    heard = follow(running_host, prompt)
    (line,) = [text for node, text in heard.texts if node == "gate"]
    assert re.fullmatch(r"&lt;hugsy&gt;: gate \d\.\d\d \(similarity \d\.\d\d\)", line)

    prompt["sampler"]["inputs"]["model"] = ["demo", 0]
    heard = follow(running_host, prompt)
    (line,) = [text for node, text in heard.texts if node == "gate"]
    assert " ".join(line.split()) == "KSampler samples the MODEL from before this node; connect this node's model to it"
    prompt["negative"]["inputs"]["clip"] = prompt["positive"]["inputs"]["clip"] = ["demo", 1]
    assert not [text for node, text in follow(running_host, prompt).texts if node == "gate"]
