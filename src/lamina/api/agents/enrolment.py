"""How a machine gets its certificate, and a new one before it runs out."""

from __future__ import annotations

from lamina.api.routing import Reply, Request
from lamina.hosts.authority import authority
from lamina.hosts.wire import Authority, Enrol, Issued, Renew
from lamina.model.audit import Initiator, Kind
from lamina.operations import enrolment


def show_authority(request: Request) -> Reply:
    """Who signs here, for whoever holds a join token to compare, and what time it is."""
    plane = request.plane
    now = plane.clock.now()
    return Reply(200, Authority(authority(plane.settings.common, now).certificate.decode(), now))


def enrol(request: Request) -> Reply:
    """A certificate for a join token."""
    said = request.json(Enrol)
    made = enrolment.enrol(request.plane, said.token, said.host, said.request.encode())
    return Reply(200, Issued(said.host, made.decode()), by=Initiator(Kind.HOST, said.host, said.host))


def renew(request: Request) -> Reply:
    """A certificate for a certificate."""
    host = request.context.host
    made = enrolment.renew(request.plane, host, request.json(Renew).request.encode())
    return Reply(200, Issued(host, made.decode()))
