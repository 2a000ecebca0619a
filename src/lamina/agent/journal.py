"""The journal of one host's compute service: what of the machine is Lamina's, written before the machine is touched.

A VF's address is used again by the next server, and an mdev may be anybody's; only the journal tells ours from foreign
ones, and whose it is. One JSON file, replaced whole and flushed to disk at every change.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from lamina.model import decoding
from lamina.model.errors import BadRequest, Conflict, HostError, StaleFence
from lamina.model.gpus import Framework
from lamina.model.hosts import Call, Fence
from lamina.model.ids import PciAddress

#: how long a server's fence is remembered after its last call, in seconds: longer than any call is on its way
REMEMBER_FENCES = 86400.0


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


class Journal:
    """Kept by one process; every change is on disk when the call returns, or it has not been made at all."""

    def __init__(self, path: Path) -> None:
        """Raises `Conflict` for a file that cannot be read: starting without it would take our devices for foreign ones."""
        self._path = path
        try:
            self._content = decoding.from_json(path.read_bytes(), _Content)
        except FileNotFoundError:
            self._content = _Content()
        except (msgspec.DecodeError, UnicodeDecodeError, BadRequest) as error:
            raise Conflict(f"The journal {path} is damaged ({error}); restore it from a backup, or move it away.") from error
        #: a fence that the file does not have yet
        self._pending: dict[str, SeenFence] = {}

    def records(self) -> Mapping[str, Record]:
        """The vGPUs of ours, by uuid."""
        return self._content.vgpus

    @contextlib.contextmanager
    def call(self, call: Call, server_id: str, now: float) -> Iterator[None]:
        """Admit a call about a server. Raises `StaleFence` for one that comes after a newer one.

        The fence is written with the first record the call writes, or at the latest when the call is over.
        """
        fence, seen = call.fence, self._content.fences.get(server_id)
        if seen is not None and fence < Fence(seen.epoch, seen.number):
            raise StaleFence(f"The host has seen a newer operation on server {server_id} than {call.operation_id}.")
        self._pending = {server_id: SeenFence(fence.epoch, fence.number, now)}
        try:
            yield
        finally:
            if self._pending:
                self._write(self._content.vgpus)

    def put(self, records: Iterable[Record]) -> None:
        """Raises `HostError` where the file cannot be written."""
        self._write(self._content.vgpus | {r.uuid: r for r in records})

    def forget(self, uuids: Collection[str]) -> None:
        """Raises `HostError` where the file cannot be written."""
        if uuids:
            self._write({uuid: r for uuid, r in self._content.vgpus.items() if uuid not in uuids})

    def _write(self, vgpus: dict[str, Record]) -> None:
        fences = self._content.fences | self._pending
        newest = max((f.at for f in self._pending.values()), default=0.0)
        content = _Content(vgpus, {server: f for server, f in fences.items() if f.at > newest - REMEMBER_FENCES})
        try:
            replace_durably(self._path, msgspec.json.encode(content))
        except OSError as error:
            raise HostError(f"The journal {self._path} cannot be written: {error.strerror}.") from error
        self._content, self._pending = content, {}


def replace_durably(path: Path, content: bytes) -> None:
    """Replace a file's content as a whole; it is on disk when this returns. Raises OSError."""
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
