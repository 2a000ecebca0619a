"""Where the audit trail goes beside its table: whole lines in a file that only its owner reads, or syslog; neither holds anything up."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.cli import audit_sinks
from lamina.cli.audit_sinks import AppendedFile, Sink, Syslog, open_sink
from lamina.model.audit import cadf
from lamina.model.errors import BadRequest
from tests.unit.api.conftest import VirtualClock
from tests.unit.test_audit import EVENT


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.weakness(732)
def test_each_event_is_a_line_of_a_file_that_only_its_owner_reads(tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "audit.log"
    sink = open_sink(str(path), clock)
    sink(EVENT)
    sink(EVENT)
    assert read(path) == [cadf(EVENT)] * 2
    assert path.stat().st_mode & 0o777 == 0o600
    open_sink(str(path), clock)(EVENT)
    assert len(read(path)) == 3, "what was there stays"


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path, clock: VirtualClock) -> None:
    path, rotated = tmp_path / "audit.log", tmp_path / "audit.log.1"
    sink = open_sink(str(path), clock)
    sink(EVENT)
    path.rename(rotated)
    sink(EVENT)
    path.unlink()
    sink(EVENT)
    assert (len(read(rotated)), len(read(path)), sink.failures) == (1, 1, 0)


def test_lines_of_many_threads_stay_whole(tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "audit.log"
    sinks = [open_sink(str(path), clock) for _ in range(2)]
    threads = [threading.Thread(target=lambda sink: [sink(EVENT) for _ in range(50)], args=(sinks[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(path) == [cadf(EVENT)] * 400


@pytest.mark.weakness(732)
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "audit.log"
    path.touch(0o644)
    with pytest.raises(BadRequest, match="chmod 600"):
        open_sink(str(path), clock)


@pytest.mark.weakness(59)
@pytest.mark.parametrize("made", [lambda path: path.symlink_to("/dev/null"), os.mkdir, os.mkfifo])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, clock: VirtualClock, made: Callable[[Path], None]) -> None:
    path = tmp_path / "audit.log"
    made(path)
    with pytest.raises(BadRequest, match="--audit"):
        open_sink(str(path), clock)


@pytest.mark.weakness(703)
def test_a_full_disk_holds_nothing_up_and_what_it_cut_off_spoils_no_other_line(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "audit.log"
    sink, write = open_sink(str(path), clock), os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:20]))
    for _ in range(3):
        sink(EVENT)
    monkeypatch.setattr(os, "write", write)
    assert sink.failures == 3
    assert capsys.readouterr().out.count("audit events are not passed on") == 1, "told once a minute"
    sink(EVENT)
    assert json.loads(path.read_text().splitlines()[-1]) == cadf(EVENT)
    clock.sleep(60)
    path.chmod(0o644)
    path.rename(tmp_path / "old")
    (tmp_path / "audit.log").mkdir()
    sink(EVENT)
    assert "events=4" in capsys.readouterr().out


@pytest.fixture
def system_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "log"))
    listening.settimeout(10)
    return listening


def test_syslog_has_each_event_as_authpriv(tmp_path: Path, clock: VirtualClock, system_log: socket.socket) -> None:
    Sink("syslog", Syslog(clock, tmp_path / "log").write, clock)(EVENT)
    head, _, text = system_log.recv(65536).decode().partition(": ")
    assert head == f"<86>lamina[{os.getpid()}]", "authpriv.info: 10 * 8 + 6"
    assert json.loads(text) == cadf(EVENT)
    system_log.close()


@pytest.mark.weakness(703)
def test_a_system_log_that_does_not_listen_is_left_alone_for_a_while(
    tmp_path: Path, clock: VirtualClock, system_log: socket.socket
) -> None:
    sink = Sink("syslog", Syslog(clock, tmp_path / "log").write, clock)
    sink(EVENT)
    system_log.close()
    sink(EVENT)
    (tmp_path / "log").unlink()
    anew = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    anew.bind(str(tmp_path / "log"))
    sink(EVENT)
    assert sink.failures == 2
    clock.sleep(audit_sinks._REST)
    sink(EVENT)
    assert sink.failures == 2
    anew.close()


def test_a_system_log_that_was_begun_anew_is_found(tmp_path: Path, clock: VirtualClock, system_log: socket.socket) -> None:
    sink = Sink("syslog", Syslog(clock, tmp_path / "log").write, clock)
    sink(EVENT)
    system_log.close()
    (tmp_path / "log").unlink()
    anew = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    anew.bind(str(tmp_path / "log"))
    sink(EVENT)
    assert sink.failures == 0
    anew.close()


def test_no_system_log_is_told_at_the_start(clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_sinks, "SYSLOG", tmp_path / "none")
    with pytest.raises(BadRequest, match="--audit: syslog cannot be written"):
        open_sink("syslog", clock)


def test_a_file_is_closed_once(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "audit.log")
    file.write("x")
    file.close()
    file.close()
    file.write("y")
    assert (tmp_path / "audit.log").read_text() == "x\ny\n"
