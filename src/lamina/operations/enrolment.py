"""Enrolment: how a machine becomes one of our hosts, keeps its certificate, and ceases to be one.

A join token is good for one host. It is used up in the transaction that writes the enrolment down, so that an answer
that was lost costs nothing: the same host asks again with the same key and gets a certificate for what is written.
The key speaks for its host until the host is removed; certificates for it come and go.
"""

from __future__ import annotations

import threading

import sqlalchemy as sa
import structlog

from lamina.hosts import certificates
from lamina.hosts.authority import authority
from lamina.hosts.join_tokens import JoinToken, secret_hash
from lamina.hosts.mailbox import Mailbox
from lamina.hosts.remote import RemoteCompute
from lamina.model import ids
from lamina.model.clock import moment
from lamina.model.errors import AlreadyExists, BadRequest, Conflict, Forbidden, HostUnreachable, InUse, NotFound, Unauthorized, Unavailable
from lamina.operations.control_plane import ControlPlane
from lamina.scheduling import claim
from lamina.store import enrolments, hosts, providers, servers
from lamina.store.enrolments import Enrolment, TokenRow

log = structlog.get_logger()

#: seconds that a join token may be good for
LONGEST_TOKEN = 7 * 86400.0
#: seconds that a token is still listed after it ran out
_KEEP_TOKENS = 7 * 86400.0


# ------------------------------------------------------------------------------------------------ tokens


def new_token(plane: ControlPlane, host: str | None, life: float) -> tuple[TokenRow, str]:
    """A join token for one host, or for any, and the text that a person carries there; it is kept nowhere.

    Raises `BadRequest`, and `Unavailable` where no host could dial in.
    """
    if plane.settings.agents_url is None:
        raise Unavailable("No host can join here: start this Lamina with --agents HOST:PORT first.")
    if not 60 <= life <= LONGEST_TOKEN:
        raise BadRequest("expires_in: a join token is good for 60 seconds to 7 days")
    if host is not None:
        ids.parse_host_name(host)
    now = plane.clock.now()
    fingerprint = certificates.facts(authority(plane.settings.common, now).certificate).fingerprint
    token = JoinToken.new(fingerprint)
    row = TokenRow(ids.new_uuid(), secret_hash(token.secret), host, now, now + life)
    with plane.db.write() as tx:
        enrolments.forget_tokens(tx, now - _KEEP_TOKENS)
        enrolments.add_token(tx, row)
    return row, token.text()


# ------------------------------------------------------------------------------------------------ joining


def enrol(plane: ControlPlane, secret: str, host: str, request: bytes) -> bytes:
    """Make `host` one of ours and return its certificate, PEM.

    Raises `BadRequest` for a name or request that is none, `Unauthorized`, `Forbidden`, `Conflict` for a token that is not
    good for this, and `AlreadyExists` for a host that is one of ours already.
    """
    ids.parse_host_name(host)
    key = certificates.requested_key(request)
    now = plane.clock.now()
    made = certificates.host(authority(plane.settings.common, now), host, request, now)
    facts = certificates.facts(made)
    with plane.db.write() as tx:
        token = _good_token(tx, secret, host, now)
        before = enrolments.find(tx, host)
        if token.used_at is not None:
            if before is None or before.revoked_at is not None or (before.token_id, before.key) != (token.id, key):
                raise Conflict(f"This join token was used by host {token.used_by} at {moment(token.used_at)}; make another one.")
        else:
            if before is not None and before.revoked_at is None and before.expires_at > now:
                raise AlreadyExists(f"Host {host} has joined already; 'lamina fleet remove {host}' lets it join anew.")
            if not _may_dial_in(plane, host):
                raise AlreadyExists(f"Host {host} is run by this Lamina itself; join under another name.")
            enrolments.use_token(tx, token.id, host, now)
        enrolments.put(tx, Enrolment(host, key, token.id, facts.serial, facts.not_after, now))
    join(plane, host)
    log.info("host joined", host=host, certificate=facts.serial)
    return made


def _good_token(tx: sa.Connection, secret: str, host: str, now: float) -> TokenRow:
    token = enrolments.find_token(tx, secret_hash(secret))
    if token is None:
        raise Unauthorized("This join token is not known here; make another one with 'lamina fleet token create'.")
    if now >= token.expires_at:
        raise Unauthorized(f"This join token ran out at {moment(token.expires_at)}; make another one.")
    if token.host not in (None, host):
        raise Forbidden(f"This join token is for host {token.host}, not for {host}.")
    return token


# ------------------------------------------------------------------------------------------------ speaking for a host


def speaks_for(plane: ControlPlane, certificate: bytes) -> str:
    """The host that the holder of this certificate (DER, verified by TLS) is. Raises `Unauthorized`."""
    facts = certificates.facts_der(certificate)
    host = facts.names[0] if facts.names else ""
    with plane.db.read() as tx:
        known = enrolments.find(tx, host)
    if known is None or known.revoked_at is not None or known.key != facts.key:
        raise Unauthorized(f"Host {host} is not one of ours, or not with this key: it was removed, or has joined anew since.")
    return host


def renew(plane: ControlPlane, host: str, request: bytes) -> bytes:
    """A new certificate, PEM, for the key that the host has. Raises `BadRequest`, and `Forbidden` for another key."""
    key, now = certificates.requested_key(request), plane.clock.now()
    made = certificates.host(authority(plane.settings.common, now), host, request, now)
    facts = certificates.facts(made)
    with plane.db.write() as tx:
        known = enrolments.find(tx, host)
        if known is None or known.key != key:
            raise Forbidden(f"Host {host} joined with another key; a new key needs a new join token.")
        enrolments.put(tx, Enrolment(host, key, known.token_id, facts.serial, facts.not_after, known.enrolled_at, known.revoked_at))
    log.info("certificate renewed", host=host, certificate=facts.serial)
    return made


# ------------------------------------------------------------------------------------------------ reaching and removing


#: two polls of a host that has just joined must not make two mailboxes
_joining = threading.Lock()


def join(plane: ControlPlane, host: str) -> Mailbox:
    """Reach an enrolled host by its mailbox from now on; one that has one keeps it. Raises `Conflict` for a host of our own."""
    with _joining:
        try:
            compute = plane.hosts.of(host)
        except HostUnreachable:
            compute = RemoteCompute(Mailbox(host, plane.clock), plane.settings.first_dial)
            plane.hosts.join(host, compute)
    if not isinstance(compute, RemoteCompute):
        raise Conflict(f"Host {host} is run by this Lamina itself.")
    return compute.mailbox


def join_all(plane: ControlPlane) -> None:
    """Reach every enrolled host, so that one that does not dial in is known to be silent."""
    with plane.db.read() as tx:
        known = enrolments.enrolled(tx)
    for enrolment in known:
        if _may_dial_in(plane, enrolment.host):
            join(plane, enrolment.host)
        else:
            log.warning("an enrolled host is run by this Lamina itself now; it is not heard any more", host=enrolment.host)


def absent(plane: ControlPlane) -> frozenset[str]:
    """The enrolled hosts that have no line here at this moment."""
    return frozenset(mailbox.host for mailbox in _mailboxes(plane) if not mailbox.is_there())


def tell_all(plane: ControlPlane) -> None:
    """Answer every poll that is parked: there is something new that all hosts are to know."""
    for mailbox in _mailboxes(plane):
        mailbox.nudge()


def expect_nobody(plane: ControlPlane) -> None:
    """Have nothing wait any more for a host that has never dialled in: this process is ending."""
    for mailbox in _mailboxes(plane):
        mailbox.expect_nobody()


def let_go(plane: ControlPlane) -> None:
    """Answer every poll that is parked: this process is ending."""
    for mailbox in _mailboxes(plane):
        mailbox.close()


def _mailboxes(plane: ControlPlane) -> list[Mailbox]:
    return [compute.mailbox for compute in plane.hosts.all() if isinstance(compute, RemoteCompute)]


def _may_dial_in(plane: ControlPlane, host: str) -> bool:
    try:
        return isinstance(plane.hosts.of(host), RemoteCompute)
    except HostUnreachable:
        return True


def remove(plane: ControlPlane, host: str) -> None:
    """Make a host none of ours any more: its certificates are good for nothing, its providers are gone.

    Raises `NotFound`, `Conflict` for a host that this process runs itself, and `InUse` where servers, vGPUs or
    allocations are on it.
    """
    if not _may_dial_in(plane, host):
        raise Conflict(f"Host {host} is run by this Lamina itself: take it out of the fleet file.")
    now = plane.clock.now()
    with plane.db.write() as tx:
        recorded, enrolled = hosts.find_host(tx, host), enrolments.find(tx, host)
        if recorded is None and (enrolled is None or enrolled.revoked_at is not None):
            raise NotFound(f"Host {host[:255]} could not be found.")
        for evacuation in servers.evacuations(tx, from_host=host):
            claim.release(tx, evacuation.id, now=now)  # whoever removes a host says that it is gone; should it join again, it is cleared
        if servers.on_host(tx, host) or hosts.vgpus_on(tx, host):
            raise InUse(f"Host {host} has servers; move or delete them first.")
        if recorded is not None:
            gpus = hosts.gpu_providers(tx, host)
            hosts.delete_host(tx, host)
            for provider_id in (*gpus, recorded.provider_id):
                providers.delete(tx, provider_id)
        enrolments.revoke(tx, host, now)
    plane.hosts.leave(host)
    log.info("host removed", host=host)
