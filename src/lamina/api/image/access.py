"""Which image a caller may see and change."""

from __future__ import annotations

import sqlalchemy as sa

from lamina.api.routing import Request
from lamina.model.errors import Forbidden
from lamina.store import images
from lamina.store.images import Image


def sees(request: Request) -> str | None:
    """The project whose eyes the caller has: None (all) for admins, and ``""`` (nobody's) without a project."""
    return None if request.context.is_admin else request.context.project_id or ""


def visible(tx: sa.Connection, request: Request) -> Image:
    """The image of the path. Raises `NotFound` for another project's as for one that is not there."""
    return images.get(tx, request.path["image_id"], project_id=sees(request))


def changeable(tx: sa.Connection, request: Request) -> Image:
    """The image of the path, held to be changed. Raises `Forbidden` where the caller sees it without owning it."""
    found = images.get(tx, request.path["image_id"], project_id=sees(request), hold=True)
    if not request.context.is_admin and found.owner != request.context.project_id:
        raise Forbidden("You are not permitted to modify this image.")
    return found
