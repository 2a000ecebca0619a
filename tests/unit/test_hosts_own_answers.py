"""A compute service that dials in speaks for its own host, and of what it was asked; whatever else it says is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec
import pytest

from lamina.hosts.mailbox import Mailbox
from lamina.hosts.remote import RemoteCompute
from lamina.hosts.wire import METHODS, Result
from lamina.model import ids
from lamina.model.errors import HostError
from lamina.model.hosts import Call, DomainReport, DomainSpec, Fence, HostReport, Landing, PowerAction, PowerState, VgpuReport, VgpuSpec
from lamina.model.ids import PciAddress
from lamina.operations import reconcile
from lamina.store import hosts
from tests.faults.desk import Desk
from tests.faults.world import ONE, World

GPU = PciAddress.parse("0000:81:00.0")
CALL = Call("operation", "step", Fence(1, 1))
OURS, THEIRS = ids.new_uuid(), ids.new_uuid()


@dataclasses.dataclass
class Told:
    """A mailbox of host1's that brings this answer."""

    answer: Any
    host: str = "host1"

    def call(self, method: str, parameters: msgspec.Raw, timeout: float, first_dial: float = 0.0) -> Result:
        return Result("1", msgspec.Raw(msgspec.json.encode(self.answer)))


def remote(answer: Any) -> RemoteCompute:
    return RemoteCompute(cast(Mailbox, Told(answer)))


def report(host: str, **more: Any) -> HostReport:
    return HostReport(host, "boot", 1, 1024, 1, "QEMU", 9_000_000, (), (), **more)


def domain(server_id: str) -> DomainReport:
    return DomainReport(server_id, "s", PowerState.RUNNING, (), server_id)


SPEC = DomainSpec(OURS, "s", 1, 64, 1, (), running=True)


@pytest.mark.weakness(345)
def test_a_report_of_another_host_is_refused() -> None:
    assert remote(report("host1")).report().host == "host1"
    with pytest.raises(HostError, match="as if it were host 'host2'"):
        remote(report("host2")).report()


@pytest.mark.weakness(345)
def test_a_landing_on_another_host_is_refused() -> None:
    assert remote(Landing("host1", "192.0.2.1", "")).expect_domain(CALL, SPEC).host == "host1"
    with pytest.raises(HostError):
        remote(Landing("host2", "192.0.2.1", "")).expect_domain(CALL, SPEC)


@pytest.mark.weakness(345)
def test_vgpus_that_nobody_asked_for_are_refused() -> None:
    spec = VgpuSpec(ids.new_uuid(), OURS, GPU, "nvidia-11")
    made = VgpuReport(spec.uuid, GPU, GPU, "nvidia-11", ours=True, server_id=OURS)
    assert remote((made,)).ensure_vgpus(CALL, [spec]) == (made,)
    for told in ((), (dataclasses.replace(made, uuid=ids.new_uuid()),), (dataclasses.replace(made, server_id=THEIRS),), (made, made, made)):
        if set(told) != {made}:
            with pytest.raises(HostError):
                remote(told).ensure_vgpus(CALL, [spec])


@pytest.mark.weakness(345)
def test_another_servers_domain_is_refused() -> None:
    for answer, server_id in ((domain(OURS), OURS), (domain(THEIRS), THEIRS)):
        compute = remote(answer)
        asked: list[Callable[[], DomainReport]] = [
            partial(compute.ensure_domain, CALL, SPEC),
            partial(compute.set_power, CALL, OURS, PowerAction.ON),
            partial(compute.suspend_domain, CALL, OURS),
            partial(compute.fit_domain, CALL, SPEC),
        ]
        for ask in asked:
            if server_id == OURS:
                assert ask() == answer
            else:
                with pytest.raises(HostError):
                    ask()


def test_nothing_of_another_hosts_is_written_down(desk: Desk) -> None:
    """An agent that claims to be another host changes neither that one's record nor its own."""
    world = World.on(desk, "mdev")
    server = world.created(ONE, host="host2")
    with world.plane.db.read() as tx:
        before = hosts.all_hosts(tx)
    lie = dataclasses.replace(world.hosts["host1"].compute.report(), host="host2", vcpus=1, gpus=())
    world.plane.hosts.join("host1", remote(lie))
    with pytest.raises(HostError):
        reconcile.host(world.plane, "host1")
    with world.plane.db.read() as tx:
        assert hosts.all_hosts(tx) == before
    assert [v.host for v in world.vgpus(server.id)] == ["host2"]


def test_an_agent_of_the_version_before_is_understood() -> None:
    """It tells of no libvirt, and says what a newer one does not know."""
    told = msgspec.to_builtins(report("host1"))
    del told["libvirt_version"]
    assert METHODS["report"].decode(msgspec.Raw(msgspec.json.encode(told))).libvirt_version == 0
    assert METHODS["report"].decode(msgspec.Raw(msgspec.json.encode(told | {"to_come": 1}))).host == "host1"
