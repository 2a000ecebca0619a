"""Keypairs: public keys of users (Compute API reference, "Keypairs"). Keys are imported; a private key is never made here."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lamina.api.compute.answers import next_link, page_limit, precise_moment, read
from lamina.api.routing import READER, Reply, Request, Route, Version
from lamina.model import limits
from lamina.model.errors import BadRequest, Forbidden
from lamina.store import keypairs, quotas
from lamina.store.keypairs import Keypair

WITH_TYPE = Version(2, 2)
OF_OTHERS = Version(2, 10)
PAGES = Version(2, 35)
#: longest public key, in characters
MOST_KEY = 16384
_NAME = re.compile(r"[a-zA-Z0-9 ._@-]{1,255}")
#: kind of key -> how many fields follow its name (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4; OpenSSH, PROTOCOL.u2f)
_FIELDS = {
    "ssh-rsa": 2,
    "ssh-dss": 4,
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}


class New(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    public_key: str | None = None
    type: str | None = None
    user_id: str | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    keypair: New


def fingerprint(public_key: str) -> str:
    """MD5 of an OpenSSH public key, in pairs of hexadecimal digits (RFC 4716, 4). Raises `BadRequest` for what is none.

    A key is one line: a second one would be a second key in the guest's ``authorized_keys``.
    """
    parts = public_key.split()
    if len(public_key) > MOST_KEY or not public_key.strip().isprintable() or len(parts) < 2 or parts[0] not in _FIELDS:
        raise BadRequest("public_key: it is not an OpenSSH public key, as in 'ssh-ed25519 AAAA… comment'")
    try:
        content = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("public_key: its second word is not Base64") from None
    fields = list(_fields(content))
    if fields[:1] != [parts[0].encode()] or len(fields) != 1 + _FIELDS[parts[0]] or not all(fields):
        raise BadRequest(f"public_key: its second word is not the content of a key of the kind {parts[0]}")
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _fields(content: bytes) -> Iterator[bytes]:
    """The fields of a key, each behind its length in four bytes; an empty one where the content is cut off."""
    while content:
        length = int.from_bytes(content[:4], "big")
        field, content = content[4 : 4 + length], content[4 + length :]
        yield field if len(field) == length else b""


def _user(request: Request, asked: str | None) -> str:
    """Whose keys; another's only for an administrator. Raises `Forbidden`."""
    if asked is None or asked == request.context.user_id or request.version < OF_OTHERS:
        return request.context.user_id
    if not request.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-keypairs:index to be performed.")
    return asked


def _view(request: Request, found: Keypair) -> dict[str, Any]:
    shown = {"name": found.name, "public_key": found.public_key, "fingerprint": found.fingerprint}
    return shown | ({"type": found.type} if request.version >= WITH_TYPE else {})


def index(request: Request) -> Reply:
    user_id, limit = _user(request, request.value("user_id")), page_limit(request)
    marker = request.value("marker") if request.version >= PAGES else None
    with request.plane.db.read() as tx:
        found = keypairs.page(tx, user_id, marker=marker, limit=limit)
    more = next_link(request, "/os-keypairs", found, limit, found[-1].name if found else "") if request.version >= PAGES else {}
    body: dict[str, Any] = {"keypairs": [{"keypair": _view(request, k)} for k in found]}
    return Reply(200, body | ({"keypairs_links": more["links"]} if more else {}))


def create(request: Request) -> Reply:
    body = read(request, Body).keypair
    if not _NAME.fullmatch(body.name) or body.name != body.name.strip():
        raise BadRequest("name: 1 to 255 letters, digits, spaces and any of '.', '_', '@', '-'")
    for value, since, what in ((body.type, WITH_TYPE, "type"), (body.user_id, OF_OTHERS, "user_id")):
        if value is not None and request.version < since:
            raise BadRequest(f"{what}: keypairs have it from version {since} on")
    if body.type not in (None, "ssh"):
        raise BadRequest("type: only 'ssh' keys are kept here")
    if body.public_key is None:
        raise BadRequest("public_key: keys are not generated here; make one with ssh-keygen and give its public half")
    made = Keypair(
        user_id=_user(request, body.user_id),
        name=body.name,
        type="ssh",
        fingerprint=fingerprint(body.public_key),
        public_key=body.public_key,
        created_at=request.plane.clock.now(),
    )
    with request.plane.db.write() as tx:
        keypairs.add(tx, made)
        quotas.must_allow(tx, quotas.Owner(request.context.project_id or "", made.user_id), taken={limits.KEY_PAIRS: 1})
    return Reply(201 if request.version >= WITH_TYPE else 200, {"keypair": _view(request, made) | {"user_id": made.user_id}})


def show(request: Request) -> Reply:
    user_id = _user(request, request.value("user_id"))
    with request.plane.db.read() as tx:
        found = keypairs.get(tx, user_id, request.path["name"])
    gone = {"deleted": False, "deleted_at": None, "updated_at": None, "created_at": precise_moment(found.created_at), "id": 0}
    return Reply(200, {"keypair": _view(request, found) | {"user_id": user_id} | gone})


def delete(request: Request) -> Reply:
    user_id = _user(request, request.value("user_id"))
    with request.plane.db.write() as tx:
        keypairs.delete(tx, user_id, request.path["name"])
    return Reply(204 if request.version >= WITH_TYPE else 202)


RULE = "os_compute_api:os-keypairs"
ROUTES = (
    Route("GET", "/os-keypairs", index, f"{RULE}:index", READER, query=("limit", "marker", "user_id")),
    Route("POST", "/os-keypairs", create, f"{RULE}:create", READER, takes=(Body,), gives=(200, 201)),
    Route("GET", "/os-keypairs/{name}", show, f"{RULE}:show", READER, query=("user_id",)),
    Route("DELETE", "/os-keypairs/{name}", delete, f"{RULE}:delete", READER, gives=(202, 204), query=("user_id",)),
)
