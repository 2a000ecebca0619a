"""Actions on a server: one call whose body's only key says which (Compute API reference, "Servers - run an action")."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from lamina.api.compute import (
    server_consoles,
    server_evacuations,
    server_images,
    server_live_migrations,
    server_rebuilds,
    server_rescues,
    server_shelving,
)
from lamina.api.compute.answers import read
from lamina.api.compute.server_requests import find_flavor, must_be_manual_or_auto
from lamina.api.compute.servers import caller_of, find, must_be_unlocked
from lamina.api.routing import ADMIN, MANAGER, MEMBER, Reply, Request, Route, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest, NotFound, NotImplementedHere
from lamina.model.hosts import PowerAction
from lamina.model.servers import Server, VmState
from lamina.operations import confirm, delete, pause, power, rescue, reset_state, resize, revert, shelve, suspend
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import hosts
from lamina.store import servers as store

LOCKED_REASON = Version(2, 73)
NAMED_HOST = Version(2, 56)
OWNER, ADMINISTRATOR = "owner", "admin"
_UNLOCK_OVERRIDE = "os_compute_api:os-lock-server:unlock:unlock_override"
_TO_HOST = "os_compute_api:os-migrate-server:migrate:host"


class Resize(msgspec.Struct, forbid_unknown_fields=True):
    flavor: str | int = msgspec.field(name="flavorRef")
    disk_config: str | None = msgspec.field(default=None, name="OS-DCF:diskConfig")


class Reboot(msgspec.Struct, forbid_unknown_fields=True):
    type: str


class Migrate(msgspec.Struct, forbid_unknown_fields=True):
    host: str | None = None


class ResetState(msgspec.Struct, forbid_unknown_fields=True):
    state: Literal["active", "error"]


class Lock(msgspec.Struct, forbid_unknown_fields=True):
    locked_reason: str | None = None


def _parsed(value: Any, model: type[Any], action: str) -> Any:
    try:
        return decoding.from_plain(value, model)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for {action}: {error}") from error


def _nothing(value: Any, action: str) -> None:
    if value not in (None, {}):
        raise BadRequest(f"{action}: this action takes null")


def _resize(request: Request, server: Server, value: Any) -> Reply:
    wanted = _parsed(value, Resize, "resize")
    must_be_manual_or_auto(wanted.disk_config)
    with request.plane.db.read() as tx:
        flavor = find_flavor(tx, request, wanted.flavor)
    resize.request(request.plane, caller_of(request), server.id, flavor)
    return Reply(202)


def _confirm(request: Request, server: Server, value: Any) -> Reply:
    _nothing(value, "confirmResize")
    try:
        confirm.request(request.plane, caller_of(request), server.id)
    except NotFound as error:
        raise BadRequest(error.message) from error
    return Reply(204)


def _revert(request: Request, server: Server, value: Any) -> Reply:
    _nothing(value, "revertResize")
    try:
        revert.request(request.plane, caller_of(request), server.id)
    except NotFound as error:
        raise BadRequest(error.message) from error
    return Reply(202)


def _migrate(request: Request, server: Server, value: Any) -> Reply:
    wanted = _parsed({} if value is None else value, Migrate, "migrate")
    if wanted.host is not None:
        if request.version < NAMED_HOST:
            raise BadRequest(f"migrate.host: a host can be named from version {NAMED_HOST} on")
        request.enforce(_TO_HOST)
        with request.plane.db.read() as tx:
            if hosts.find_host(tx, wanted.host) is None:
                raise BadRequest(f"migrate.host: Compute host {wanted.host[:80]} could not be found.")
    resize.request_migration(request.plane, caller_of(request), server.id, host=wanted.host)
    return Reply(202)


def _power(action: PowerAction, name: str) -> Callable[[Request, Server, Any], Reply]:
    def act(request: Request, server: Server, value: Any) -> Reply:
        _nothing(value, name)
        power.request(request.plane, caller_of(request), server.id, action)
        return Reply(202)

    return act


def _begins(begin: Callable[[ControlPlane, Caller, str], None], name: str) -> Callable[[Request, Server, Any], Reply]:
    """An action that takes nothing and is only accepted."""

    def act(request: Request, server: Server, value: Any) -> Reply:
        _nothing(value, name)
        begin(request.plane, caller_of(request), server.id)
        return Reply(202)

    return act


def _reboot(request: Request, server: Server, value: Any) -> Reply:
    kinds = {"SOFT": PowerAction.SOFT_REBOOT, "HARD": PowerAction.HARD_REBOOT}
    said = _parsed(value, Reboot, "reboot").type.upper()
    if said not in kinds:
        raise BadRequest("reboot.type: either 'SOFT' or 'HARD'")
    power.request(request.plane, caller_of(request), server.id, kinds[said])
    return Reply(202)


def _locker(request: Request, server: Server) -> str:
    """Who locks: the server's own project, or an administrator from outside (nova/compute/api.py, lock)."""
    return OWNER if request.context.project_id == server.project_id else ADMINISTRATOR


def _lock(request: Request, server: Server, value: Any) -> Reply:
    reason = _parsed({} if value is None else value, Lock, "lock").locked_reason
    if reason is not None and (request.version < LOCKED_REASON or not 1 <= len(reason) <= 255):
        raise BadRequest(f"lock.locked_reason: 1 to 255 characters, from version {LOCKED_REASON} on")
    with request.plane.db.write() as tx:
        by = _locker(request, server)
        if not (server.locked and by == OWNER):  # an owner's word does not replace an administrator's
            store.update(tx, server.id, request.plane.clock.now(), locked=True, locked_by=by, locked_reason=reason)
    return Reply(202)


def _unlock(request: Request, server: Server, value: Any) -> Reply:
    _nothing(value, "unlock")
    if server.locked_by == ADMINISTRATOR:
        request.enforce(_UNLOCK_OVERRIDE)
    with request.plane.db.write() as tx:
        store.update(tx, server.id, request.plane.clock.now(), locked=False, locked_by=None, locked_reason=None)
    return Reply(202)


def _reset_state(request: Request, server: Server, value: Any) -> Reply:
    state = _parsed(value, ResetState, "os-resetState").state
    reset_state.reset(request.plane, server.id, VmState(state))
    return Reply(202)


def _force_delete(request: Request, server: Server, value: Any) -> Reply:
    _nothing(value, "forceDelete")
    delete.request(request.plane, caller_of(request), server.id)
    return Reply(202)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerAction:
    """``rule`` and ``check`` are Nova's name of its rule and the default; ``locked``: allowed on a locked server too."""

    act: Callable[[Request, Server, Any], Reply]
    rule: str
    check: str = MEMBER
    locked: bool = False


ACTIONS: dict[str, ServerAction] = {
    "resize": ServerAction(_resize, "os_compute_api:servers:resize"),
    "confirmResize": ServerAction(_confirm, "os_compute_api:servers:confirm_resize"),
    "revertResize": ServerAction(_revert, "os_compute_api:servers:revert_resize"),
    "migrate": ServerAction(_migrate, "os_compute_api:os-migrate-server:migrate", MANAGER),
    "os-migrateLive": ServerAction(
        server_live_migrations.live_migrate, "os_compute_api:os-migrate-server:migrate_live", MANAGER
    ),
    "evacuate": ServerAction(server_evacuations.evacuate, "os_compute_api:os-evacuate", ADMIN),
    "os-start": ServerAction(_power(PowerAction.ON, "os-start"), "os_compute_api:servers:start"),
    "os-stop": ServerAction(_power(PowerAction.OFF, "os-stop"), "os_compute_api:servers:stop"),
    "pause": ServerAction(_begins(pause.pause, "pause"), "os_compute_api:os-pause-server:pause"),
    "unpause": ServerAction(_begins(pause.unpause, "unpause"), "os_compute_api:os-pause-server:unpause"),
    "reboot": ServerAction(_reboot, "os_compute_api:servers:reboot"),
    "rebuild": ServerAction(server_rebuilds.rebuild, "os_compute_api:servers:rebuild"),
    "rescue": ServerAction(server_rescues.rescue, "os_compute_api:os-rescue"),
    "unrescue": ServerAction(_begins(rescue.unrescue, "unrescue"), "os_compute_api:os-unrescue"),
    "suspend": ServerAction(_begins(suspend.suspend, "suspend"), "os_compute_api:os-suspend-server:suspend"),
    "resume": ServerAction(_begins(suspend.resume, "resume"), "os_compute_api:os-suspend-server:resume"),
    "createImage": ServerAction(server_images.create_image, "os_compute_api:servers:create_image"),
    "createBackup": ServerAction(server_images.create_backup, "os_compute_api:os-create-backup"),
    "shelve": ServerAction(_begins(shelve.request, "shelve"), "os_compute_api:os-shelve:shelve"),
    "shelveOffload": ServerAction(server_shelving.offload, "os_compute_api:os-shelve:shelve_offload", ADMIN),
    "unshelve": ServerAction(server_shelving.unshelve, "os_compute_api:os-shelve:unshelve"),
    "lock": ServerAction(_lock, "os_compute_api:os-lock-server:lock", locked=True),
    "unlock": ServerAction(_unlock, "os_compute_api:os-lock-server:unlock", locked=True),
    "forceDelete": ServerAction(_force_delete, "os_compute_api:os-deferred-delete:force"),
    "os-resetState": ServerAction(_reset_state, "os_compute_api:os-admin-actions:reset_state", ADMIN, locked=True),
    "os-getConsoleOutput": ServerAction(server_consoles.output, "os_compute_api:os-console-output", locked=True),
    **{
        name: ServerAction(server_consoles.of_old(name), "os_compute_api:os-remote-consoles", locked=True)
        for name in server_consoles.PROTOCOL_OF_ACTION
    },
}
#: rules that are asked for what stands within some actions
_WITHIN = dict.fromkeys((_UNLOCK_OVERRIDE, _TO_HOST, server_live_migrations.TO_HOST, server_shelving.TO_HOST), ADMIN)
#: documented, and not done here
NOT_HERE = frozenset(
    {"addFixedIp", "addFloatingIp", "addSecurityGroup", "changePassword"}
    | {"injectNetworkInfo", "removeFixedIp", "removeFloatingIp"}
    | {"removeSecurityGroup", "resetNetwork", "restore", "trigger_crash_dump"}
)


def act(request: Request) -> Reply:
    """Raises `BadRequest`, `Forbidden`, `NotFound`, `Conflict`, `NotImplementedHere`."""
    body = read(request, dict[str, Any])
    if len(body) != 1:
        raise BadRequest("A server's action is one key, which names it, and its value.")
    ((name, value),) = body.items()
    with request.plane.db.read() as tx:
        server = find(tx, request)
    if name in NOT_HERE:
        raise NotImplementedHere(f"The action {name} is not available here.")
    action = ACTIONS.get(name)
    if action is None:
        raise BadRequest(f"There is no such action: {name[:80]}")
    request.enforce(action.rule)
    if not action.locked:
        must_be_unlocked(request, server)
    return action.act(request, server, value)


_ASKS = {action.rule: action.check for action in ACTIONS.values()} | _WITHIN
ROUTES = (
    Route(
        "POST",
        "/servers/{server}/action",
        act,
        "os_compute_api:servers:action",
        MEMBER,
        asks=_ASKS,
        takes=(dict[str, Any],),
        gives=(200, 202, 204),
        refuses=(501,),
        actions={*ACTIONS, *NOT_HERE},
    ),
)
