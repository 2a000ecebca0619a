"""Images that name other files: a qcow2 with a backing file or a data file, a VMDK with an extent, or one format declared as another,
made Cinder, Glance and Nova read files of the host and hand them to the guest. qemu-img was left to find the format out by itself.

Here an image is looked into before any program opens it, and every call of qemu-img names the formats and has limits of memory and time;
an audit hook watches that no program is started beside those calls.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lamina.agent.hypervisors import disks
from lamina.agent.hypervisors.disks import Disks
from lamina.model.errors import HypervisorError
from tests.unit.test_disks import Bench, Glance, QemuImg, qcow2, spec
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

SECRET = b"/etc/shadow"
VMDK = b'# Disk DescriptorFile\nversion=1\nCID=fffffffe\ncreateType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'.ljust(1024, b"\0")
#: (content, declared to be)
REFERRING = {
    "a backing file": (qcow2(backing=SECRET), "qcow2"),
    "a backing file of another scheme": (qcow2(backing=b"nbd://192.0.2.1/x"), "qcow2"),
    "a data file": (qcow2(incompatible=1 << 2), "qcow2"),
    "a backing file, declared raw": (qcow2(backing=SECRET), "raw"),
    "an extent of a VMDK, declared qcow2": (VMDK, "qcow2"),
    "an extent of a VMDK": (VMDK, "vmdk"),
}

_heard: list[list[str]] | None = None


def _hear(event: str, given: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and _heard is not None:
        _heard.append([str(word) for word in given[1]])


sys.addaudithook(_hear)


@contextlib.contextmanager
def started() -> Any:
    """The command lines of all programs started within."""
    global _heard
    _heard = []
    try:
        yield _heard
    finally:
        _heard = None


class Strict(QemuImg):
    """qemu-img, as its rules here are; the calls are started for real, as ``true``, so that the audit hook hears of them."""

    def __call__(self, argv: Sequence[str], patience: float) -> str:
        assert argv[0] == "prlimit"
        assert {word.partition("=")[0] for word in argv[1 : argv.index("qemu-img")]} >= {"--as", "--cpu"}, "limits of memory and time"
        assert patience <= 4 * 3600
        words = list(argv[argv.index("qemu-img") + 1 :])
        assert words[words.index("-f") + 1] in ("raw", "qcow2"), "the format is never guessed"
        assert "-b" not in words or words[words.index("-F") + 1] in ("raw", "qcow2"), "nor is that of the image below"
        assert words[0] != "convert" or words[words.index("-O") + 1] == "qcow2"
        subprocess.run(["true", *argv], check=True)
        return super().__call__(argv, patience)


def check(stage: Stage) -> None:
    stage.folder.joinpath("glance").mkdir()
    images, qemu_img = Glance(stage.folder / "glance"), Strict()
    bench = Bench(stage.folder, images, qemu_img, Disks(stage.folder, images, qemu_img))
    for what, (content, declared) in REFERRING.items():
        with started() as programs:
            try:
                bench.disks.ensure(spec(bench.image(content, declared)))
            except HypervisorError:
                pass
            else:
                raise AssertionError(f"a disk was made of an image with {what}")
        assert programs == [], "something opened it before it was looked into"
        assert bench.cached() == []
    wanted = spec(bench.image(VMDK))  # declared raw, it is opened as nothing else: what it says is data
    with started() as programs:
        bench.disks.ensure(wanted)
        bench.disks.ensure(spec(None, 2, wanted.server_id))
        bench.disks.renew(wanted)
        bench.disks.ensure(spec(None, 1))
        with bench.disks.packed(wanted.server_id) as packed:
            assert packed is not None
        arriving_is_looked_into(bench, wanted.server_id)
    assert len(programs) == len(qemu_img.told) >= 4, "a program was started in another way"


def arriving_is_looked_into(bench: Bench, server_id: str) -> None:
    """A disk that comes from another host."""
    for content in (qcow2(backing=SECRET), VMDK):
        with pytest.raises(HypervisorError), bench.disks.placed(server_id) as path:
            Path(path).write_bytes(content)


def broken() -> AbstractContextManager[Any]:
    """nobody looks into an image"""
    return mock.patch.object(disks, "_inspect", return_value=None)


ROW = Row(
    13,
    ("CVE-2024-32498", "CVE-2024-40767", "CVE-2022-47951", "CVE-2026-24708"),
    664,
    "images that reach for files of the host",
    check,
    broken,
)


@pytest.mark.weakness(73)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
