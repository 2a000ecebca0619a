"""Many threads that meet a type for the first time at once: every one gets its value, and the process lives."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import lamina
from lamina.model import decoding

ROOT = Path(lamina.__file__).parent

AT_ONCE = """
import contextlib, sys, threading
import msgspec
from lamina.api.compute import server_requests
from lamina.api.placement import bodies
from lamina.model import decoding
from lamina.model.hosts import HostReport
from lamina.model.servers import Server

sys.setswitchinterval(1e-6)
structs = [t for m in (bodies, server_requests) for t in vars(m).values() if isinstance(t, type) and issubclass(t, msgspec.Struct)]
assert len(structs) > 5
line = threading.Barrier(8)
taken = []

def decode():
    line.wait()
    for kind in (*structs, HostReport, Server):
        for take in (lambda: decoding.from_json(b'{"a": 1}', kind), lambda: decoding.from_plain({"a": 1}, kind)):
            with contextlib.suppress(msgspec.ValidationError):
                take()
            taken.append(kind)

threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(taken) == 8 * 2 * (len(structs) + 2)
"""


def test_a_type_is_met_by_many_threads_at_once() -> None:
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"


@pytest.mark.weakness(362)
def test_a_type_is_worked_out_once_by_who_holds_the_lock_and_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, bool]] = []
    monkeypatch.setattr(msgspec.json, "Decoder", lambda type: seen.append((type, decoding._lock.locked())))
    kinds = [msgspec.defstruct(f"Fresh{number}", [("a", int)]) for number in range(2)]
    for _ in range(2):
        assert decoding.from_json(b'{"a": 1}', kinds[0]) == kinds[0](a=1)
        assert decoding.from_plain({"a": 1}, kinds[1]) == kinds[1](a=1)
    assert seen == [(kinds[0], True), (kinds[1], True)]


def test_nothing_is_decoded_past_the_lock() -> None:
    past = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            typed = isinstance(node, ast.Call) and (len(node.args) > 1 or node.keywords)
            if called in ("msgspec.json.decode", "msgspec.convert", "msgspec.json.Decoder", "msgspec.msgpack.decode") and typed:
                past.append(f"{path.relative_to(ROOT)}: {called}")
    assert past == ["model/decoding.py: msgspec.json.decode", "model/decoding.py: msgspec.convert"]
