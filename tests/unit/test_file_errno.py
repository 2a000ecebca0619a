"""Every call with which a host changes its files, with every errno, before and after its effect, and short writes.

The calls are recorded in an undisturbed run. The answer is a typed error or success, what is there is whole, and the same
thing may well succeed later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lamina.agent.depot import LocalDepot, digested
from lamina.agent.hypervisors.disks import Disks
from lamina.agent.journal import Journal
from lamina.agent.sysfs import LocalSysfs
from lamina.model import ids
from lamina.model.errors import HostError
from lamina.model.hosts import DomainSpec
from tests.faults.test_errno import ERRNOS
from tests.unit.test_agent_journal import record
from tests.unit.test_disks import Bench, Glance, QemuImg, qcow2, spec

CHANGES = ("open", "fsync", "replace", "unlink", "mkdir", "chmod", "utime", "rmdir")


class Calls:
    """Counts the calls that change files, and makes the n-th (from 0) fail, or all from there on."""

    def __init__(self, patch: pytest.MonkeyPatch, nth: int = -1, when: str = "", number: int = 0, *, lasting: bool = False) -> None:
        self.seen: list[str] = []
        self._nth, self._when, self._number, self._lasting = nth, when, number, lasting
        for name in CHANGES:
            patch.setattr(os, name, partial(self._call, name, getattr(os, name)))

    def _call(self, name: str, real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        mine = len(self.seen)
        self.seen.append(name)
        fails = 0 <= self._nth <= mine if self._lasting else mine == self._nth
        if fails and self._when == "before":
            raise OSError(self._number, os.strerror(self._number))
        got = real(*given, **named)
        if fails:
            if name == "open":
                os.close(got)
            raise OSError(self._number, os.strerror(self._number))
        return got


Deed = Callable[[Disks, DomainSpec], None]


def _make(disks: Disks, wanted: DomainSpec) -> None:
    assert disks.ensure(wanted) is not None


def _renew(disks: Disks, wanted: DomainSpec) -> None:
    disks.renew(wanted)


def _remove(disks: Disks, wanted: DomainSpec) -> None:
    disks.remove(wanted.server_id)


def _pack(disks: Disks, wanted: DomainSpec) -> None:
    with disks.packed(wanted.server_id) as packed:
        assert packed is not None


def _copy(disks: Disks, wanted: DomainSpec) -> None:
    def write(path: Path) -> None:
        path.write_bytes(qcow2())

    with disks.copied(wanted.server_id, write) as copied:
        assert copied is not None


def _place(disks: Disks, wanted: DomainSpec) -> None:
    with disks.placed(wanted.server_id) as path:
        path.write_bytes(qcow2())


def bench_in(folder: Path) -> tuple[Bench, DomainSpec]:
    folder.mkdir()
    images, qemu_img = Glance(folder / "glance"), QemuImg()
    bench = Bench(folder, images, qemu_img, Disks(folder, images, qemu_img))
    return bench, spec(bench.image())


@pytest.mark.parametrize("number", ERRNOS, ids=lambda n: errno.errorcode[n])
@pytest.mark.parametrize(("deed", "there"), [(_make, False), (_renew, True), (_remove, True), (_pack, True), (_copy, True), (_place, True)])
@pytest.mark.weakness(755)
@pytest.mark.weakness(252)
@pytest.mark.weakness(390)
def test_a_disk_is_whole_whatever_fails(tmp_path: Path, deed: Deed, there: bool, number: int) -> None:
    def tell(folder: str, nth: int, when: str) -> list[str]:
        bench, wanted = bench_in(tmp_path / folder)
        if there:
            _make(bench.disks, wanted)
        with pytest.MonkeyPatch.context() as patch:
            calls = Calls(patch, nth, when, number)
            with contextlib.suppress(HostError):
                deed(bench.disks, wanted)
        disk = bench.disks.disk(wanted.server_id)
        assert not disk.exists() or len(disk.read_bytes()) == len(qcow2()), "half a disk"
        deed(bench.disks, wanted)
        left = {path.name for path in (bench.state / "disks").glob("*/*")}
        assert left == (set() if deed is _remove else {"disk.qcow2"})
        assert all(len(name) == len(wanted.image.sha512 if wanted.image is not None else "") for name in bench.cached())
        return calls.seen

    seen = tell("undisturbed", -1, "")
    assert seen
    for nth in range(len(seen)):
        for when in ("before", "after"):
            tell(f"{nth}-{when}", nth, when)


@pytest.mark.parametrize("number", ERRNOS, ids=lambda n: errno.errorcode[n])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.weakness(755)
@pytest.mark.weakness(252)
@pytest.mark.weakness(390)
def test_a_journal_and_its_file_say_the_same(tmp_path: Path, number: int, lasting: bool) -> None:
    """Also where the file was replaced before the failure: it may be newer than what was in memory then."""

    def tell(name: str, nth: int, when: str) -> list[str]:
        journal = Journal(tmp_path / f"{name}.json")
        journal.put([record("a")])
        with pytest.MonkeyPatch.context() as patch:
            calls = Calls(patch, nth, when, number, lasting=lasting)
            with contextlib.suppress(HostError):
                journal.put([record("b")])
                assert nth < 0, "a failure was not told"
        on_disk = Journal(journal.path).records()
        assert journal.records() == on_disk
        assert lasting or nth < 0 or on_disk.keys() == {"a"}, "what was refused has been made"
        journal.put([record("c")])
        assert Journal(journal.path).records() == journal.records() == {**on_disk, "c": record("c")}
        return calls.seen

    seen = tell("undisturbed", -1, "")
    assert seen == ["open", "fsync", "replace", "open", "fsync"]
    for nth in range(len(seen)):
        for when in ("before", "after"):
            tell(f"{nth}-{when}", nth, when)


@pytest.mark.weakness(252)
def test_a_journal_that_was_written_in_part_is_the_one_from_before(tmp_path: Path) -> None:
    """The kernel takes as much as the process may write and no more: a short write, and then an error."""
    journal = Journal(tmp_path / "journal.json")
    journal.put([record("a")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(HostError, match="File too large"):
            journal.put([record(f"b{n}") for n in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "journal.new").stat().st_size == 4096, "the write was short"
    assert Journal(journal.path).records() == journal.records() == {"a": record("a")}


def attribute(root: Path) -> Path:
    (root / "sys").mkdir()
    path = root / "sys/create"
    path.write_text("")
    return path


@pytest.mark.weakness(252)
def test_the_kernel_that_takes_less_than_it_was_given_has_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not given the rest as if that were a word of its own."""
    path, write, asked = attribute(tmp_path), os.write, []

    def short(handle: int, content: bytes) -> int:
        asked.append(content)
        return write(handle, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="short write") as caught:
        LocalSysfs(tmp_path).write("/sys/create", "a-vgpu")
    assert caught.value.errno == errno.EIO
    assert asked == [b"a-vgpu"]
    assert path.read_text() == "a-v"


@pytest.mark.parametrize("number", ERRNOS, ids=lambda n: errno.errorcode[n])
@pytest.mark.weakness(252)
def test_the_kernels_own_errno_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    attribute(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(handle: int, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is the point
        LocalSysfs(tmp_path).write("/sys/create", "a-vgpu")
    assert caught.value.errno == number
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "the file was left open"


@pytest.mark.parametrize("number", ERRNOS, ids=lambda n: errno.errorcode[n])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.weakness(390)
def test_a_disk_that_cannot_be_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, when: str) -> None:
    server_id, disk = ids.new_uuid(), tmp_path / "disk"
    disk.write_bytes(qcow2())
    depot, failing = LocalDepot(tmp_path / "depot"), [True]
    copy = shutil.copyfile

    def failing_copy(source: Path, target: Path) -> None:
        if when == "after" or not failing:
            copy(source, target)
        if failing:
            failing.pop()
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(shutil, "copyfile", failing_copy)
    with pytest.raises(HostError, match="cannot be handed over"):
        depot.bring(server_id, disk)
    depot.bring(server_id, disk)
    failing.append(True)
    with pytest.raises(HostError, match="cannot be fetched"):
        depot.fetch(server_id, tmp_path / "fetched")
    depot.fetch(server_id, tmp_path / "fetched")
    assert digested(server_id, tmp_path / "fetched") == digested(server_id, disk)


def test_a_disk_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="disk of server s cannot be read: No such file"):
        digested("s", tmp_path / "disk")
