"""Queries over the ports of servers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.networks import Port
from lamina.store.tables.compute import ports


def make(tx: sa.Connection, server_id: str, project_id: str, networks: Sequence[str], now: float) -> list[Port]:
    """Give a server one port on each of `networks`, in their order, with addresses that no other port has."""
    macs = _unused_macs(tx, len(networks))
    made = [
        Port(ids.new_uuid(), server_id, project_id, network, mac, position, now)
        for position, (network, mac) in enumerate(zip(networks, macs, strict=True))
    ]
    if made:
        tx.execute(sa.insert(ports), [dataclasses.asdict(port) for port in made])
    return made


def _unused_macs(tx: sa.Connection, count: int) -> list[str]:
    found: set[str] = set()
    while len(found) < count:
        drawn = {ids.new_mac() for _ in range(count - len(found))}
        found |= drawn - set(tx.scalars(sa.select(ports.c.mac).where(ports.c.mac.in_(drawn))))
    return list(found)


def select(tx: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Port]:
    """Ports that meet every condition, in the order they were made and stand in."""
    query = sa.select(ports).where(*conditions).order_by(ports.c.created_at, ports.c.server_id, ports.c.position)
    return [Port(**row._mapping) for row in tx.execute(query)]


def of_server(tx: sa.Connection, server_id: str) -> list[Port]:
    """A server's ports in the order of its interfaces."""
    return select(tx, ports.c.server_id == server_id)


def of_servers(tx: sa.Connection, server_ids: Iterable[str]) -> dict[str, list[Port]]:
    """Server id -> its ports, for those that have any."""
    found: dict[str, list[Port]] = {}
    for port in select(tx, ports.c.server_id.in_(list(server_ids))):
        found.setdefault(port.server_id, []).append(port)
    return found


def networks_of(tx: sa.Connection, server_id: str) -> frozenset[str]:
    """Names of the networks that a host must have to take the server."""
    return frozenset(tx.scalars(sa.select(ports.c.network).where(ports.c.server_id == server_id)))


def delete(tx: sa.Connection, server_id: str) -> None:
    """A server's ports go."""
    tx.execute(sa.delete(ports).where(ports.c.server_id == server_id))
