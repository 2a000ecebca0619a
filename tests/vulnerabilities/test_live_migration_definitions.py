"""Nova moved a running domain with its XML made anew for the target, and left the persistent definition as it had been on the source.
The next soft reboot started the guest from that one, with host devices that on the target belonged to somebody else.

Here both of the definitions that go with a domain name the target's devices, and after a move, a reboot and a crash of the control
plane four views agree: records, allocations, devices on the hosts, and what the domains hold.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamina.agent.hypervisor import Device
from lamina.agent.hypervisors import domain_xml
from lamina.model import ids
from lamina.model.gpus import Framework
from lamina.model.hosts import DomainSpec, Landing, PowerAction
from lamina.operations import live_migrate, power
from tests.faults.world import CALLER, TWO
from tests.vulnerabilities.libvirt_stand_in import Asked, on_made_up_libvirt
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

HERE, THERE = "0000:26:00.4", "0000:3b:02.1"


class Domain:
    """A libvirt domain that runs on the source with a VF there."""

    def __init__(self, spec: DomainSpec) -> None:
        self.xml = definition(spec, HERE)
        self.moved: list[tuple[str, dict[str, Any], int]] = []

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802 - libvirt's name
        return self.xml

    def jobStats(self) -> dict[str, Any]:  # noqa: N802
        return {}

    def migrateToURI3(self, uri: str, params: dict[str, Any], flags: int) -> None:  # noqa: N802
        self.moved.append((uri, params, flags))


def definition(spec: DomainSpec, handle: str) -> str:
    device = Device(spec.vgpus[0], Framework.VFIO, handle)
    return domain_xml.definition(spec, [device], domain_xml.Frame("kvm", {}, Path("/state/console.log"), disk=Path("/state/disk")))


def both_definitions_name_the_targets_devices() -> None:
    spec = DomainSpec(ids.new_uuid(), "lamina-s", 1, 512, 1, (ids.new_uuid(),), running=True)
    domain = Domain(spec)
    with on_made_up_libvirt() as stood_in:
        moves = stood_in.moves.Moves(Asked(), "tls")
        moves.begin(spec.server_id, domain, Landing("host2", "192.0.2.7", definition(spec, THERE)))
        moves._threads[spec.server_id].join(10)
        ((_, params, flags),) = domain.moved
        assert flags & stood_in.constants.VIR_MIGRATE_PERSIST_DEST, "the target keeps the definition that goes along"
    for name in ("VIR_MIGRATE_PARAM_DEST_XML", "VIR_MIGRATE_PARAM_PERSIST_XML"):
        described = domain_xml.read(params[name])
        assert described.handles == {THERE}, f"{name} has the source's devices"
        assert set(described.vgpus.values()) == {THERE}, f"{name} is marked with the source's devices"


def check(stage: Stage) -> None:
    both_definitions_name_the_targets_devices()
    for framework in ("mdev", "vfio", "mig"):
        world = stage.world(framework)
        server = world.created(TWO)
        left = {v.uuid for v in world.vgpus(server.id)}
        live_migrate.request(world.plane, CALLER, server.id)
        world.settle()
        world.check()
        power.request(world.plane, CALLER, server.id, PowerAction.SOFT_REBOOT)
        world.step()
        world.begin()  # the control plane dies in the middle of it
        world.settle()
        world.check()
        host = world.server(server.id).host
        assert host not in (None, server.host)
        held = world.hosts[host].machine.state.domains[server.id].devices
        assert not left & held.keys(), "it holds devices of the host that it has left"


def broken() -> AbstractContextManager[Any]:
    """the definitions go along as they were on the source"""
    return mock.patch.object(domain_xml, "moved", lambda here, there: here)


ROW = Row(6, ("CVE-2020-17376",), 435, "the persistent definition keeps the source's devices", check, broken)


@pytest.mark.weakness(435)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
