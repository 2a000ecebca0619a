"""Images: what is known of each. Their contents are files that `lamina.api.image` keeps in step with the rows.

A project sees its own images and the public ones; ``community`` images of others are found when asked for. Nobody has
shared anything with anybody yet (there are no members), so ``shared`` ones are seen by their owner only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, BadRequest, ConcurrentUpdate, NotFound
from lamina.store.paging import Direction, ordered
from lamina.store.reading import Reader
from lamina.store.tables.compute import images

Visibility = Literal["public", "community", "shared", "private"]


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image. Sizes are in bytes but for the two minima; times in seconds since the epoch."""

    id: str
    owner: str
    created_at: float
    updated_at: float
    name: str | None = None
    visibility: str = "shared"
    #: queued until there is content, then active; saving while a server's disk is to become its content
    status: str = "queued"
    protected: bool = False
    hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    sha512: str | None = None
    min_disk_gb: int = 0
    min_memory_mb: int = 0
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tags: tuple[str, ...] = ()


_FIELDS = [images.c[field.name] for field in dataclasses.fields(Image)]
IMAGES = Reader(images, Image)

#: what a list may be sorted by; a missing value sorts first
SORT_KEYS: Mapping[str, sa.ColumnElement[Any]] = {
    "name": sa.func.coalesce(images.c.name, ""),
    "status": images.c.status,
    "container_format": sa.func.coalesce(images.c.container_format, ""),
    "disk_format": sa.func.coalesce(images.c.disk_format, ""),
    "size": sa.func.coalesce(images.c.size, -1),
    "id": images.c.id,
    "created_at": images.c.created_at,
    "updated_at": images.c.updated_at,
}


def add(tx: sa.Connection, image: Image) -> None:
    """Raises `AlreadyExists` where the id is taken."""
    try:
        tx.execute(sa.insert(images).values(**_row(image)))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"Image ID {image.id} already exists!") from error


def get(tx: sa.Connection, image_id: str, *, project_id: str | None = None, hold: bool = False) -> Image:
    """By id; with a project only what it may see; `hold` keeps others from changing it until the transaction ends.

    Raises `CorruptRecord`, and `NotFound`, alike for what is not there and what is another's.
    """
    query = sa.select(*_FIELDS).where(images.c.id == image_id)
    if project_id is not None:
        query = query.where(sa.or_(images.c.owner == project_id, images.c.visibility.in_(["public", "community"])))
    row = tx.execute(query.with_for_update() if hold else query).one_or_none()
    if row is None:
        raise NotFound(f"No image found with ID {image_id}")
    return IMAGES.one(row)


def page(
    tx: sa.Connection,
    *,
    project_id: str | None = None,
    visibility: str | None = None,
    among: Mapping[str, Collection[Any]] | None = None,
    sizes: tuple[int | None, int | None] = (None, None),
    also: Callable[[Image], bool] = lambda image: True,
    sort: tuple[tuple[str, Direction], ...] = (("created_at", "desc"),),
    marker: str | None = None,
    limit: int = 25,
) -> list[Image]:
    """At most `limit` images behind the one whose id is `marker`; damaged ones are passed over.

    `among` holds columns to some values and `sizes` bounds the size in the database; `also` is asked of each row that is left, so
    that rows are read only until the page is full. Raises `BadRequest` for a marker that the project does not see.
    """
    query = sa.select(*_FIELDS).where(_listed(project_id, visibility))
    for name, values in (among or {}).items():
        query = query.where(images.c[name].in_(values))
    least, most = sizes
    if least is not None:
        query = query.where(images.c.size >= least)
    if most is not None:
        query = query.where(images.c.size <= most)
    names = [*sort, ("id", sort[-1][1])] if "id" not in dict(sort) else list(sort)
    keys = [(SORT_KEYS[name], direction) for name, direction in names]
    after = None
    if marker is not None:
        try:
            get(tx, marker, project_id=project_id)
        except NotFound as error:
            raise BadRequest(f"marker: there is no image {marker[:80]!r}") from error
        after = list(tx.execute(sa.select(*(column for column, _ in keys)).where(images.c.id == marker)).one())
    found: list[Image] = []
    with tx.execute(ordered(query, keys, after)) as rows:
        for image in IMAGES.readable(rows):
            if len(found) == limit:
                break
            if also(image):
                found.append(image)
    return found


def _listed(project_id: str | None, visibility: str | None) -> sa.ColumnElement[bool]:
    """Glance's rule: another's community image is listed when that visibility, or ``all``, is asked for."""
    of_kind = images.c.visibility == visibility if visibility not in (None, "all") else sa.true()
    if project_id is None:
        return of_kind
    open_to_all = ["public", "community"] if visibility in ("all", "community") else ["public"]
    return sa.and_(of_kind, sa.or_(images.c.owner == project_id, images.c.visibility.in_(open_to_all)))


def change(tx: sa.Connection, image: Image) -> None:
    """Write the image as it is now, where it was read with `hold`. Raises `NotFound`."""
    if not tx.execute(sa.update(images).where(images.c.id == image.id).values(**_row(image))).rowcount:
        raise NotFound(f"No image found with ID {image.id}")


def activate(tx: sa.Connection, image_id: str, *, size: int, virtual_size: int, checksum: str, sha512: str, now: float) -> None:
    """From queued to active, once. Raises `ConcurrentUpdate` where somebody else filled or deleted it first."""
    facts = {"size": size, "virtual_size": virtual_size, "checksum": checksum, "sha512": sha512, "updated_at": now}
    query = sa.update(images).where(images.c.id == image_id, images.c.status == "queued").values(status="active", **facts)
    if not tx.execute(query).rowcount:
        raise ConcurrentUpdate(f"Image {image_id} was given content or deleted by somebody else meanwhile.")


def fill(tx: sa.Connection, image: Image) -> None:
    """From saving to active, once, with what its content was found to be. Raises `NotFound` where somebody has deleted it."""
    values = _row(dataclasses.replace(image, status="active"))
    if not tx.execute(sa.update(images).where(images.c.id == image.id, images.c.status == "saving").values(**values)).rowcount:
        raise NotFound(f"No image found with ID {image.id}")


def empty(tx: sa.Connection, image_id: str) -> None:
    """From active back to saving: its content is gone. One that is gone too, or was never whole, stays so."""
    tx.execute(sa.update(images).where(images.c.id == image_id, images.c.status == "active").values(status="saving"))


def delete(tx: sa.Connection, image_id: str) -> None:
    """Raises `NotFound`."""
    if not tx.execute(sa.delete(images).where(images.c.id == image_id)).rowcount:
        raise NotFound(f"No image found with ID {image_id}")


def with_content(tx: sa.Connection) -> set[str]:
    """Ids of the images whose content must be there."""
    return set(tx.scalars(sa.select(images.c.id).where(images.c.status == "active")))


def half_made(tx: sa.Connection, server_id: str) -> list[str]:
    """Ids of the images that a server's disk was to become and has not."""
    query = sa.select(images.c.id, images.c.properties).where(images.c.status == "saving").with_for_update()
    return [row.id for row in tx.execute(query) if isinstance(row.properties, dict) and row.properties.get("instance_uuid") == server_id]


def _row(image: Image) -> dict[str, Any]:
    return {field.name: getattr(image, field.name) for field in dataclasses.fields(image)} | {
        "properties": dict(image.properties),
        "tags": list(image.tags),
    }
