"""A private ComfyUI server with this pack, and its real front end in Chromium."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from by_location import load_package

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

# The stock KSampler is registered together with every other node that the server knows. The workflow that the front end
# opens at the start comes last, and would replace one that is loaded earlier.
READY = """() => window.LiteGraph?.registered_node_types?.KSampler
    && window.app?.extensionManager?.workflow?.activeWorkflow?.isLoaded"""


load_package("dev_tools", "dev_tools")
from dev_tools import host as hosts  # noqa: E402
from dev_tools import interpreters, server  # noqa: E402


def chromium_executable() -> str | None:
    """PERFUSION_CHROMIUM, or the system's Chromium or a relative of it."""
    return os.environ.get("PERFUSION_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="session")
def started(tmp_path_factory) -> Iterator[tuple[server.Server, float]]:
    """A running server whose `custom_nodes` holds what the registry's archive unpacks to and nothing else, and the
    seconds until it answered; the session is skipped where there is no ComfyUI."""
    from shipped_archive import copy_shipped

    host = hosts.find()
    if host is None:
        pytest.skip("no ComfyUI was found: set COMFYUI_PATH")
    interpreter = interpreters.for_host(host)
    pack = copy_shipped(tmp_path_factory.mktemp("unpacked") / "perfusion")
    start = time.monotonic()
    with server.running(host, interpreter, tmp_path_factory.mktemp("comfyui"), repository=pack) as running:
        seconds = time.monotonic() - start
        # The tutorial's template browser would otherwise cover the page of a new user.
        running.post("/settings", {"Comfy.TutorialCompleted": True})
        yield running, seconds


@pytest.fixture(scope="session")
def comfyui(started) -> server.Server:
    """The running server."""
    return started[0]


@pytest.fixture(scope="session")
def browser():
    """Chromium with a new, empty profile; the session is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = chromium_executable()
    with playwright.sync_playwright() as runner:
        if executable is None and not Path(runner.chromium.executable_path).exists():
            pytest.skip(
                "no Chromium or Chrome was found: install one (on Debian and Ubuntu: apt install chromium), or name "
                "one with PERFUSION_CHROMIUM"
            )
        chromium = runner.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_front_end(comfyui, browser) -> Callable[..., AbstractContextManager[Any]]:
    """A function for a page with the front end, loaded and ready, in the language of the person at the browser."""

    @contextmanager
    def opened(language: str = "en-US") -> Iterator[Any]:
        context = browser.new_context(viewport={"width": 1400, "height": 900}, locale=language)
        page = context.new_page()
        page.goto(comfyui.url, timeout=120_000)
        page.wait_for_function(READY, timeout=120_000)
        yield page
        context.close()

    return opened


@pytest.fixture(scope="module")
def page(open_front_end) -> Iterator[object]:
    """One page for the tests of a file, since loading it is most of their time; what it has been through by then gets
    in the way of others."""
    with open_front_end() as page:
        yield page


@pytest.fixture
def front_end(page) -> Iterator[object]:
    """The page. Errors that it reports during a test fail that test."""
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    page.on("pageerror", note)
    yield page
    page.remove_listener("pageerror", note)
    assert not errors, f"the page reported {errors}"
