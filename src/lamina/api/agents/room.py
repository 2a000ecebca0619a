"""The route table of the Agents API. A host is who its certificate says, and speaks for itself only."""

from __future__ import annotations

from lamina.api.agents import contents, enrolment, polls
from lamina.api.routing import ANY_USER, Context, Reply, Room, Route, Shown, Version
from lamina.hosts.wire import Enrol, Poll, Renew
from lamina.model.errors import LaminaError, Unauthorized
from lamina.operations import enrolment as enrolments
from lamina.operations.control_plane import ControlPlane

HOST = "role:host"
#: bytes that a poll may have: several reports of large machines, or what a domain wrote to its serial port
MOST_POLL = 64 << 20


def by_certificate(plane: ControlPlane, shown: Shown, request_id: str) -> Context:
    """The host whose certificate TLS has verified. Raises `Unauthorized`."""
    if shown.certificate is None:
        raise Unauthorized("A host shows the certificate here that it was given when it joined.")
    return Context(request_id, roles=frozenset({"host"}), host=enrolments.speaks_for(plane, shown.certificate))


def fault(error: LaminaError, request_id: str, _version: Version) -> Reply:
    """``{"error": {code, message, request_id}}``"""
    return Reply(error.status, {"error": {"code": error.code, "message": error.message, "request_id": request_id}})


ROOM = Room(
    name="agents",
    prefix="/agents/v1",
    routes=(
        Route("GET", "/authority", enrolment.show_authority, "agents:authority", ANY_USER, public=True),
        Route("POST", "/enrol", enrolment.enrol, "agents:enrol", ANY_USER, public=True, takes=(Enrol,)),
        Route("POST", "/renew", enrolment.renew, "agents:renew", HOST, takes=(Renew,)),
        Route("POST", "/poll", polls.poll, "agents:poll", HOST, most_body=MOST_POLL, takes=(Poll,), audited=False),
        Route("GET", "/images/{image}/file", contents.image, "agents:image", HOST),
        Route(
            "PUT",
            "/disks/{server}/file",
            contents.bring_disk,
            "agents:disk:bring",
            HOST,
            upload=True,
            admit=contents.admit_disk,
            gives=(204,),
        ),
        Route("GET", "/disks/{server}/file", contents.fetch_disk, "agents:disk:fetch", HOST),
    ),
    fault=fault,
    authenticate=by_certificate,
)
