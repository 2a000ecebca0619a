"""Consoles of a server: what it wrote to its serial port, and where its display is served.

There is no proxy for browsers here: the address of a console is the hypervisor's own, for a viewer that can reach the
host. Sources: Compute API reference, "Show Console Output" and "Create Console"; nova/api/validation and
nova/api/openstack/compute/remote_consoles.py for which protocol goes with which type.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lamina.api.compute.answers import read
from lamina.api.compute.servers import find
from lamina.api.routing import MEMBER, Reply, Request, Route, Version
from lamina.hosts.directory import Compute
from lamina.model import decoding
from lamina.model.errors import BadRequest, Conflict, HypervisorError, NotFound
from lamina.model.hosts import Console
from lamina.model.servers import Server, VmState

REMOTE_CONSOLES = Version(2, 6)
WITH_MKS = Version(2, 8)
#: protocol -> the types of console that clients ask for under its name
TYPES = {
    "vnc": frozenset({"novnc", "xvpvnc"}),
    "spice": frozenset({"spice-html5"}),
    "rdp": frozenset({"rdp-html5"}),
    "serial": frozenset({"serial"}),
    "mks": frozenset({"webmks"}),
}
#: the actions by which consoles were asked for until 2.5
PROTOCOL_OF_ACTION = {"os-getVNCConsole": "vnc", "os-getSPICEConsole": "spice", "os-getRDPConsole": "rdp", "os-getSerialConsole": "serial"}


class Output(msgspec.Struct, forbid_unknown_fields=True):
    length: int | str | None = None


class OfType(msgspec.Struct, forbid_unknown_fields=True):
    type: str


class Remote(msgspec.Struct, forbid_unknown_fields=True):
    protocol: str
    type: str


class RemoteBody(msgspec.Struct, forbid_unknown_fields=True):
    remote_console: Remote


def _compute(request: Request, server: Server) -> Compute:
    """The host that has the server's domain. Raises `Conflict` before there is one, `HostUnreachable`."""
    if server.host is None or server.vm_state is VmState.BUILDING:
        raise Conflict(f"Instance {server.id} is not ready")
    return request.plane.hosts.of(server.host)


def output(request: Request, server: Server, value: Any) -> Reply:
    """The action os-getConsoleOutput. Raises `BadRequest`, `Conflict`, `NotFound`, `HostUnreachable`."""
    lines = _lines(value)
    try:
        text = _compute(request, server).console_output(server.id, lines)
    except HypervisorError as error:
        raise NotFound(f"Guest does not have a console available: {error.message}") from error
    # a guest may write anything; what is half a character cannot be said in JSON
    return Reply(200, {"output": text.encode("utf-8", "replace").decode()})


def _lines(value: Any) -> int | None:
    try:
        length = decoding.from_plain({} if value is None else value, Output).length
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for os-getConsoleOutput: {error}") from error
    if length is None:
        return None
    if not re.fullmatch(r"-1|[0-9]{1,9}", str(length)):
        raise BadRequest("os-getConsoleOutput.length: how many lines, -1 for all of them")
    return None if int(length) == -1 else int(length)


def _url(request: Request, server: Server, protocol: str, kind: str) -> str:
    """Where the server's display is. Raises `BadRequest` where it has none of that kind, and as `output` does."""
    if kind not in TYPES.get(protocol, ()):
        raise BadRequest(f"Invalid console type {kind[:80]} of protocol {protocol[:80]}.")
    try:
        console = _compute(request, server).console(server.id)
    except HypervisorError as error:
        raise NotFound(f"Guest does not have a console available: {error.message}") from error
    if console is None or console.protocol != protocol:
        raise BadRequest(f"Unavailable console type {kind}.")
    return _address(console)


def _address(console: Console) -> str:
    host = f"[{console.host}]" if ":" in console.host else console.host
    return f"{console.protocol}://{host}:{console.port}"


def create(request: Request) -> Reply:
    wanted = read(request, RemoteBody).remote_console
    if wanted.protocol == "mks" and request.version < WITH_MKS:
        raise BadRequest(f"remote_console.protocol: consoles have 'mks' from version {WITH_MKS} on")
    with request.plane.db.read() as tx:
        server = find(tx, request)
    url = _url(request, server, wanted.protocol, wanted.type)
    return Reply(200, {"remote_console": {"protocol": wanted.protocol, "type": wanted.type, "url": url}})


def of_old(action: str) -> Any:
    """The handler of one of the actions that were there until 2.5."""

    def act(request: Request, server: Server, value: Any) -> Reply:
        if request.version >= REMOTE_CONSOLES:
            raise NotFound(f"The action {action} was there until version 2.5; a console is made with remote-consoles now.")
        try:
            kind = decoding.from_plain(value, OfType).type
        except msgspec.ValidationError as error:
            raise BadRequest(f"Invalid input for {action}: {error}") from error
        url = _url(request, server, PROTOCOL_OF_ACTION[action], kind)
        return Reply(200, {"console": {"type": kind, "url": url}})

    return act


ROUTES = (
    Route(
        "POST",
        "/servers/{server}/remote-consoles",
        create,
        "os_compute_api:os-remote-consoles",
        MEMBER,
        since=REMOTE_CONSOLES,
        takes=(RemoteBody,),
    ),
)
