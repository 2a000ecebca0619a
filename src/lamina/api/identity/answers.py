"""What the store's values look like in Keystone's answers, and how its queries are read."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest
from lamina.model.settings import Settings
from lamina.store.domains import Domain
from lamina.store.groups import Group
from lamina.store.identity import Project, User
from lamina.store.roles import Role

#: what a name may be: something to see, and no control characters
NAME = r"\A(?=.*\S)[^\x00-\x1f\x7f]+\Z"
#: what a description may be; PostgreSQL has no place for NUL
TEXT = r"\A[^\x00]*\Z"


def base(settings: Settings) -> str:
    return f"{settings.public_url}/identity/v3"


def moment(seconds: float) -> str:
    """``2026-11-23T09:00:00.000000Z``, as Keystone writes times."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def domain(settings: Settings, value: Domain) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "enabled": value.enabled,
        "tags": [],
        "options": {},
        "links": {"self": f"{base(settings)}/domains/{value.id}"},
    }


def project(settings: Settings, value: Project) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "enabled": value.enabled,
        "domain_id": value.domain_id,
        "parent_id": value.domain_id,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{base(settings)}/projects/{value.id}"},
    }


def user(settings: Settings, value: User) -> dict[str, Any]:
    optional = {"email": value.email, "default_project_id": value.default_project_id}
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "enabled": value.enabled,
        "domain_id": value.domain_id,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{base(settings)}/users/{value.id}"},
    } | {name: given for name, given in optional.items() if given is not None}


def group(settings: Settings, value: Group) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "domain_id": value.domain_id,
        "links": {"self": f"{base(settings)}/groups/{value.id}"},
    }


def role(settings: Settings, value: Role) -> dict[str, Any]:
    return {
        "id": value.id,
        "name": value.name,
        "description": value.description,
        "domain_id": None,
        "options": {"immutable": True} if value.built_in else {},
        "links": {"self": f"{base(settings)}/roles/{value.id}"},
    }


def listing(request: Request, name: str, values: Iterable[dict[str, Any]]) -> Reply:
    """A whole list under `name`; Keystone does not page either unless it is told to."""
    asked = urlsplit(request.url)
    own = request.plane.settings.public_url + urlunsplit(("", "", asked.path, asked.query, ""))
    return Reply(200, {name: list(values), "links": {"self": own, "previous": None, "next": None}})


def flag(request: Request, name: str) -> bool | None:
    """A yes-or-no query parameter; given without a value it says yes, as in Keystone. Raises `BadRequest` on other words."""
    given = request.value(name)
    if given is None:
        return None
    word = given.lower()
    if word in {"", "1", "true", "yes"}:
        return True
    if word in {"0", "false", "no"}:
        return False
    raise BadRequest(f"{name}: {given[:80]!r} is neither true nor false")
