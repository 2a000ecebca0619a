"""Definitions: mdevs that the host itself makes whenever their parent appears, kept by mdevctl as libvirt does.

Source: mdevctl(8). A definition lies in ``/etc/mdevctl.d/<parent>/<uuid>``; mdevctl's udev rule starts those that say
``auto`` once the parent is registered, and libvirt lists them as node devices.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from lamina.agent.commands import Command
from lamina.model import decoding
from lamina.model.errors import DeviceRefused, HostError
from lamina.model.ids import PciAddress


class Definitions(Protocol):
    """Where a host keeps the mdevs that it makes at boot."""

    def define(self, uuid: str, parent: PciAddress, type_id: str) -> None:
        """Have the mdev made at every boot; one that is defined so already stays. Raises `DeviceRefused`."""
        ...

    def undefine(self, uuid: str, parent: PciAddress) -> None:
        """Have it made no more. Raises `DeviceRefused`."""
        ...


class _Definition(msgspec.Struct):
    mdev_type: str
    start: str


_Listing = list[dict[str, list[dict[str, _Definition]]]]


class Mdevctl:
    """mdevctl's definitions, by its own command."""

    def __init__(self, run: Command) -> None:
        self._run = run

    def define(self, uuid: str, parent: PciAddress, type_id: str) -> None:
        defined = self._defined(uuid, parent)
        if defined == (type_id, "auto"):
            return
        if defined is not None:
            self.undefine(uuid, parent)
        self._do(f"define the vGPU {uuid}", "define", "--auto", "--uuid", uuid, "--parent", str(parent), "--type", type_id)

    def undefine(self, uuid: str, parent: PciAddress) -> None:
        if self._defined(uuid, parent) is not None:
            self._do(f"forget the vGPU {uuid}", "undefine", "--uuid", uuid, "--parent", str(parent))

    def _defined(self, uuid: str, parent: PciAddress) -> tuple[str, str] | None:
        """Type id and start mode of a definition, or None."""
        # all of them: what is printed for one alone has another form
        listed = self._do("list its definitions", "list", "--defined", "--dumpjson")
        try:
            parents = decoding.from_json(listed.strip() or "[]", _Listing)
        except msgspec.DecodeError as error:
            raise DeviceRefused(f"mdevctl's list of definitions cannot be read: {error}") from error
        for by_parent in parents:
            for by_uuid in by_parent.get(str(parent), []):
                if uuid in by_uuid:
                    return by_uuid[uuid].mdev_type, by_uuid[uuid].start
        return None

    def _do(self, what: str, *arguments: str) -> str:
        try:
            return self._run(("mdevctl", *arguments))
        except HostError as error:
            raise DeviceRefused(f"mdevctl could not {what}: {error.message}") from error
