"""The journal of one host's compute service: what of the machine is Lamina's, written before the machine is touched.

A VF's address is used again by the next server, and an mdev may be anybody's; only the journal tells ours from foreign
ones, and whose it is. One JSON file, replaced whole and flushed to disk at every change.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from lamina.model.errors import Conflict, StaleFence
from lamina.model.hosts import Call, Fence
from lamina.model.ids import PciAddress

#: how long a server's fence is remembered after its last call, in seconds: longer than any call is on its way
REMEMBER_FENCES = 86400.0


class Record(msgspec.Struct, frozen=True):
    """A vGPU of ours: where it stands or is about to stand."""

    uuid: str
    server_id: str
    gpu: PciAddress
    parent: PciAddress
    type: str


class SeenFence(msgspec.Struct, frozen=True):
    epoch: int
    number: int
    at: float


class _Content(msgspec.Struct):
    vgpus: dict[str, Record] = {}
    fences: dict[str, SeenFence] = {}


class Journal:
    """Kept by one process; every change is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        """Raises `Conflict` for a file that cannot be read: starting without it would take our devices for foreign ones."""
        self._path = path
        try:
            self._content = msgspec.json.decode(path.read_bytes(), type=_Content)
        except FileNotFoundError:
            self._content = _Content()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Conflict(f"The journal {path} is damaged ({error}); restore it from a backup, or move it away.") from error

    def records(self) -> dict[str, Record]:
        """The vGPUs of ours, by uuid."""
        return dict(self._content.vgpus)

    @contextlib.contextmanager
    def call(self, call: Call, server_id: str, now: float) -> Iterator[None]:
        """Admit a call about a server. Raises `StaleFence` for one that comes after a newer one.

        The fence is written with the first record the call writes, or at the latest when the call is over.
        """
        fence, seen = call.fence, self._content.fences.get(server_id)
        if seen is not None and fence < Fence(seen.epoch, seen.number):
            raise StaleFence(f"The host has seen a newer operation on server {server_id} than {call.operation_id}.")
        self._content.fences[server_id] = SeenFence(fence.epoch, fence.number, now)
        self._content.fences = {k: f for k, f in self._content.fences.items() if f.at > now - REMEMBER_FENCES}
        self._dirty = True
        try:
            yield
        finally:
            if self._dirty:
                self._write()

    def put(self, records: Iterable[Record]) -> None:
        self._content.vgpus |= {r.uuid: r for r in records}
        self._write()

    def forget(self, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self._content.vgpus.pop(uuid, None)
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(self._content))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._dirty = False
