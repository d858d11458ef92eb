"""dev.py's private server: always stopped, nothing left behind, and a failure is a sentence with the log's end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev_tools import processes, server
from dev_tools.errors import DevError
from dev_tools.interpreters import Interpreter

THIS_PYTHON = Interpreter(Path(sys.executable), "cpu", False)

# Answers every GET as a ComfyUI would answer /system_stats.
ANSWERING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{}')
    def log_message(self, *words): pass
print("starting", *sys.argv[1:], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def make_host(tmp_path: Path, main: str) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "main.py").write_text(main)
    return folder


def make_pack(tmp_path: Path) -> Path:
    folder = tmp_path / "pack"
    (folder / "workflows").mkdir(parents=True)
    (folder / "inner.py").write_text("VALUE = 7\n")
    (folder / "__init__.py").write_text("from .inner import VALUE\n")
    return folder


def test_server_is_stopped_and_the_pack_unmounted(tmp_path):
    host, pack = make_host(tmp_path, ANSWERING), make_pack(tmp_path)
    with server.running(host, THIS_PYTHON, tmp_path / "base", repository=pack) as running:
        mounted = tmp_path / "base" / "custom_nodes" / server.PACK_FOLDER
        assert (mounted / "__init__.py").is_file()
        assert running.get("/system_stats") == {}
    assert running.process.poll() is not None
    assert not mounted.exists()
    assert (pack / "inner.py").is_file(), "unmounting must not follow the link"
    line = running.log.read_text()
    assert "--cpu" in line and "--disable-api-nodes" in line and "--listen 127.0.0.1" in line
    assert list(host.iterdir()) == [host / "main.py"]


def test_server_is_stopped_after_an_error(tmp_path):
    host, pack = make_host(tmp_path, ANSWERING), make_pack(tmp_path)
    with pytest.raises(RuntimeError), server.running(host, THIS_PYTHON, tmp_path / "base", repository=pack) as running:
        raise RuntimeError
    assert running.process.poll() is not None


def test_a_server_that_dies_is_quoted(tmp_path):
    host = make_host(tmp_path, "print('the reason'); raise SystemExit(3)")
    with pytest.raises(DevError, match=r"exit code 3\).*server.log and says:\n +the reason"):
        with server.running(host, THIS_PYTHON, tmp_path / "base", repository=make_pack(tmp_path)):
            pass


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 1)
    host = make_host(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(DevError, match="did not answer within 1 s"):
        with server.running(host, THIS_PYTHON, tmp_path / "base", repository=make_pack(tmp_path)):
            pass


def test_a_pack_that_cannot_be_loaded_is_an_error(tmp_path):
    base = tmp_path / "base"
    words = f"Cannot import {base / 'custom_nodes' / server.PACK_FOLDER} module for custom nodes: no such thing"
    host = make_host(tmp_path, f"print({words!r}, flush=True)\n" + ANSWERING)
    with pytest.raises(DevError, match="could not load this pack.*\n.*no such thing"):
        with server.running(host, THIS_PYTHON, base, repository=make_pack(tmp_path)):
            pass


def test_a_taken_port_is_an_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(DevError, match=f"Port {taken} on 127.0.0.1 cannot be used"):
            server.choose_port(taken)
        assert server.choose_port(None) != taken
    with pytest.raises(DevError, match="from 1 to 65535"):
        server.choose_port(70000)


def test_mounting_where_links_may_not_be_made(tmp_path, monkeypatch):
    """The redirecting folder loads the pack with its relative imports, and can be mounted and taken away repeatedly."""

    def forbidden(*arguments, **options):
        raise OSError("a required privilege is not held")

    pack = make_pack(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", forbidden)
    monkeypatch.setattr(server.subprocess, "run", lambda *arguments, **options: subprocess.CompletedProcess((), 1))
    for _ in range(2):
        place = server.mount(tmp_path / "custom_nodes", pack)
    assert not place.is_symlink()
    load = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('a_x_b', sys.argv[1] + '/__init__.py')\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['a_x_b'] = module\n"
        "spec.loader.exec_module(module)\n"
        "assert module.VALUE == 7\n"
    )
    subprocess.check_call([sys.executable, "-c", load, str(place)])
    server.unmount(place)
    assert not place.exists()


def test_unmount_leaves_a_folder_alone_that_it_did_not_make(tmp_path):
    place = tmp_path / server.PACK_FOLDER
    place.mkdir()
    (place / "__init__.py").write_text("# somebody's own\n")
    with pytest.raises(DevError, match="not a link that dev.py made"):
        server.unmount(place)
    assert (place / "__init__.py").is_file()


@pytest.mark.skipif(os.name == "nt", reason="groups of processes are ended by taskkill there")
def test_stopping_ends_children_too(tmp_path):
    note = tmp_path / "child"
    child = "import subprocess, sys, time\n"
    child += "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    child += f"open({str(note)!r}, 'w').write(str(grandchild.pid)); time.sleep(60)"
    assert processes.run_bounded([sys.executable, "-c", child], 3, cwd=tmp_path) is None
    pid = int(note.read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _is_alive(pid):
        time.sleep(0.05)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        # A zombie has no command line; whoever adopted it will collect it.
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes()) if Path("/proc").is_dir() else os.kill(pid, 0) is None
    except (OSError, ProcessLookupError):
        return False
