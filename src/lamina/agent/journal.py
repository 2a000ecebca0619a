"""The journal of one host's compute service: what of the machine is Lamina's, written before the machine is touched.

A VF's address is used again by the next server, and an mdev may be anybody's; only the journal tells ours from foreign
ones, and whose it is. One JSON file, replaced whole and flushed to disk at every change.

Each record is read by itself. One that cannot be read is set aside, in the file as in memory, and keeps nobody from starting.
A server's fence that cannot be read counts as the highest there has been, so that whatever came before is refused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lamina.model import decoding
from lamina.model.errors import BadRequest, Conflict, HostError, StaleFence
from lamina.model.gpus import Framework
from lamina.model.hosts import Call, Fence
from lamina.model.ids import PciAddress

#: how long a server's fence is remembered after its last call, in seconds: longer than any call is on its way
REMEMBER_FENCES = 86400.0
#: a call number that none is given
HIGHEST = 2**62


class Record(msgspec.Struct, frozen=True):
    """A vGPU of ours: where it stands or is about to stand. ``type_id`` is the kernel's word for ``type``.

    ``boot_id`` is that of the boot it was made in: no vGPU outlives one, and what a VF holds in the next is somebody else's.
    """

    uuid: str
    server_id: str
    framework: Framework
    gpu: PciAddress
    parent: PciAddress
    type: str
    type_id: str
    boot_id: str
    #: on a card with slots: the one it starts at, and in MIG mode the profile of the GPU instance that is made for it
    placement: int | None = None
    profile: int | None = None


class SeenFence(msgspec.Struct, frozen=True):
    epoch: int
    number: int
    at: float


class _Content(msgspec.Struct, frozen=True):
    vgpus: dict[str, Record] = {}
    fences: dict[str, SeenFence] = {}
    #: by uuid, as they were read: records that are none
    set_aside: dict[str, msgspec.Raw] = {}
    #: the highest of all fences that there have been
    epoch: int = 0


class _File(msgspec.Struct, frozen=True):
    vgpus: dict[str, msgspec.Raw] = {}
    fences: dict[str, msgspec.Raw] = {}
    set_aside: dict[str, msgspec.Raw] = {}
    epoch: int = 0


T = TypeVar("T")
_DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, BadRequest)


def _each(raw: Mapping[str, msgspec.Raw], kind: type[T]) -> tuple[dict[str, T], dict[str, msgspec.Raw]]:
    """Those that can be read, and those that cannot."""
    good: dict[str, T] = {}
    bad: dict[str, msgspec.Raw] = {}
    for key, text in raw.items():
        try:
            good[key] = decoding.from_json(bytes(text), kind)
        except _DAMAGE:
            bad[key] = text.copy()
    return good, bad


def _content(file: _File) -> _Content:
    vgpus, damaged = _each(file.vgpus, Record)
    # one under another's uuid is neither
    swapped = {uuid for uuid, record in vgpus.items() if record.uuid != uuid}
    damaged |= {uuid: file.vgpus[uuid].copy() for uuid in swapped}
    fences, unreadable = _each(file.fences, SeenFence)
    epoch = max((file.epoch, *(fence.epoch for fence in fences.values())))
    fences |= dict.fromkeys(unreadable, SeenFence(epoch, HIGHEST, time.time()))
    kept = {uuid: record for uuid, record in vgpus.items() if uuid not in swapped}
    return _Content(kept, fences, {uuid: raw.copy() for uuid, raw in file.set_aside.items()} | damaged, epoch)


class Journal:
    """Kept by one process; every change is on disk when the call returns, or it has not been made at all.

    What a restart would read is what is true: a change that failed and can't be taken out of the file again holds in memory too.
    """

    def __init__(self, path: Path) -> None:
        """Raises `Conflict` for a file that is no journal: starting without it would take all our devices for foreign ones."""
        self.path = path
        try:
            self._content = _content(decoding.from_json(path.read_bytes(), _File))
        except FileNotFoundError:
            self._content = _Content()
        except _DAMAGE as error:
            raise Conflict(f"The journal {path} is damaged ({error}); restore it from a backup, or move it away.") from error
        #: fences that the file does not have yet: that of the call under way, and those whose writing failed
        self._pending: dict[str, SeenFence] = {}

    def records(self) -> Mapping[str, Record]:
        """The vGPUs of ours, by uuid."""
        return self._content.vgpus

    @property
    def epoch(self) -> int:
        """The highest epoch of all calls that were ever admitted here; 0 before the first."""
        return max((self._content.epoch, *(fence.epoch for fence in self._pending.values())))

    def set_aside(self) -> dict[str, dict[str, Any]]:
        """What can still be read of each record that is damaged, by the uuid that it stands under."""
        found: dict[str, dict[str, Any]] = {}
        for uuid, raw in self._content.set_aside.items():
            try:
                value = msgspec.json.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                value = None
            found[uuid] = value if isinstance(value, dict) else {}
        return found

    @contextlib.contextmanager
    def call(self, call: Call, server_id: str, now: float) -> Iterator[None]:
        """Admit a call about a server. Raises `StaleFence` for one that comes after a newer one.

        The fence is written with the first record the call writes, or at the latest when the call is over. Where it cannot be
        written this process knows it all the same: its server's next operation may be on its way back already.
        """
        fence, seen = call.fence, self._pending.get(server_id) or self._content.fences.get(server_id)
        if seen is not None and fence < Fence(seen.epoch, seen.number):
            raise StaleFence(f"The host has seen a newer operation on server {server_id} than {call.operation_id}.")
        self._pending[server_id] = SeenFence(fence.epoch, fence.number, now)
        try:
            yield
        finally:
            if self._pending:
                self._write(self._content.vgpus)

    def put(self, records: Iterable[Record]) -> None:
        """What was set aside under the same uuid is no longer. Raises `HostError` where the file cannot be written."""
        self._write(self._content.vgpus | {r.uuid: r for r in records})

    def forget(self, uuids: Collection[str]) -> None:
        """Raises `HostError` where the file cannot be written."""
        if uuids:
            self._write({uuid: r for uuid, r in self._content.vgpus.items() if uuid not in uuids})

    def _write(self, vgpus: dict[str, Record]) -> None:
        fences = self._content.fences | self._pending
        newest = max((f.at for f in self._pending.values()), default=0.0)
        kept = {server: f for server, f in fences.items() if f.at > newest - REMEMBER_FENCES}
        set_aside = {uuid: raw for uuid, raw in self._content.set_aside.items() if uuid not in vgpus}
        content = _Content(vgpus, kept, set_aside, self.epoch)
        try:
            replace_durably(self.path, msgspec.json.encode(content))
        except OSError as error:
            self._take_back(content)
            raise HostError(f"The journal {self.path} cannot be written: {error.strerror}.") from error
        self._content, self._pending = content, {}

    def _take_back(self, content: _Content) -> None:
        """The file may have been replaced before its writing failed. It is given the content from before, or memory follows it."""
        if self._file_has(content):
            with contextlib.suppress(OSError):  # the file itself tells whether this came to something
                replace_durably(self.path, msgspec.json.encode(self._content))
            if self._file_has(content):
                self._content, self._pending = content, {}

    def _file_has(self, content: _Content) -> bool:
        """A file that cannot be read counts as not replaced: memory keeps what is known to have been written."""
        with contextlib.suppress(OSError):
            return self.path.read_bytes() == msgspec.json.encode(content)
        return False


def replace_durably(path: Path, content: bytes) -> None:
    """Replace a file's content as a whole, for its owner's eyes only; it is on disk when this returns. Raises OSError."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
