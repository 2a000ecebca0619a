"""Join tokens: each lets one machine become a host. The token itself is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from lamina.api.routing import Reply, Request
from lamina.operations import enrolment
from lamina.store import enrolments
from lamina.store.enrolments import TokenRow


class New(msgspec.Struct, forbid_unknown_fields=True):
    #: the only host that may use it, or any
    host: str | None = None
    #: seconds
    expires_in: Annotated[float, msgspec.Meta(ge=0)] = 3600.0


def _view(token: TokenRow) -> dict[str, Any]:
    return {
        "id": token.id,
        "host": token.host,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
        "used_by": token.used_by,
    }


def create(request: Request) -> Reply:
    said = request.json(New)
    row, text = enrolment.new_token(request.plane, said.host, said.expires_in)
    return Reply(201, {"token": _view(row) | {"secret": text, "url": request.plane.settings.agents_url}})


def index(request: Request) -> Reply:
    with request.plane.db.read() as tx:
        return Reply(200, {"tokens": [_view(token) for token in enrolments.list_tokens(tx)]})


def delete(request: Request) -> Reply:
    """A token that was used takes nothing from the host that used it."""
    with request.plane.db.write() as tx:
        enrolments.delete_token(tx, request.path["token"])
    return Reply(204)
