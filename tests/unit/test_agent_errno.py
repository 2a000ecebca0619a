"""Every write to the kernel, with every errno, before and after its effect, at the compute service.

The answer is a typed error or success; and after one more release nothing of ours is left and the journal knows of
nothing that the kernel does not have.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from lamina.agent.journal import Journal
from lamina.agent.simulated.host import SimulatedHost
from lamina.model import ids
from lamina.model.errors import DeviceMissing, DeviceRefused
from tests.contract.machines import FIRST, KINDS, SECOND, StillClock, call, plant_foreign, spec, standing, switched_on

ERRNOS = (
    errno.EINVAL,
    errno.EBUSY,
    errno.ENOSPC,
    errno.ENODEV,
    errno.EIO,
    errno.EACCES,
    errno.EINTR,
    errno.ETIMEDOUT,
)
SERVER = ids.new_uuid()
WANTED = [spec(SERVER, 0), spec(SERVER, 1, SECOND), spec(SERVER, 2)]


class FailOne:
    """Makes the n-th write (from 0) fail, and counts them."""

    def __init__(self, nth: int, number: int) -> None:
        self.seen = 0
        self._nth = nth
        self._number = number

    def __call__(self, path: str, text: str) -> None:
        self.seen += 1
        if self.seen == self._nth + 1:
            raise OSError(self._number, os.strerror(self._number), path)


def fail(host: SimulatedHost, when: str, nth: int, number: int) -> FailOne:
    fault = FailOne(nth, number)
    if when == "before":
        host.kernel.before_write = fault
    else:
        host.kernel.after_write = fault
    return fault


def check(state: Path, host: SimulatedHost, foreign: str) -> None:
    """The foreign vGPU stands, nothing else does, and the journal has no record; also after a restart."""
    assert list(standing(host)) == [foreign]
    assert dict(Journal(state / "agents/host.json").records()) == {}
    assert [v.ours for g in host.compute.report().gpus for v in g.vgpus] == [False]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


every_errno = pytest.mark.parametrize("number", ERRNOS, ids=lambda n: errno.errorcode[n])
before_and_after = pytest.mark.parametrize("when", ["before", "after"])
each_write = pytest.mark.parametrize("nth", range(len(WANTED)))


def planted(kind: str, state: Path) -> tuple[SimulatedHost, str]:
    host = switched_on(kind, state, StillClock())
    parent = FIRST if kind == "mdev" else FIRST.virtual_function(5)
    return host, plant_foreign(host, parent, "11" if kind == "vfio" else "nvidia-11")


@each_write
@before_and_after
@every_errno
@pytest.mark.weakness(460)
def test_a_refused_create_leaves_nothing(kind: str, tmp_path: Path, number: int, when: str, nth: int) -> None:
    host, foreign = planted(kind, tmp_path)
    fault = fail(host, when, nth, number)
    with pytest.raises(DeviceRefused, match=errno.errorcode[number]) as caught:
        host.compute.ensure_vgpus(call(), WANTED)
    assert caught.value.errno == number
    assert fault.seen > nth
    check(tmp_path, host, foreign)
    assert len(host.compute.ensure_vgpus(call(), WANTED)) == len(WANTED), "the same call may well succeed later"
    host.compute.release_vgpus(call(), SERVER, [s.uuid for s in WANTED])
    check(tmp_path, host, foreign)


@each_write
@before_and_after
@every_errno
def test_a_refused_removal_is_finished_by_the_next(kind: str, tmp_path: Path, number: int, when: str, nth: int) -> None:
    host, foreign = planted(kind, tmp_path)
    host.compute.ensure_vgpus(call(), WANTED)
    fault = fail(host, when, nth, number)
    uuids = [s.uuid for s in WANTED]
    if when == "after" or number == errno.EBUSY:
        host.compute.release_vgpus(call(), SERVER, uuids)
    else:
        with pytest.raises(DeviceRefused, match=errno.errorcode[number]) as caught:
            host.compute.release_vgpus(call(), SERVER, uuids)
        assert caught.value.errno == number
        records = Journal(tmp_path / "agents/host.json").records()
        assert list(records) == uuids[nth:], "what was removed is forgotten, the rest is still ours"
        assert {v.uuid for g in host.compute.report().gpus for v in g.vgpus if v.ours} == set(uuids[nth:])
        host.compute.release_vgpus(call(), SERVER, uuids)
    assert fault.seen > nth
    check(tmp_path, host, foreign)


@before_and_after
@every_errno
def test_what_cannot_be_taken_back_stays_ours(kind: str, tmp_path: Path, number: int, when: str) -> None:
    """The second create is refused and so is every removal: the first vGPU is left, in the journal and in the report."""
    host, foreign = planted(kind, tmp_path)

    def refuse(path: str, text: str) -> None:
        made = len(standing(host)) - 1  # without the foreign one
        if text in ("0", "1") or made == (1 if when == "before" else 2):
            raise OSError(number, os.strerror(number), path)

    if when == "before":
        host.kernel.before_write = refuse
    else:
        host.kernel.after_write = refuse
        host.kernel.before_write = lambda path, text: refuse(path, text) if text in ("0", "1") else None
    with pytest.raises(DeviceRefused, match=errno.errorcode[number]):
        host.compute.ensure_vgpus(call(), WANTED)
    left = [v.uuid for g in host.compute.report().gpus for v in g.vgpus if v.ours]
    assert sorted(left) == sorted(Journal(tmp_path / "agents/host.json").records())
    assert len(left) == (1 if when == "before" else 2)
    host.kernel.before_write = host.kernel.after_write = lambda path, text: None
    host.compute.release_vgpus(call(), SERVER, left)
    check(tmp_path, host, foreign)


def test_a_kernel_that_makes_nothing_and_says_nothing_is_caught(kind: str, tmp_path: Path) -> None:
    host, foreign = planted(kind, tmp_path)

    def forget_at_once(path: str, text: str) -> None:
        state = host.machine.state
        for handle in set(standing(host)) - {foreign}:
            state.mdevs.pop(handle, None)
            state.vf_types.pop(handle, None)

    host.kernel.after_write = forget_at_once
    with pytest.raises(DeviceMissing, match=r"The kernel made no vGPU .* and told no error"):
        host.compute.ensure_vgpus(call(), WANTED)
    check(tmp_path, host, foreign)


def test_the_journal_on_disk_is_plain(kind: str, tmp_path: Path) -> None:
    """A person can read whose vGPU stands where."""
    host, _ = planted(kind, tmp_path)
    host.compute.ensure_vgpus(call(epoch=3, number=7), WANTED[:1])
    content = msgspec.json.decode((tmp_path / "agents/host.json").read_bytes())
    record = content["vgpus"][WANTED[0].uuid]
    assert (record["server_id"], record["type"]) == (SERVER, "nvidia-11")
    assert (content["fences"][SERVER]["epoch"], content["fences"][SERVER]["number"]) == (3, 7)
