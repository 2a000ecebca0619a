"""Host aggregates: kept, and followed by what hangs on them, their hosts' zones and the aggregates of Placement.

Whatever changes the zone of a host raises the generation of its provider, which every claim on the host proves: no
server comes to a host unseen while the host goes to another zone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from lamina.model import aggregates as rules
from lamina.model import ids
from lamina.model.aggregates import Aggregate
from lamina.model.errors import AlreadyExists, ConcurrentUpdate, InUse, NotFound
from lamina.store import hosts, providers, servers
from lamina.store.reading import Reader
from lamina.store.tables.compute import aggregate_hosts, aggregates

#: without its hosts
AGGREGATES = Reader(aggregates, Aggregate)
_EVERY = sa.select(aggregates).order_by(aggregates.c.id)


def every(tx: sa.Connection) -> list[Aggregate]:
    """All aggregates in the order they were made; damaged ones are passed over."""
    return _with_hosts(tx, AGGREGATES.readable(tx.execute(_EVERY)))


def get(tx: sa.Connection, aggregate_id: int) -> Aggregate:
    """Raises `NotFound`, `CorruptRecord`."""
    row = tx.execute(_EVERY.where(aggregates.c.id == aggregate_id)).one_or_none()
    if row is None:
        raise NotFound(f"Aggregate {aggregate_id} could not be found.")
    return _with_hosts(tx, [AGGREGATES.one(row)])[0]


def _with_hosts(tx: sa.Connection, found: Iterable[Aggregate]) -> list[Aggregate]:
    members: dict[int, set[str]] = {}
    for row in tx.execute(sa.select(aggregate_hosts)):
        members.setdefault(row.aggregate_id, set()).add(row.host)
    return [dataclasses.replace(one, hosts=frozenset(members.get(one.id, ()))) for one in found]


def serving(tx: sa.Connection, extra_specs: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """What a flavor asks of aggregates -> names of the hosts that are in one which has it."""
    return rules.serving(every(tx), extra_specs) if any(key.startswith(rules.SCOPE) for key in extra_specs) else {}


# ---------------------------------------------------------------------------------------------------- changing


def add(tx: sa.Connection, name: str, zone: str | None, now: float) -> Aggregate:
    """Make an aggregate without hosts. Raises `AlreadyExists`."""
    _must_be_free(tx, name)
    metadata = {rules.ZONE: zone} if zone is not None else {}
    made = sa.insert(aggregates).values(uuid=ids.new_uuid(), name=name, metadata=metadata, created_at=now)
    return get(tx, tx.execute(made.returning(aggregates.c.id)).scalar_one())


def update(tx: sa.Connection, aggregate_id: int, now: float, *, name: str | None, metadata: Mapping[str, str | None]) -> Aggregate:
    """Give an aggregate another name, and other values to these keys of its metadata; None takes a key out.

    Raises `NotFound`, `AlreadyExists`; `Conflict` for a zone that a host or a server of it cannot be in.
    """
    old = get(tx, aggregate_id)
    if name is not None and name != old.name:
        _must_be_free(tx, name)
    merged = {key: value for key, value in {**old.metadata, **metadata}.items() if value is not None}
    return _replace(tx, old, dataclasses.replace(old, name=name or old.name, metadata=merged), now)


def add_host(tx: sa.Connection, aggregate_id: int, host: str, now: float) -> Aggregate:
    """Raises `NotFound`, `AlreadyExists`, `Conflict` for a host that has another zone, or servers in one."""
    old, provider_id = get(tx, aggregate_id), hosts.get_host(tx, host).provider_id
    if host in old.hosts:
        raise AlreadyExists(f"Aggregate {aggregate_id} already has host {host}.")
    tx.execute(sa.insert(aggregate_hosts).values(aggregate_id=aggregate_id, host=host))
    changed = _replace(tx, old, dataclasses.replace(old, hosts=old.hosts | {host}), now)
    provider = providers.get(tx, provider_id)
    providers.set_aggregates(tx, provider, provider.aggregates | {old.uuid}, now=now)
    return changed


def remove_host(tx: sa.Connection, aggregate_id: int, host: str, now: float) -> Aggregate:
    """Raises `NotFound`, `InUse` for a host with servers that would leave its zone with it."""
    old = get(tx, aggregate_id)
    if host not in old.hosts:
        raise NotFound(f"Cannot remove host {host[:255]} in aggregate {aggregate_id}: it is not there.")
    provider_id = hosts.get_host(tx, host).provider_id
    here = (aggregate_hosts.c.aggregate_id == aggregate_id) & (aggregate_hosts.c.host == host)
    tx.execute(sa.delete(aggregate_hosts).where(here))
    changed = _replace(tx, old, dataclasses.replace(old, hosts=old.hosts - {host}), now)
    provider = providers.get(tx, provider_id)
    providers.set_aggregates(tx, provider, provider.aggregates - {old.uuid}, now=now)
    return changed


def delete(tx: sa.Connection, aggregate_id: int) -> None:
    """Raises `NotFound`, `InUse` for one that has hosts."""
    old = get(tx, aggregate_id)
    if old.hosts:
        raise InUse(f"Aggregate {aggregate_id} is not empty: it has {', '.join(sorted(old.hosts)[:3])}; remove its hosts first.")
    if tx.execute(sa.delete(aggregates).where(_as_it_was(old))).rowcount == 0:
        raise _changed(old)


def _must_be_free(tx: sa.Connection, name: str) -> None:
    if tx.scalar(sa.select(aggregates.c.id).where(aggregates.c.name == name)) is not None:
        raise AlreadyExists(f"Aggregate {name} already exists.")


def _replace(tx: sa.Connection, old: Aggregate, new: Aggregate, now: float) -> Aggregate:
    """Write an aggregate down, and let the zones of hosts follow it. Raises `CorruptRecord` where any is damaged."""
    new = dataclasses.replace(new, generation=old.generation + 1, updated_at=now)
    columns: dict[str, Any] = {"generation": new.generation, "name": new.name, "metadata": dict(new.metadata), "updated_at": now}
    if tx.execute(sa.update(aggregates).where(_as_it_was(old)).values(**columns)).rowcount == 0:
        raise _changed(old)
    # what zone a host has is not decided without one that cannot be read
    others = [a for a in _with_hosts(tx, AGGREGATES.every(tx.execute(_EVERY))) if a.id != old.id]
    _move(tx, rules.moved([*others, old], [*others, new]), now)
    return new


def _as_it_was(old: Aggregate) -> sa.ColumnElement[bool]:
    return (aggregates.c.id == old.id) & (aggregates.c.generation == old.generation)


def _changed(old: Aggregate) -> ConcurrentUpdate:
    return ConcurrentUpdate(f"Aggregate {old.id} was changed by somebody else; try again.")


def _move(tx: sa.Connection, zones: Mapping[str, str], now: float) -> None:
    """Give hosts other zones. Raises `InUse` where one has servers, `ConcurrentUpdate`."""
    for host in zones:
        provider = providers.get(tx, hosts.get_host(tx, host).provider_id)
        providers.bump_generation(tx, provider.id, provider.generation, now)
    held = servers.hosts_in_use(tx, zones)
    if held:
        raise InUse(f"One or more hosts contain instances in this zone: {', '.join(held[:3])}. A server stays in its availability zone.")
    for host, zone in zones.items():
        hosts.update_host(tx, host, zone=zone)
