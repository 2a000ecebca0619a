"""Flavors, their extra specs, and which projects may use the ones that are not public."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, BadRequest, NotFound
from lamina.model.flavors import Flavor
from lamina.store.paging import Direction, ordered
from lamina.store.reading import Reader
from lamina.store.tables.compute import flavor_access, flavors

#: what a list may be sorted by, as the Compute API calls it
SORT_KEYS: Mapping[str, sa.ColumnElement[Any]] = {
    "flavorid": flavors.c.id,
    "id": flavors.c.seq,
    "name": flavors.c.name,
    "memory_mb": flavors.c.memory_mb,
    "vcpus": flavors.c.vcpus,
    "root_gb": flavors.c.disk_gb,
    "ephemeral_gb": flavors.c.ephemeral_gb,
    "swap": flavors.c.swap_mb,
    "rxtx_factor": flavors.c.rxtx_factor,
    "is_public": sa.cast(flavors.c.public, sa.Integer),
}
_FIELDS = [flavors.c[field.name] for field in dataclasses.fields(Flavor)]
FLAVORS = Reader(flavors, Flavor)


def create(tx: sa.Connection, flavor: Flavor) -> None:
    """Raises `BadRequest` for a flavor that may not be, `AlreadyExists` where its id or name is taken."""
    try:
        tx.execute(sa.insert(flavors).values(**flavor.checked().to_plain()))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a flavor with the id {flavor.id} or the name {flavor.name} already.") from error


def get(tx: sa.Connection, flavor_id: str, *, project_id: str | None = None) -> Flavor:
    """By id. With a project, a flavor that is not public is found only where the project has access.

    Raises `NotFound`, `CorruptRecord`.
    """
    return _one(tx, sa.select(*_FIELDS).where(flavors.c.id == flavor_id), flavor_id, project_id)


def all_flavors(tx: sa.Connection) -> list[Flavor]:
    """Every flavor, public or not, but damaged ones."""
    return list(FLAVORS.readable(tx.execute(sa.select(*_FIELDS))))


def get_named(tx: sa.Connection, name: str, *, project_id: str | None = None) -> Flavor:
    """By name, otherwise as `get`."""
    return _one(tx, sa.select(*_FIELDS).where(flavors.c.name == name), name, project_id)


def page(
    tx: sa.Connection,
    *,
    public: bool | None = True,
    project_id: str | None = None,
    min_memory_mb: int = 0,
    min_disk_gb: int = 0,
    sort: str = "flavorid",
    direction: Direction = "asc",
    marker: str | None = None,
    limit: int = 1000,
) -> list[Flavor]:
    """At most `limit` flavors behind the one whose id is `marker`; damaged ones are passed over.

    `public` True: the public ones and those that `project_id` has access to; False: the others; None: all.
    Raises `BadRequest` for a marker that is not there or an unknown sort key.
    """
    if sort not in SORT_KEYS:
        raise BadRequest(f"sort_key: {sort[:80]!r} is not one of {', '.join(SORT_KEYS)}")
    query = sa.select(*_FIELDS).where(flavors.c.memory_mb >= min_memory_mb, flavors.c.disk_gb >= min_disk_gb)
    if public is not None:
        query = query.where(_open_to(project_id) if public else sa.not_(flavors.c.public))
    columns = [SORT_KEYS[sort], flavors.c.id]
    after = None
    if marker is not None:
        row = tx.execute(sa.select(*columns).where(flavors.c.id == marker)).one_or_none()
        if row is None:
            raise BadRequest(f"marker: there is no flavor {marker[:80]!r}")
        after = list(row)
    query = ordered(query, [(column, direction) for column in columns], after)
    return FLAVORS.page(tx, query, limit)


def delete(tx: sa.Connection, flavor_id: str) -> None:
    """Servers keep their snapshot. Raises `NotFound`."""
    if not tx.execute(sa.delete(flavors).where(flavors.c.id == flavor_id)).rowcount:
        raise _not_found(flavor_id)


def describe(tx: sa.Connection, flavor_id: str, description: str | None) -> Flavor:
    """Set the description, the one fact of a flavor that may change. Raises `NotFound` and `BadRequest`."""
    changed = dataclasses.replace(get(tx, flavor_id), description=description).checked()
    tx.execute(sa.update(flavors).where(flavors.c.id == flavor_id).values(description=description))
    return changed


def set_extra_specs(tx: sa.Connection, flavor_id: str, specs: Mapping[str, str]) -> Flavor:
    """Add these extra specs, over older ones of the same keys. Raises `NotFound`, and `BadRequest` naming the wrong one."""
    found = _locked(tx, flavor_id)
    return _with_extra_specs(tx, found, {**found.extra_specs, **specs})


def delete_extra_spec(tx: sa.Connection, flavor_id: str, key: str) -> Flavor:
    """Raises `NotFound` for the flavor or the key, `BadRequest` where the others make no sense without it."""
    found = _locked(tx, flavor_id)
    if key not in found.extra_specs:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
    return _with_extra_specs(tx, found, {k: v for k, v in found.extra_specs.items() if k != key})


def list_access(tx: sa.Connection, flavor_id: str) -> list[str]:
    """Ids of the projects that may use a flavor that is not public. Raises `NotFound`, for a public flavor, too."""
    if get(tx, flavor_id).public:
        raise NotFound("Access list not available for public flavors.")
    query = sa.select(flavor_access.c.project_id).where(flavor_access.c.flavor_id == flavor_id)
    return list(tx.scalars(query.order_by(flavor_access.c.project_id)))


def add_access(tx: sa.Connection, flavor_id: str, project_id: str) -> None:
    """Raises `NotFound`, `BadRequest` for a public flavor, `AlreadyExists` where the project has it."""
    if get(tx, flavor_id).public:
        raise BadRequest(f"Flavor {flavor_id} is public; everybody may use it.")
    try:
        tx.execute(sa.insert(flavor_access).values(flavor_id=flavor_id, project_id=project_id))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination.") from error


def remove_access(tx: sa.Connection, flavor_id: str, project_id: str) -> None:
    """Raises `NotFound` for the flavor, or where the project has no access."""
    get(tx, flavor_id)
    where = (flavor_access.c.flavor_id == flavor_id, flavor_access.c.project_id == project_id)
    if not tx.execute(sa.delete(flavor_access).where(*where)).rowcount:
        raise NotFound(f"Flavor access not found for {flavor_id} / {project_id} combination.")


def _open_to(project_id: str | None) -> sa.ColumnElement[bool]:
    mine = sa.select(flavor_access.c.flavor_id).where(flavor_access.c.project_id == project_id)
    return sa.or_(flavors.c.public, flavors.c.id.in_(mine))


def _one(tx: sa.Connection, query: sa.Select[Any], called: str, project_id: str | None) -> Flavor:
    if project_id is not None:
        query = query.where(_open_to(project_id))
    row = tx.execute(query).one_or_none()
    if row is None:
        raise _not_found(called)
    return FLAVORS.one(row)


def _locked(tx: sa.Connection, flavor_id: str) -> Flavor:
    """The flavor, held against others' changes until the transaction ends (SQLite has one writer at a time anyway)."""
    return _one(tx, sa.select(*_FIELDS).where(flavors.c.id == flavor_id).with_for_update(), flavor_id, None)


def _with_extra_specs(tx: sa.Connection, flavor: Flavor, specs: Mapping[str, str]) -> Flavor:
    changed = dataclasses.replace(flavor, extra_specs=specs).checked()
    tx.execute(sa.update(flavors).where(flavors.c.id == flavor.id).values(extra_specs=dict(specs)))
    return changed


def _not_found(called: str) -> NotFound:
    return NotFound(f"Flavor {called} could not be found.")
