"""Joining: from a join token to a certificate, and from a certificate to the next one. The host's side.

Who answers is checked before the secret is sent: the first connection is to nobody in particular and fetches the
authority's certificate; only if that is the one the token names is a second connection made, which trusts nobody else.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from lamina.hosts import certificates, membership
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.membership import Membership
from lamina.hosts.wire import Authority, Enrol, Failure, Issued, Renew
from lamina.model import decoding, ids
from lamina.model.clock import Clock, moment
from lamina.model.errors import BadRequest, Conflict, LaminaError, Unauthorized, Unavailable

T = TypeVar("T")

#: seconds that an answer may take
TIMEOUT = 15.0
#: seconds by which the two clocks may differ: more, and certificates and tokens run out at the wrong time
MOST_SKEW = 60.0


def join(urls: Sequence[str], token: JoinToken, host: str, state: Path, clock: Clock) -> Membership:
    """Become `host` at the Lamina of these URLs, and remember it below `state`.

    Raises `BadRequest`, `Unavailable` where none answers, `Unauthorized` for a control plane that the token is not of,
    `Conflict` for clocks that differ or a state directory that cannot be used, and what the control plane says against it.
    """
    bases = tuple(base_url(url) for url in urls)
    ids.parse_host_name(host)
    told = _authority(bases[0])
    _must_agree_on_time(told.time, clock.now())
    if _fingerprint(told) != token.authority:
        raise Unauthorized(f"{bases[0]} is not where this join token was made: its authority is another one. Nothing was sent to it.")
    authority = told.certificate.encode()
    try:
        key = membership.key_of(state)
        with httpx.Client(verify=membership.trusting(authority), timeout=TIMEOUT, trust_env=False) as client:
            request = Enrol(token.secret, host, certificates.request(key, host).decode())
            issued = _ask(client, bases[0], "POST", "/enrol", Issued, request)
        return Membership.write(state, host, bases, authority, issued.certificate.encode())
    except OSError as error:
        raise Conflict(f"{state} cannot be used: {error.strerror}.") from error


def renew(joined: Membership, client: httpx.Client, url: str) -> None:
    """Get the next certificate for the key there is, and keep it. Raises as the control plane does, and OSError."""
    request = Renew(certificates.request(joined.key(), joined.host).decode())
    joined.renewed(_ask(client, url, "POST", "/renew", Issued, request).certificate.encode())


def base_url(text: str) -> str:
    """Parse ``https://control:8775``. Raises `BadRequest`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadRequest(f"{text!r} is not a URL, as in https://control:8775") from error
    if parts.scheme != "https" or not parts.hostname or port is None or parts.path not in ("", "/") or parts.query or parts.username:
        raise BadRequest(f"{text!r} is not where hosts dial in: that is a URL as in https://control:8775")
    return f"https://{parts.netloc}"


def _authority(base: str) -> Authority:
    with httpx.Client(verify=_trusting_anybody(), timeout=TIMEOUT, trust_env=False) as client:
        return _ask(client, base, "GET", "/authority", Authority)


def _trusting_anybody() -> ssl.SSLContext:
    """For what is public and is checked against the token's fingerprint afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _fingerprint(told: Authority) -> str:
    return certificates.facts(told.certificate.encode()).fingerprint


def _must_agree_on_time(theirs: float, ours: float) -> None:
    if abs(theirs - ours) > MOST_SKEW:
        raise Conflict(
            f"The clocks differ by {abs(theirs - ours):.0f} seconds: it is {moment(theirs)} at the control plane and "
            f"{moment(ours)} here. Set the clock that is wrong, best by NTP, and join again."
        )


def _ask(client: httpx.Client, base: str, method: str, path: str, kind: type[T], body: Any = None) -> T:
    content = None if body is None else msgspec.json.encode(body)
    try:
        answer = client.request(method, f"{base}/agents/v1{path}", content=content)
    except (httpx.HTTPError, ssl.SSLError) as error:
        raise why_not(base, error) from error
    if answer.is_error:
        raise refusal(answer)
    try:
        return decoding.from_json(answer.content, kind)
    except msgspec.DecodeError as error:
        raise Unavailable(f"What answers at {base} is not where hosts dial in.") from error


class _Refused(msgspec.Struct, frozen=True):
    error: Failure


def refusal(answer: httpx.Response) -> LaminaError:
    """What the control plane says against a request, as the error it is."""
    try:
        return decoding.from_json(answer.content, _Refused).error.as_error()
    except msgspec.DecodeError:
        return Unavailable(f"{answer.request.url} was answered {answer.status_code}.")


#: what the libraries say -> what it comes from
_TLS = {
    "certificate is not yet valid": "its certificate is not valid yet: the clock here is behind",
    "certificate has expired": "its certificate has run out, or the clock here is ahead",
    "hostname mismatch": "its certificate is for other names: name this one with --advertise there",
    "ip address mismatch": "its certificate is for other addresses: name this one with --advertise there",
    "certificate verify failed": "its certificate is of another authority",
    "server disconnected": "it hung up: it is ending, or does not take this host's certificate (compare the clocks, or join anew)",
}


def why_not(base: str, error: Exception) -> Unavailable:
    """Why a connection did not come about, for a person."""
    told = str(error)
    known = next((meaning for sign, meaning in _TLS.items() if sign in told.lower().replace("_", " ")), None)
    if known is not None:
        return Unavailable(f"No connection to {base}: {known}.", cause=told)
    return Unavailable(f"{base} does not answer ({told or type(error).__name__}).")
