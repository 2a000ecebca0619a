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
from lamina.api.routing import MEMBER, Reply, Request, Route, Version
from lamina.model import decoding
from lamina.model.errors import BadRequest, Forbidden, NotFound, NotImplementedHere
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
    if server.locked_by == ADMINISTRATOR and not request.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.")
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
    """``admin_rule`` is Nova's name of the rule that keeps it to administrators; ``locked`` allowed on a locked server too."""

    act: Callable[[Request, Server, Any], Reply]
    admin_rule: str | None = None
    locked: bool = False


ACTIONS: dict[str, ServerAction] = {
    "resize": ServerAction(_resize),
    "confirmResize": ServerAction(_confirm),
    "revertResize": ServerAction(_revert),
    "migrate": ServerAction(_migrate, admin_rule="os_compute_api:os-migrate-server:migrate"),
    "os-migrateLive": ServerAction(
        server_live_migrations.live_migrate, admin_rule="os_compute_api:os-migrate-server:migrate_live"
    ),
    "evacuate": ServerAction(server_evacuations.evacuate, admin_rule="os_compute_api:os-evacuate"),
    "os-start": ServerAction(_power(PowerAction.ON, "os-start")),
    "os-stop": ServerAction(_power(PowerAction.OFF, "os-stop")),
    "pause": ServerAction(_begins(pause.pause, "pause")),
    "reboot": ServerAction(_reboot),
    "rebuild": ServerAction(server_rebuilds.rebuild),
    "rescue": ServerAction(server_rescues.rescue),
    "unrescue": ServerAction(_begins(rescue.unrescue, "unrescue")),
    "resume": ServerAction(_begins(suspend.resume, "resume")),
    "createImage": ServerAction(server_images.create_image),
    "createBackup": ServerAction(server_images.create_backup),
    "shelve": ServerAction(_begins(shelve.request, "shelve")),
    "shelveOffload": ServerAction(server_shelving.offload, admin_rule="os_compute_api:os-shelve:shelve_offload"),
    "unshelve": ServerAction(server_shelving.unshelve),
    "suspend": ServerAction(_begins(suspend.suspend, "suspend")),
    "unpause": ServerAction(_begins(pause.unpause, "unpause")),
    "lock": ServerAction(_lock, locked=True),
    "unlock": ServerAction(_unlock, locked=True),
    "forceDelete": ServerAction(_force_delete),
    "os-resetState": ServerAction(_reset_state, admin_rule="os_compute_api:os-admin-actions:reset_state", locked=True),
    "os-getConsoleOutput": ServerAction(server_consoles.output, locked=True),
    **{name: ServerAction(server_consoles.of_old(name), locked=True) for name in server_consoles.PROTOCOL_OF_ACTION},
}
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
    if action.admin_rule is not None and not request.context.is_admin:
        raise Forbidden(f"Policy doesn't allow {action.admin_rule} to be performed.")
    if not action.locked:
        must_be_unlocked(request, server)
    return action.act(request, server, value)


ROUTES = (Route("POST", "/servers/{server}/action", act, "os_compute_api:servers:action", MEMBER),)
