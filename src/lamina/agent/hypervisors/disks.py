"""Disks of servers: qcow2 overlays on images that are kept by their checksum, each server's in a folder of its own.

An image is fetched once, held against its checksum and looked into before anything opens it: a backing file or a data
file in it would let a guest read the host's own files (CVE-2024-32498, CVE-2022-47951). qemu-img is never left to guess a format,
and may use no more memory and time than its work needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from oslo_utils.imageutils import format_inspector

from lamina.agent.commands import run
from lamina.agent.depot import content_of
from lamina.agent.images import Images
from lamina.agent.turns import Turns
from lamina.model import ids
from lamina.model.errors import HypervisorError
from lamina.model.hosts import DomainSpec, ImageSource

GIB = 1 << 30
#: an image that no disk stands on is kept this long, in seconds: the next server is likely to want it
KEEP_IMAGES = 86400.0
#: what qemu-img may take: address space in bytes, processor time in seconds; for a whole disk, time until it is given up
_MEMORY = 4 * GIB
_PROCESSOR = 3600
_WHOLE_DISK = 4 * 3600.0

#: what a declared format may be found to be; a partition table is an ordinary thing on a raw disk
_FOUND_AS = {"qcow2": frozenset({"qcow2"}), "raw": frozenset({"raw", "gpt"})}

#: a program and its arguments, and how long it may take -> what it printed
Program = Callable[[Sequence[str], float], str]


class Disks:
    """Below one folder: ``images/<sha512>`` and ``disks/<server id>/``. Thread-safe for different servers."""

    def __init__(self, state: Path, images: Images, program: Program = run) -> None:
        self._images_folder = state / "images"
        self._disks_folder = state / "disks"
        self._images = images
        self._program = program
        self._fetching = Turns()
        #: images in use by a disk that is being made; the sweep leaves them
        self._wanted: dict[str, int] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------ where things are

    def folder(self, server_id: str) -> Path:
        return self._disks_folder / ids.parse_uuid(server_id)

    def disk(self, server_id: str) -> Path:
        return self.folder(server_id) / "disk.qcow2"

    def rescue_disk(self, server_id: str) -> Path:
        return self.folder(server_id) / "rescue.qcow2"

    def console_log(self, server_id: str) -> Path:
        return self.folder(server_id) / "console.log"

    def config_drive(self, server_id: str) -> Path:
        return self.folder(server_id) / "config.iso"

    # ------------------------------------------------------------------------------------------------ a server's disk

    def ensure(self, spec: DomainSpec) -> Path | None:
        """The server's disk, made from its image the first time, at least as large as asked for; None where it has none.

        The domain must be shut off where the disk has to grow. Raises `HypervisorError` and what fetching an image raises.
        """
        path = self.disk(spec.server_id)
        try:
            self.folder(spec.server_id).mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                if spec.image is None and not spec.disk_gb:
                    return None
                self._make(path, spec)
            elif spec.disk_gb * GIB > _virtual_size(path, "qcow2"):
                self._qemu_img("resize", "-q", "-f", "qcow2", str(path), str(spec.disk_gb * GIB))
            self._look_after_rescue(spec)
        except OSError as error:
            raise HypervisorError(f"The disk of server {spec.server_id} cannot be made: {error.strerror}.") from error
        return path

    def _look_after_rescue(self, spec: DomainSpec) -> None:
        """Made for a rescue, and gone with it."""
        path = self.rescue_disk(spec.server_id)
        if spec.rescue is None:
            path.unlink(missing_ok=True)
        elif not path.exists():
            self._make(path, dataclasses.replace(spec, image=spec.rescue, disk_gb=0))

    def renew(self, spec: DomainSpec) -> None:
        """Another disk in the place of the server's, once it is whole. Raises `HypervisorError` and what fetching an image raises."""
        try:
            self.folder(spec.server_id).mkdir(mode=0o700, parents=True, exist_ok=True)
            if spec.image is not None or spec.disk_gb:
                self._make(self.disk(spec.server_id), spec)
                self._sweep()
        except OSError as error:
            raise HypervisorError(f"The disk of server {spec.server_id} cannot be made: {error.strerror}.") from error

    def _make(self, path: Path, spec: DomainSpec) -> None:
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        if spec.image is None:
            self._qemu_img("create", "-q", "-f", "qcow2", str(draft), str(spec.disk_gb * GIB))
        else:
            with self._image(spec.image) as base:
                size = max(_virtual_size(base, spec.image.format), spec.disk_gb * GIB)
                backing = ("-F", spec.image.format, "-b", str(base))
                self._qemu_img("create", "-q", "-f", "qcow2", *backing, str(draft), str(size))
        _settle(draft, path)

    def remove(self, server_id: str) -> None:
        """Whatever there is of the server's, and images that nobody needs any longer. Raises `HypervisorError`."""
        try:
            if self.folder(server_id).exists():
                shutil.rmtree(self.folder(server_id))
                self._sweep()
        except OSError as error:
            raise HypervisorError(f"The disk of server {server_id} cannot be removed: {error.strerror}.") from error

    @contextlib.contextmanager
    def packed(self, server_id: str) -> Iterator[Path | None]:
        """The disk as one file that needs no other, for as long as the context lasts. Raises `HostError`."""
        path = self.disk(server_id)
        if not path.exists():
            yield None
            return
        with _for_a_while(path.with_suffix(".packed"), server_id) as packed:
            self._qemu_img("convert", "-q", "-f", "qcow2", "-O", "qcow2", str(path), str(packed), patience=_WHOLE_DISK)
            yield packed

    @contextlib.contextmanager
    def copied(self, server_id: str, copy: Callable[[Path], None]) -> Iterator[Path | None]:
        """The same of a disk that a domain has open; `copy` makes the file."""
        path = self.disk(server_id)
        if not path.exists():
            yield None
            return
        with _for_a_while(path.with_suffix(".copied"), server_id) as copied:
            copy(copied)
            yield copied

    @contextlib.contextmanager
    def placed(self, server_id: str) -> Iterator[Path]:
        """Where to write such a file; it becomes the disk when the context ends well."""
        with _for_a_while(self.disk(server_id).with_suffix(".arriving"), server_id) as arriving:
            yield arriving
            _inspect(arriving, "qcow2", f"The disk of server {server_id}")
            _settle(arriving, self.disk(server_id))

    def _qemu_img(self, *arguments: str, patience: float = 60.0) -> None:
        limits = ("prlimit", f"--as={_MEMORY}", f"--cpu={_PROCESSOR}")
        self._program((*limits, "qemu-img", *arguments), patience)

    # ------------------------------------------------------------------------------------------------ images

    @contextlib.contextmanager
    def _image(self, image: ImageSource) -> Iterator[Path]:
        """The image's file, fetched if it is not here yet; it stays for as long as the context lasts."""
        if image.format not in _FOUND_AS:
            raise HypervisorError(f"Disks are made from images in the formats qcow2 and raw; image {image.id} is in {image.format}.")
        path = self._images_folder / _digest(image.sha512)
        with self._lock:
            self._wanted[path.name] = self._wanted.get(path.name, 0) + 1
        try:
            with self._fetching.of(path.name):
                if not path.exists():
                    self._fetch(image, path)
                os.utime(path)
            yield path
        finally:
            with self._lock:
                self._wanted[path.name] -= 1
                if not self._wanted[path.name]:
                    del self._wanted[path.name]

    def _fetch(self, image: ImageSource, path: Path) -> None:
        self._images_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        try:
            draft.unlink(missing_ok=True)
            self._images.fetch(image.id, draft)
            content = content_of(draft)
            if (content.sha512, content.size) != (image.sha512, image.size):
                raise HypervisorError(f"Image {image.id} did not arrive as the control plane has it.")
            _inspect(draft, image.format, f"Image {image.id}")
            draft.chmod(0o400)
            _settle(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove images that no disk stands on and that have not been asked for lately, and what a crash has left. Raises OSError."""
        if not self._images_folder.is_dir():
            return
        standing = {base for disk in self._disks_folder.glob("*/*.qcow2") if (base := _backing(disk)) is not None}
        for path in self._images_folder.iterdir():
            with self._lock:
                in_use = path.stem in self._wanted or path.name in standing
                if not in_use and path.stat().st_mtime < time.time() - KEEP_IMAGES:
                    path.unlink()


@contextlib.contextmanager
def _for_a_while(path: Path, server_id: str) -> Iterator[Path]:
    """A file beside the server's disk that is not there before and after. Raises `HypervisorError`, also where it cannot be removed."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise HypervisorError(f"The disk of server {server_id} cannot be copied or kept: {error.strerror}.") from error


def _digest(said: str) -> str:
    """A file's name is made of it. Raises `HypervisorError`."""
    if len(said) != 128 or set(said) - set("0123456789abcdef"):
        raise HypervisorError("An image came with a checksum that is none.")
    return said


def _inspect(path: Path, declared: str, what: str) -> None:
    """Raises `HypervisorError` for a content that is not what it is declared to be, or that reaches for other files."""
    try:
        inspector = format_inspector.detect_file_format(str(path))
        found = str(inspector)
        if inspector is None or found not in _FOUND_AS[declared]:
            raise HypervisorError(f"{what} is declared to be {declared} and is {found}.")
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        told = "; ".join(f"{name}: {why}" for name, why in sorted(error.failures.items()))
        raise HypervisorError(f"{what} is not safe to open: {told}") from error
    except format_inspector.ImageFormatError as error:
        raise HypervisorError(f"{what} cannot be read as {declared}: {error}") from error


def _virtual_size(path: Path, declared: str) -> int:
    """Of a file that was inspected, in bytes."""
    if declared == "raw":
        return path.stat().st_size
    return int(format_inspector.QcowInspector.from_file(str(path)).virtual_size)


def _backing(disk: Path) -> str | None:
    """The name of the image that a disk of ours stands on (QEMU, docs/interop/qcow2.txt: the header's backing file name)."""
    with disk.open("rb") as file:
        header = file.read(20)
        offset, size = int.from_bytes(header[8:16], "big"), int.from_bytes(header[16:20], "big")
        if not offset or size > 1023:
            return None
        file.seek(offset)
        return Path(os.fsdecode(file.read(size))).name


def _settle(draft: Path, path: Path) -> None:
    """Put a finished file in its place; it is on disk when this returns. Raises OSError."""
    for each in (draft, draft.parent):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if each == draft:
            draft.replace(path)
