"""Disks: images fetched once and looked into, overlays that need no guess, nothing left of what failed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pycdlib
import pytest

from lamina.agent.hypervisors import config_drive
from lamina.agent.hypervisors.disks import GIB, KEEP_IMAGES, Disks
from lamina.agent.images import LocalImages
from lamina.model import ids
from lamina.model.errors import HostError, HypervisorError
from lamina.model.hosts import DomainSpec, ImageSource

RAW = b"not a known format at all, so raw" * 64


def qcow2(*, backing: bytes = b"", size: int = 1 << 20, incompatible: int = 0) -> bytes:
    """A header as QEMU's docs/interop/qcow2.txt has it, version 3, and nothing else."""
    header = bytearray(512)
    header[0:8] = b"QFI\xfb" + (3).to_bytes(4, "big")
    if backing:
        header[8:16], header[16:20] = (200).to_bytes(8, "big"), len(backing).to_bytes(4, "big")
        header[200 : 200 + len(backing)] = backing
    header[20:24] = (16).to_bytes(4, "big")
    header[24:32] = size.to_bytes(8, "big")
    header[72:80] = incompatible.to_bytes(8, "big")
    header[100:104] = (104).to_bytes(4, "big")
    return bytes(header)


class QemuImg:
    """qemu-img as far as files are concerned; what it was told is kept."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []
        self.fails = False

    def __call__(self, argv: Sequence[str], patience: float) -> str:
        assert list(argv[:1]) == ["prlimit"]
        words = list(argv[argv.index("qemu-img") + 1 :])
        self.told.append(words)
        if self.fails:
            raise HostError("qemu-img failed: no space left")
        assert words[words.index("-f") + 1] in ("raw", "qcow2"), "the format is never guessed"
        if words[0] == "create":
            backing = words[words.index("-b") + 1].encode() if "-b" in words else b""
            Path(words[-2]).write_bytes(qcow2(backing=backing, size=int(words[-1])))
        elif words[0] == "convert":
            Path(words[-1]).write_bytes(qcow2())
        return ""


class Glance(LocalImages):
    fetched = 0

    def fetch(self, image_id: str, into: Path) -> None:
        self.fetched += 1
        super().fetch(image_id, into)


@dataclasses.dataclass
class Bench:
    state: Path
    images: Glance
    qemu_img: QemuImg
    disks: Disks

    def image(self, content: bytes = RAW, declared: str = "raw") -> ImageSource:
        image_id = ids.new_uuid()
        (self.state / "glance").mkdir(exist_ok=True)
        (self.state / "glance" / image_id).write_bytes(content)
        return ImageSource(image_id, hashlib.sha512(content).hexdigest(), len(content), declared)

    def cached(self) -> list[str]:
        folder = self.state / "images"
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    images, qemu_img = Glance(tmp_path / "glance"), QemuImg()
    return Bench(tmp_path, images, qemu_img, Disks(tmp_path, images, qemu_img))


def spec(image: ImageSource | None = None, disk_gb: int = 1, server_id: str | None = None) -> DomainSpec:
    return DomainSpec(server_id or ids.new_uuid(), "s", 1, 64, disk_gb, (), running=True, image=image)


def test_a_disk_stands_on_its_image(bench: Bench) -> None:
    image = bench.image()
    wanted = spec(image)
    path = bench.disks.ensure(wanted)
    assert path == bench.disks.disk(wanted.server_id)
    base = bench.state / "images" / image.sha512
    assert bench.qemu_img.told == [
        ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(path.with_suffix(".new")), str(GIB)]
    ]
    assert base.read_bytes() == RAW
    assert bench.disks.ensure(wanted) == path
    assert len(bench.qemu_img.told) == 1, "made once"


def test_an_image_is_fetched_once_for_all_servers(bench: Bench) -> None:
    image = bench.image()
    for _ in range(3):
        bench.disks.ensure(spec(image))
    assert bench.images.fetched == 1


def test_what_a_server_is_rescued_with_is_a_second_disk_and_goes_with_the_rescue(bench: Bench) -> None:
    wanted, tools = spec(bench.image()), bench.image(b"tools" * 1024)
    own = bench.disks.ensure(wanted)
    assert own is not None
    content = own.read_bytes()
    for _ in range(2):
        bench.disks.ensure(dataclasses.replace(wanted, rescue=tools))
    assert bench.disks.rescue_disk(wanted.server_id).exists()
    assert [words[words.index("-b") + 1].rpartition("/")[2] for words in bench.qemu_img.told][1:] == [tools.sha512], "made once"
    assert bench.disks.ensure(wanted) == own
    assert not bench.disks.rescue_disk(wanted.server_id).exists()
    assert own.read_bytes() == content


def test_a_disk_that_runs_is_copied_by_others_and_the_copy_goes(bench: Bench) -> None:
    wanted = spec(bench.image())
    with bench.disks.copied(wanted.server_id, lambda _: pytest.fail("there is nothing to copy")) as nothing:
        assert nothing is None
    bench.disks.ensure(wanted)

    def copies(into: Path) -> None:
        into.write_bytes(b"copy")

    with bench.disks.copied(wanted.server_id, copies) as copied:
        assert copied is not None
        assert copied.read_bytes() == b"copy"
    assert not copied.exists()

    def fails(into: Path) -> None:
        into.write_bytes(b"half")
        raise HypervisorError("no")

    with pytest.raises(HypervisorError), bench.disks.copied(wanted.server_id, fails):
        pass
    assert [p.name for p in bench.disks.folder(wanted.server_id).iterdir()] == ["disk.qcow2"]


def test_the_larger_of_image_and_flavor_decides(bench: Bench) -> None:
    bench.disks.ensure(spec(bench.image(qcow2(size=5 * GIB), "qcow2")))
    assert bench.qemu_img.told[-1][-1] == str(5 * GIB)


def test_a_disk_grows_and_never_shrinks(bench: Bench) -> None:
    wanted = spec(disk_gb=2)
    bench.disks.ensure(wanted)
    bench.disks.ensure(dataclasses.replace(wanted, disk_gb=1))
    assert len(bench.qemu_img.told) == 1
    path = bench.disks.ensure(dataclasses.replace(wanted, disk_gb=3))
    assert bench.qemu_img.told[-1] == ["resize", "-q", "-f", "qcow2", str(path), str(3 * GIB)]


def test_no_disk_where_nothing_asks_for_one_and_one_that_is_there_stays(bench: Bench) -> None:
    wanted = spec(disk_gb=0)
    assert bench.disks.ensure(wanted) is None
    made = bench.disks.ensure(dataclasses.replace(wanted, disk_gb=1))
    assert bench.disks.ensure(wanted) == made


@pytest.mark.parametrize(
    ("content", "declared", "told"),
    [
        (qcow2(backing=b"/etc/shadow"), "qcow2", "not safe to open: backing_file"),
        (qcow2(incompatible=1 << 2), "qcow2", "not safe to open: data_file"),
        (qcow2(), "raw", "declared to be raw and is qcow2"),
        (RAW, "qcow2", "declared to be qcow2 and is raw"),
        (RAW, "vmdk", "is in vmdk"),
        (RAW, "../raw", "is in ../raw"),
    ],
    ids=["backing-file", "data-file", "hidden-qcow2", "not-qcow2", "vmdk", "nonsense"],
)
def test_an_image_that_is_not_what_it_says_is_refused(bench: Bench, content: bytes, declared: str, told: str) -> None:
    with pytest.raises(HypervisorError, match=told):
        bench.disks.ensure(spec(bench.image(content, declared)))
    assert bench.cached() == []
    assert bench.qemu_img.told == []


def test_an_image_that_arrives_otherwise_is_refused(bench: Bench) -> None:
    image = bench.image()
    (bench.state / "glance" / image.id).write_bytes(RAW[:-1] + b"!")
    with pytest.raises(HypervisorError, match="did not arrive as"):
        bench.disks.ensure(spec(image))
    assert bench.cached() == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 128, "0" * 127], ids=["none", "path", "upper", "short"])
def test_a_checksum_that_is_none_makes_no_path(bench: Bench, digest: str) -> None:
    with pytest.raises(HypervisorError, match="checksum that is none"):
        bench.disks.ensure(spec(dataclasses.replace(bench.image(), sha512=digest)))


def test_an_image_that_is_gone(bench: Bench) -> None:
    image = bench.image()
    (bench.state / "glance" / image.id).unlink()
    with pytest.raises(HostError, match="cannot be fetched"):
        bench.disks.ensure(spec(image))


def test_a_disk_is_made_anew_whole_or_not_at_all(bench: Bench) -> None:
    first = spec(bench.image())
    path = bench.disks.ensure(first)
    assert path is not None
    before = path.read_bytes()
    other = dataclasses.replace(first, image=bench.image(b"another one entirely" * 64))
    bench.qemu_img.fails = True
    with pytest.raises(HostError, match="no space left"):
        bench.disks.renew(other)
    assert path.read_bytes() == before
    bench.qemu_img.fails = False
    bench.disks.renew(other)
    assert path.read_bytes() != before


def test_a_disk_that_cannot_be_made_is_none(bench: Bench) -> None:
    bench.qemu_img.fails = True
    wanted = spec(bench.image())
    with pytest.raises(HostError, match="no space left"):
        bench.disks.ensure(wanted)
    assert not bench.disks.disk(wanted.server_id).exists()
    bench.qemu_img.fails = False
    assert bench.disks.ensure(wanted) is not None
    assert bench.images.fetched == 1


def test_everything_of_a_server_goes(bench: Bench) -> None:
    wanted = spec()
    bench.disks.ensure(wanted)
    bench.disks.console_log(wanted.server_id).write_text("said")
    bench.disks.remove(wanted.server_id)
    bench.disks.remove(wanted.server_id)
    assert not bench.disks.folder(wanted.server_id).exists()


def test_what_arrives_is_looked_into(bench: Bench) -> None:
    server_id = ids.new_uuid()
    with pytest.raises(HypervisorError, match="backing_file"), bench.disks.placed(server_id) as path:
        path.write_bytes(qcow2(backing=b"/etc/shadow"))
    assert not bench.disks.disk(server_id).exists()
    with contextlib.suppress(ZeroDivisionError), bench.disks.placed(server_id) as path:
        path.write_bytes(qcow2())
        raise ZeroDivisionError
    assert not bench.disks.disk(server_id).exists()
    with bench.disks.placed(server_id) as path:
        path.write_bytes(qcow2())
    assert bench.disks.disk(server_id).read_bytes() == qcow2()
    assert [p.name for p in bench.disks.folder(server_id).iterdir()] == ["disk.qcow2"]


def test_a_packed_disk_is_gone_when_it_was_sent(bench: Bench) -> None:
    wanted = spec()
    bench.disks.ensure(wanted)
    with bench.disks.packed(wanted.server_id) as packed:
        assert packed is not None
        assert packed.exists()
    assert not packed.exists()
    with bench.disks.packed(ids.new_uuid()) as nothing:
        assert nothing is None


def test_images_that_no_disk_stands_on_go_after_a_while(bench: Bench) -> None:
    kept, unused, fresh = (bench.image(RAW + bytes([n])) for n in range(3))
    disks = [spec(image) for image in (kept, unused, fresh)]
    for wanted in disks:
        bench.disks.ensure(wanted)
    for image in (kept, unused):
        path = bench.state / "images" / image.sha512
        os.utime(path, (path.stat().st_mtime - 2 * KEEP_IMAGES,) * 2)
    for wanted in disks[1:]:
        bench.disks.remove(wanted.server_id)
    assert bench.cached() == sorted([kept.sha512, fresh.sha512])


@pytest.mark.weakness(22)
def test_a_folder_is_only_ever_a_servers(bench: Bench) -> None:
    with pytest.raises(Exception, match="uuid"):
        bench.disks.folder("../../etc")


# ------------------------------------------------------------------------------------------------ config drives


def test_a_config_drive_reads_back(tmp_path: Path) -> None:
    files = {
        "openstack/latest/meta_data.json": b'{"uuid": "u"}',
        "openstack/latest/user_data": bytes(range(256)),
        "openstack/2018-08-27/meta_data.json": b"{}",
        "ec2/latest/meta-data.json": b"x" * 5000,
    }
    path = tmp_path / "config.iso"
    config_drive.write(path, files)
    config_drive.write(path, files)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["config.iso"]
    for how in ("joliet_path", "rr_path"):
        drive = pycdlib.PyCdlib()
        drive.open(str(path))
        assert drive.pvd.volume_identifier.decode().strip() == "config-2"
        for name, content in files.items():
            target = tmp_path / "out"
            drive.get_file_from_iso(str(target), **{how: f"/{name}"})
            assert target.read_bytes() == content
            target.unlink()
        drive.close()
