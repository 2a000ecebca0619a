"""The server state machine: every action in every state, exactly as the table says."""

from __future__ import annotations

import itertools

import pytest

from lamina.model.errors import InvalidState
from lamina.model.flavors import Flavor
from lamina.model.hosts import PowerState
from lamina.model.servers import RULES, Action, Server, TaskState, VmState, status, transition_table


def server(vm_state: VmState, task_state: TaskState | None = None) -> Server:
    return Server(
        id="s",
        generation=0,
        name="s",
        hostname="s",
        project_id="p",
        user_id="u",
        reservation_id="r",
        vm_state=vm_state,
        task_state=task_state,
        power_state=PowerState.RUNNING,
        host="h",
        zone=None,
        flavor=Flavor("f", "f", 1, 1, 1),
        image_id=None,
        created_at=0.0,
        updated_at=0.0,
    )


@pytest.mark.parametrize("action", Action)
def test_every_action_in_every_state(action: Action) -> None:
    rule = RULES[action]
    for vm_state, task_state in itertools.product(VmState, [None, *TaskState]):
        subject = server(vm_state, task_state)
        if vm_state not in rule.vm_states:
            with pytest.raises(InvalidState, match=f"vm_state {vm_state}"):
                subject.must_allow(action)
        elif task_state is not None and action is not Action.DELETE:
            with pytest.raises(InvalidState, match=f"task_state {task_state}"):
                subject.must_allow(action)
        else:
            assert subject.must_allow(action) is rule


def test_a_server_can_be_deleted_in_every_state_but_deleted() -> None:
    assert RULES[Action.DELETE].vm_states == set(VmState) - {VmState.DELETED}


@pytest.mark.parametrize(
    ("vm_state", "task_state", "shown"),
    [
        (VmState.BUILDING, TaskState.SCHEDULING, "BUILD"),
        (VmState.BUILDING, TaskState.DELETING, "BUILD"),
        (VmState.ACTIVE, None, "ACTIVE"),
        (VmState.ACTIVE, TaskState.POWERING_OFF, "ACTIVE"),
        (VmState.ACTIVE, TaskState.RESIZE_PREP, "RESIZE"),
        (VmState.STOPPED, TaskState.RESIZE_MIGRATING, "RESIZE"),
        (VmState.ACTIVE, TaskState.RESIZE_FINISH, "RESIZE"),
        (VmState.RESIZED, None, "VERIFY_RESIZE"),
        (VmState.RESIZED, TaskState.RESIZE_REVERTING, "REVERT_RESIZE"),
        (VmState.ACTIVE, TaskState.REBOOTING, "REBOOT"),
        (VmState.STOPPED, TaskState.REBOOTING_HARD, "HARD_REBOOT"),
        (VmState.STOPPED, None, "SHUTOFF"),
        (VmState.PAUSED, TaskState.UNPAUSING, "PAUSED"),
        (VmState.SUSPENDED, None, "SUSPENDED"),
        (VmState.ERROR, None, "ERROR"),
        (VmState.ERROR, TaskState.REBOOTING, "ERROR"),
        (VmState.DELETED, None, "DELETED"),
    ],
)
def test_the_status_clients_see(vm_state: VmState, task_state: TaskState | None, shown: str) -> None:
    assert status(vm_state, task_state) == shown


def test_the_table_has_a_row_for_every_action() -> None:
    assert [row["action"] for row in transition_table()] == [str(action) for action in RULES]
    assert RULES.keys() == set(Action)
