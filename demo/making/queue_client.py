"""Talks to a running ComfyUI as a page in the browser would: queues API prompts, follows them, fetches pictures.

aiohttp is what the host's own server is made of, so it is there wherever the host runs.
"""

from __future__ import annotations

import io
import json
import sys
import uuid
from types import TracebackType
from typing import Any

import aiohttp
from PIL import Image


class PromptError(RuntimeError):
    """The server refused a prompt or one of its nodes failed; the message says which and why."""


class QueueClient:
    """A connection to one server; use it in an `async with`."""

    def __init__(self, server: str) -> None:
        self._server = server.rstrip("/")
        self._name = uuid.uuid4().hex
        self._session: aiohttp.ClientSession
        self._socket: aiohttp.ClientWebSocketResponse

    async def __aenter__(self) -> QueueClient:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"{self._server}/ws?clientId={self._name}", max_msg_size=0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._session.close()

    async def run(self, prompt: dict[str, Any], label: str) -> dict[str, list[Image.Image]]:
        """Queue the prompt, show its progress under the label, and return each output node's pictures by node id."""
        body = {"prompt": prompt, "client_id": self._name}
        async with self._session.post(f"{self._server}/prompt", json=body) as answer:
            said = await answer.json()
        if "prompt_id" not in said:
            raise PromptError(f"The server refused the prompt {label!r}: {_reasons(said)}.")
        await self._follow(said["prompt_id"], label)
        async with self._session.get(f"{self._server}/history/{said['prompt_id']}") as answer:
            outputs = (await answer.json())[said["prompt_id"]]["outputs"]
        return {
            node: [await self._picture(file) for file in output.get("images", [])] for node, output in outputs.items()
        }

    async def _follow(self, prompt_id: str, label: str) -> None:
        async for message in self._socket:
            if message.type != aiohttp.WSMsgType.TEXT:
                continue  # previews
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") not in (None, prompt_id):
                continue
            if kind == "progress":
                _show(f"{label}: {data['value']}/{data['max']}")
            elif kind == "executing" and data["node"] is None:
                # Comes once the outputs are in the history; "execution_success" comes a moment too early for that.
                _show(f"{label}: done", end="\n")
                return
            elif kind == "execution_interrupted":
                raise PromptError(f"{label!r} was cancelled.")
            elif kind == "execution_error":
                raise PromptError(f"{label!r} failed in node {data['node_type']}: {data['exception_message'].strip()}")
        raise PromptError(f"The server closed the connection while it worked on {label!r}.")

    async def _picture(self, file: dict[str, str]) -> Image.Image:
        async with self._session.get(f"{self._server}/view", params=file) as answer:
            return Image.open(io.BytesIO(await answer.read())).convert("RGB")


def _reasons(said: dict[str, Any]) -> str:
    details = [
        f"{node['class_type']}: {error['message']} ({error['details']})"
        for node in said.get("node_errors", {}).values()
        for error in node["errors"]
    ]
    return "; ".join(details) or said.get("error", {}).get("message", json.dumps(said))


def _show(text: str, end: str = "") -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end=end, flush=True)
    elif end:
        print(text, flush=True)
