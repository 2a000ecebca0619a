"""Ports as they lie in the database."""

from __future__ import annotations

import pytest

from lamina.model import ids
from lamina.operations.control_plane import ControlPlane
from lamina.store import ports

ONE, OTHER = ids.new_uuid(), ids.new_uuid()


def test_ports_keep_the_order_they_were_asked_in(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        made = ports.make(tx, ONE, "p", ("b", "a", "b"), 1.0)
    with plane.db.read() as tx:
        assert ports.of_server(tx, ONE) == made
        assert [(p.network, p.position) for p in made] == [("b", 0), ("a", 1), ("b", 2)]
        assert ports.networks_of(tx, ONE) == {"a", "b"}
        assert ports.networks_of(tx, OTHER) == frozenset()
        assert ports.of_servers(tx, [ONE, OTHER]) == {ONE: made}


def test_an_address_that_is_taken_is_drawn_again(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["m1", "m1", "m2", "m2", "m1", "m3", "m4"])
    monkeypatch.setattr(ids, "new_mac", lambda: next(drawn))
    with plane.db.write() as tx:
        first = ports.make(tx, ONE, "p", ("a", "a"), 1.0)
        second = ports.make(tx, OTHER, "p", ("a", "a"), 1.0)
    assert {p.mac for p in first} == {"m1", "m2"}
    assert {p.mac for p in second} == {"m3", "m4"}


def test_one_servers_ports_go_and_no_others(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        ports.make(tx, ONE, "p", ("a",), 1.0)
        kept = ports.make(tx, OTHER, "p", ("a",), 1.0)
        ports.delete(tx, ONE)
        ports.delete(tx, ONE)
        assert ports.select(tx) == kept
