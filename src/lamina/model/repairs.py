"""What is repaired, and how long it is looked at before."""

from __future__ import annotations

import dataclasses
import enum

from lamina.model.audit import Event, Target, own


class What(enum.StrEnum):
    """What is out of order."""

    #: a server lacks a vGPU, its domain, or after a reboot of its host its running: the object is the server
    RESTORE = "restore"
    #: a domain was started or stopped outside, and its server tells so now: the object is the server
    POWER_STATE = "power-state"
    #: what a server that was evacuated has left on a host that answers again: the object is the server
    EVACUATED = "evacuated"
    #: a vGPU of ours that no record pays for: the object is the vGPU
    ORPHAN_VGPU = "orphan-vgpu"
    #: a domain of ours whose server is gone or elsewhere: the object is the server
    ORPHAN_DOMAIN = "orphan-domain"
    #: what a server that is gone or a migration that is over still holds: the object is the consumer
    ALLOCATION = "allocation"
    #: a disk in the depot that nobody passes on: the object is the server
    ORPHAN_DISK = "orphan-disk"


#: how a server is remembered that ran when its host went down and that nothing has brought up since
REBOOTED = "rebooted"

#: (what, object) of something that was seen to be out of order
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was done. ``operation_id`` is the saga that does it; None for what was done on the spot."""

    what: What
    host: str | None
    object: str
    server_id: str | None
    why: str
    operation_id: str | None = None

    def event(self, at: float) -> Event:
        """The repair as the audit trail has it; most are told as what they remove."""
        verb = {What.RESTORE: "restore", What.POWER_STATE: "update"}.get(self.what, "delete")
        kinds = {What.ORPHAN_VGPU: "service/fleet/vgpus/vgpu", What.ALLOCATION: "service/placement/allocations/consumer"}
        kind = kinds.get(self.what, "service/compute/servers/server")
        target = Target(kind, self.object, self.server_id if self.server_id != self.object else None)
        return own(at, f"{verb}/lamina:repair:{self.what}", target, why=self.why, host=self.host, operation_id=self.operation_id)
