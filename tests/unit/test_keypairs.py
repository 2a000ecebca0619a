"""Keypairs as they are kept."""

from __future__ import annotations

import dataclasses

import pytest

from lamina.model.errors import AlreadyExists, BadRequest, NotFound
from lamina.operations.control_plane import ControlPlane
from lamina.store import keypairs
from lamina.store.keypairs import Keypair

KEY = Keypair("ann", "laptop", "ssh", "3b:5c", "ssh-ed25519 AAAA ann@laptop", 1.5)


def test_a_keypair_is_its_users(plane: ControlPlane) -> None:
    theirs = dataclasses.replace(KEY, user_id="bob")
    with plane.db.write() as tx:
        keypairs.add(tx, KEY)
        keypairs.add(tx, theirs)
        assert keypairs.get(tx, "ann", "laptop") == KEY
        assert keypairs.page(tx, "bob") == [theirs]
        keypairs.delete(tx, "ann", "laptop")
        assert keypairs.page(tx, "ann") == []
        assert keypairs.page(tx, "bob") == [theirs]
        for gone in (keypairs.get, keypairs.delete):
            with pytest.raises(NotFound, match="Keypair laptop not found for user ann"):
                gone(tx, "ann", "laptop")


def test_a_name_is_given_once(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        keypairs.add(tx, KEY)
    with pytest.raises(AlreadyExists), plane.db.write() as tx:
        keypairs.add(tx, dataclasses.replace(KEY, fingerprint="other"))
    with plane.db.read() as tx:
        assert keypairs.get(tx, "ann", "laptop") == KEY


def test_pages_follow_each_other(plane: ControlPlane) -> None:
    with plane.db.write() as tx:
        for name in ("c", "a", "d", "b"):
            keypairs.add(tx, dataclasses.replace(KEY, name=name))
        assert [key.name for key in keypairs.page(tx, "ann", limit=3)] == ["a", "b", "c"]
        assert [key.name for key in keypairs.page(tx, "ann", limit=3, marker="c")] == ["d"]
        with pytest.raises(BadRequest, match="marker"):
            keypairs.page(tx, "bob", marker="c")
