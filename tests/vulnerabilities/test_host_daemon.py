"""libvirt read a caller's XML before it asked whether he may send any (CVE-2025-12748), was made to follow a null pointer by a call
(CVE-2024-4418), and had on Debian and Ubuntu a socket that every user could write to (CVE-2020-15708): who reaches the daemon has the
host.

Here the agent refuses to begin where libvirt's socket, its own journal, state directory or key is open to other users of the machine;
XML for and from libvirt has a bound; and the versions of libvirt and QEMU are reported with each host.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamina.agent import closed, configuration
from lamina.agent.hypervisor import Capacity
from lamina.agent.hypervisors import domain_xml
from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.cli import this_machine
from lamina.cli.checks import machine, running
from lamina.cli.checks.finding import Verdict
from lamina.hosts.membership import key_of
from lamina.model import ids
from lamina.model.errors import Conflict, HypervisorError
from lamina.model.hosts import DomainSpec
from lamina.operations import reconcile
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

_CAPACITY = SimulatedHypervisor.capacity


def refused(begin: Callable[[], Any], what: str) -> None:
    try:
        begin()
    except Conflict as error:
        told = error.message
    else:
        raise AssertionError(f"it begins though {what}")
    assert "chmod" in told or "0770" in told, "it says what mends it"


def a_socket(root: Path, name: str, mode: int) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, before = os.open(path.parent, os.O_RDONLY), Path.cwd()
    with socket.socket(socket.AF_UNIX) as made:  # whose address may not be long
        os.fchdir(folder)
        made.bind(path.name)
        os.chdir(before)
    os.close(folder)
    path.chmod(mode)
    return path


def the_socket_of_libvirt(root: Path) -> None:
    for name in closed.SOCKETS:
        path = a_socket(root, name, 0o770)
        closed.must_not_be_open_to_all(root)
        for mode in (0o777, 0o666, 0o772):
            path.chmod(mode)
            refused(lambda: closed.must_not_be_open_to_all(root), f"/{name} has the mode {mode:o}")
            assert machine.libvirt(root, lambda _: True).verdict is Verdict.PROBLEM
        path.unlink()


def the_agents_own_files(state: Path) -> None:
    key_of(state)
    state.chmod(0o700)
    key, journal = state / "membership" / "key.pem", state / "agents" / "host1.json"
    journal.parent.mkdir(mode=0o700)
    journal.write_text("{}")
    journal.chmod(0o600)
    closed.must_be_closed(state, key)
    for path, modes in ((key, (0o640, 0o604, 0o660)), (journal, (0o620, 0o602)), (state, (0o777, 0o770)), (journal.parent, (0o707,))):
        before = path.stat().st_mode & 0o777
        for mode in modes:
            path.chmod(mode)
            refused(lambda: closed.must_be_closed(state, key), f"{path.name} has the mode {mode:o}")
        path.chmod(before)
    closed.must_be_closed(state, key)


def the_service_asks_first(state: Path) -> None:
    """Before it touches libvirt or the journal; an operator may say in words that polkit keeps the socket."""
    made: list[str] = []

    def host(known: Any, *_given: Any) -> Any:
        made.append(known.host)
        return mock.Mock(restore=list)

    stand_in = mock.Mock(real_host=host)
    with (
        mock.patch("importlib.util.find_spec", return_value=object()),
        mock.patch.dict("sys.modules", {"lamina.agent.real_host": stand_in}),
        mock.patch.object(closed, "is_open_to_all", return_value=True),
    ):
        path = state / "agent.toml"
        for text, begins in (('host = "h"', False), ('host = "h"\nopen_libvirt_socket = true', True)):
            path.write_text(text)
            given: Any = (path, state, mock.Mock(), mock.Mock(), mock.Mock())
            if begins:
                assert configuration.load(path).open_libvirt_socket
                this_machine.this_machine(*given)
            else:
                refused(lambda given=given: this_machine.this_machine(*given), "libvirt's socket is open to all")  # type: ignore[misc]
    assert made == ["h"]


def check(stage: Stage) -> None:
    the_socket_of_libvirt(stage.folder / "root")
    the_agents_own_files(stage.folder / "state")
    the_service_asks_first(stage.folder / "state")
    spec = DomainSpec(ids.new_uuid(), "x" * domain_xml.MOST_XML, 1, 64, 1, (), running=True)
    with pytest.raises(HypervisorError, match="bytes long"):
        domain_xml.definition(spec, [], domain_xml.Frame("kvm", {}, Path("/state/log")))
    versions_are_told(stage)


def versions_are_told(stage: Stage) -> None:
    def capacity(self: SimulatedHypervisor) -> Capacity:
        return dataclasses.replace(_CAPACITY(self), libvirt_version=10_000_002)

    with stage.cloud() as cloud, mock.patch.object(SimulatedHypervisor, "capacity", capacity):
        reconcile.host(cloud.world.plane, "host1")
        (host,) = (h for h in cloud.ask("GET", "/fleet/v1/hosts", user="admin").json()["hosts"] if h["name"] == "host1")
        assert (host["hypervisor_version"], host["libvirt_version"]) == (9_000_000, 10_000_002)
        (finding,) = running.versions([host])
        assert "9.0.0, libvirt 10.0.2, NVIDIA driver 595.91.04" in finding.told


def broken() -> AbstractContextManager[Any]:
    """whatever the mode of a socket is, it is taken for closed"""
    return mock.patch.object(closed, "is_open_to_all", return_value=False)


ROW = Row(20, ("CVE-2025-12748", "CVE-2024-4418", "CVE-2020-15708"), 693, "a daemon of the host that everybody reaches", check, broken)


@pytest.mark.weakness(732)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
