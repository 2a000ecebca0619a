"""Servers and their state machine: one table that the operations obey, the API answers from and the docs print.

States are the Compute API's (Nova: nova/compute/vm_states.py, task_states.py; API guide, "Server concepts").
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from lamina.model.errors import InvalidState
from lamina.model.flavors import Flavor
from lamina.model.hosts import PowerState


class VmState(enum.StrEnum):
    """Where a server rests."""

    BUILDING = "building"
    ACTIVE = "active"
    STOPPED = "stopped"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    RESIZED = "resized"
    RESCUED = "rescued"
    SHELVED_OFFLOADED = "shelved_offloaded"
    ERROR = "error"
    DELETED = "deleted"


class TaskState(enum.StrEnum):
    """What is being done to a server now."""

    SCHEDULING = "scheduling"
    #: waiting for room (`lamina.model.queueing`); no such state is Nova's
    QUEUED = "queued"
    SPAWNING = "spawning"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_FINISH = "resize_finish"
    RESIZE_CONFIRMING = "resize_confirming"
    RESIZE_REVERTING = "resize_reverting"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    REBUILDING = "rebuilding"
    REBUILD_SPAWNING = "rebuild_spawning"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    MIGRATING = "migrating"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_UPLOADING = "image_uploading"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    SHELVING = "shelving"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"
    DELETING = "deleting"


class Action(enum.StrEnum):
    """What a caller may ask of a server; the values are the names of its instance actions."""

    CREATE = "create"
    DELETE = "delete"
    RESIZE = "resize"
    MIGRATE = "migrate"
    LIVE_MIGRATE = "live-migration"
    CONFIRM_RESIZE = "confirmResize"
    REVERT_RESIZE = "revertResize"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    REBUILD = "rebuild"
    EVACUATE = "evacuate"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    CREATE_IMAGE = "createImage"
    CREATE_BACKUP = "createBackup"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    ATTACH_VGPU = "attach_vgpu"
    DETACH_VGPU = "detach_vgpu"
    #: what Lamina does by itself to the servers of a host that came back
    RESTORE = "restore"
    #: and to what a server that was evacuated has left there
    CLEAR_EVACUATED = "clear_evacuated"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """When an action is allowed and what it makes of a server.

    ``task`` is None where the server is not seen to be busy; ``to`` is None where the server comes to rest in the state
    it left. ``interrupts`` marks the one action that need not wait for a running one.
    """

    action: Action
    vm_states: frozenset[VmState]
    task: TaskState | None
    to: VmState | None
    interrupts: bool = False


_RESTING = frozenset({VmState.ACTIVE, VmState.STOPPED})
#: in the middle of what the guest was doing
_HALTED = frozenset({VmState.PAUSED, VmState.SUSPENDED})
_ALL = frozenset(VmState) - {VmState.DELETED}

RULES: dict[Action, Rule] = {
    rule.action: rule
    for rule in (
        Rule(Action.CREATE, frozenset({VmState.BUILDING}), TaskState.SCHEDULING, VmState.ACTIVE),
        Rule(Action.DELETE, _ALL, TaskState.DELETING, VmState.DELETED, interrupts=True),
        Rule(Action.RESIZE, _RESTING, TaskState.RESIZE_PREP, VmState.RESIZED),
        Rule(Action.MIGRATE, _RESTING, TaskState.RESIZE_PREP, VmState.RESIZED),
        Rule(Action.LIVE_MIGRATE, frozenset({VmState.ACTIVE, VmState.PAUSED}), TaskState.MIGRATING, None),
        Rule(Action.CONFIRM_RESIZE, frozenset({VmState.RESIZED}), None, None),
        Rule(Action.REVERT_RESIZE, frozenset({VmState.RESIZED}), TaskState.RESIZE_REVERTING, None),
        Rule(Action.START, frozenset({VmState.STOPPED}), TaskState.POWERING_ON, VmState.ACTIVE),
        Rule(Action.STOP, frozenset({VmState.ACTIVE, VmState.ERROR}), TaskState.POWERING_OFF, VmState.STOPPED),
        Rule(Action.REBOOT, _RESTING | _HALTED | {VmState.ERROR}, TaskState.REBOOTING, VmState.ACTIVE),
        Rule(Action.REBUILD, _RESTING | {VmState.ERROR}, TaskState.REBUILDING, None),
        Rule(Action.EVACUATE, _RESTING | {VmState.ERROR}, TaskState.REBUILDING, None),
        Rule(Action.PAUSE, frozenset({VmState.ACTIVE}), TaskState.PAUSING, VmState.PAUSED),
        Rule(Action.UNPAUSE, frozenset({VmState.PAUSED}), TaskState.UNPAUSING, VmState.ACTIVE),
        Rule(Action.SUSPEND, frozenset({VmState.ACTIVE}), TaskState.SUSPENDING, VmState.SUSPENDED),
        Rule(Action.RESUME, frozenset({VmState.SUSPENDED}), TaskState.RESUMING, VmState.ACTIVE),
        Rule(Action.CREATE_IMAGE, _RESTING | _HALTED, TaskState.IMAGE_SNAPSHOT_PENDING, None),
        Rule(Action.CREATE_BACKUP, _RESTING | _HALTED, TaskState.IMAGE_SNAPSHOT_PENDING, None),
        Rule(Action.RESCUE, _RESTING | {VmState.ERROR}, TaskState.RESCUING, VmState.RESCUED),
        Rule(Action.UNRESCUE, frozenset({VmState.RESCUED}), TaskState.UNRESCUING, VmState.ACTIVE),
        Rule(Action.SHELVE, _RESTING | _HALTED, TaskState.SHELVING, VmState.SHELVED_OFFLOADED),
        Rule(Action.UNSHELVE, frozenset({VmState.SHELVED_OFFLOADED}), TaskState.UNSHELVING, VmState.ACTIVE),
        Rule(Action.ATTACH_VGPU, _RESTING, None, None),
        Rule(Action.DETACH_VGPU, _RESTING, None, None),
        Rule(Action.RESTORE, _RESTING | _HALTED | {VmState.RESIZED, VmState.RESCUED, VmState.ERROR}, None, None),
        Rule(Action.CLEAR_EVACUATED, frozenset(VmState), None, None),
    )
}

#: (vm_state, task_state) -> the status clients see; a pair that is not listed shows the vm_state's own
_STATUS: dict[VmState, str] = {
    VmState.BUILDING: "BUILD",
    VmState.ACTIVE: "ACTIVE",
    VmState.STOPPED: "SHUTOFF",
    VmState.PAUSED: "PAUSED",
    VmState.SUSPENDED: "SUSPENDED",
    VmState.RESIZED: "VERIFY_RESIZE",
    VmState.RESCUED: "RESCUE",
    VmState.SHELVED_OFFLOADED: "SHELVED_OFFLOADED",
    VmState.ERROR: "ERROR",
    VmState.DELETED: "DELETED",
}
_STATUS_BUSY: dict[TaskState, tuple[frozenset[VmState], str]] = {
    TaskState.RESIZE_PREP: (_RESTING, "RESIZE"),
    TaskState.RESIZE_MIGRATING: (_RESTING, "RESIZE"),
    TaskState.RESIZE_FINISH: (_RESTING, "RESIZE"),
    TaskState.RESIZE_REVERTING: (frozenset({VmState.RESIZED}), "REVERT_RESIZE"),
    TaskState.MIGRATING: (frozenset({VmState.ACTIVE, VmState.PAUSED}), "MIGRATING"),
    TaskState.REBOOTING: (frozenset({VmState.ACTIVE}), "REBOOT"),
    TaskState.REBUILDING: (_RESTING | {VmState.ERROR}, "REBUILD"),
    TaskState.REBUILD_SPAWNING: (_RESTING | {VmState.ERROR}, "REBUILD"),
    TaskState.REBOOTING_HARD: (frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.ERROR}), "HARD_REBOOT"),
}


def status(vm_state: VmState, task_state: TaskState | None) -> str:
    """The ``status`` of the Compute API (Nova: nova/api/openstack/common.py, status_from_state)."""
    if task_state in _STATUS_BUSY:
        states, shown = _STATUS_BUSY[task_state]
        if vm_state in states:
            return shown
    return _STATUS[vm_state]


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Why a server is in ERROR, for a person to read."""

    code: int
    message: str
    created_at: float
    details: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A server as recorded. Times are seconds since the epoch."""

    id: str
    generation: int
    name: str
    hostname: str
    project_id: str
    user_id: str
    reservation_id: str
    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    host: str | None
    zone: str | None
    flavor: Flavor
    image_id: str | None
    created_at: float
    updated_at: float
    description: str | None = None
    key_name: str | None = None
    #: of the keypair as it was when the server was made
    public_key: str | None = None
    user_data: str | None = None
    config_drive: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()
    fault: Fault | None = None
    locked: bool = False
    locked_reason: str | None = None
    #: ``owner`` or ``admin``: what an administrator locked, its owner cannot unlock
    locked_by: str | None = None
    #: the image that its disk is kept as while it is shelved
    shelved_image_id: str | None = None
    #: the image that it boots from while it is rescued
    rescue_image_id: str | None = None
    #: the availability zone it was asked to stay in
    pinned_zone: str | None = None
    launched_at: float | None = None
    terminated_at: float | None = None
    deleted_at: float | None = None

    @property
    def status(self) -> str:
        return status(self.vm_state, self.task_state)

    @property
    def progress(self) -> int:
        return 100 if self.vm_state is VmState.ACTIVE and self.task_state is None else 0

    def must_allow(self, action: Action) -> Rule:
        """The rule of `action` if the server's state allows it now. Raises `InvalidState` that names the state."""
        rule = RULES[action]
        if self.vm_state not in rule.vm_states:
            raise InvalidState(f"Cannot '{action}' instance {self.id} while it is in vm_state {self.vm_state}")
        if self.task_state is not None and not rule.interrupts:
            raise InvalidState(f"Cannot '{action}' instance {self.id} while it is in task_state {self.task_state}")
        return rule


class MigrationStatus(enum.StrEnum):
    """Where a resize or a migration stands (Nova: the statuses of os-migrations)."""

    PRE_MIGRATING = "pre-migrating"
    MIGRATING = "migrating"
    POST_MIGRATING = "post-migrating"
    FINISHED = "finished"
    CONFIRMING = "confirming"
    CONFIRMED = "confirmed"
    REVERTING = "reverting"
    REVERTED = "reverted"
    ERROR = "error"
    #: of migrations that nobody confirms
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    #: of live migrations alone
    PREPARING = "preparing"
    RUNNING = "running"
    CANCELLED = "cancelled"
    #: of evacuations alone; of one that is done, the host that the server has left is not cleared yet
    DONE = "done"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether such a migration no longer holds anything."""
        return self in _OVER

    @property
    def has_arrived(self) -> bool:
        """Whether the server of such a migration is in one place."""
        return self.is_over or self is MigrationStatus.DONE


_OVER = frozenset(
    {
        MigrationStatus.CONFIRMED,
        MigrationStatus.REVERTED,
        MigrationStatus.ERROR,
        MigrationStatus.COMPLETED,
        MigrationStatus.CANCELLED,
        MigrationStatus.FAILED,
    }
)
#: the types of migrations that nobody confirms
LIVE_MIGRATION, EVACUATION = "live-migration", "evacuation"


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """One move of a server; a resize is one. ``id`` is also the consumer that holds the source's allocation."""

    seq: int
    id: str
    server_id: str
    type: str
    status: MigrationStatus
    source_host: str
    dest_host: str | None
    old_flavor: Flavor
    new_flavor: Flavor
    old_vm_state: VmState
    project_id: str
    user_id: str
    created_at: float
    updated_at: float
    #: of a live migration: bytes of memory and disk, by the names that the Compute API has for them
    progress: dict[str, int] | None = None


def transition_table() -> list[dict[str, Any]]:
    """The rules as rows for the documentation: action, from, task, to."""
    return [
        {
            "action": str(rule.action),
            "from": ", ".join(sorted(rule.vm_states)),
            "task_state": str(rule.task or "-"),
            "to": str(rule.to or "as before"),
            "while busy": "yes" if rule.interrupts else "no",
        }
        for rule in RULES.values()
    ]
