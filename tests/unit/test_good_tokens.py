"""A remembered token is no better than one that is looked up: whatever ends it ends it at once, whoever else is writing."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import pytest
import sqlalchemy as sa

from lamina.operations.control_plane import ControlPlane
from lamina.store import identity
from lamina.store import tokens as store
from lamina.store.bootstrap import bootstrap
from lamina.store.good_tokens import GoodTokens
from lamina.store.tables.identity import domains, group_members, group_role_assignments, role_assignments, roles, tokens, user_groups
from lamina.store.tables.placement import traits
from lamina.store.tokens import Token

NOW, LATER = 1000.0, 2000.0


@pytest.fixture
def token(plane: ControlPlane) -> Token:
    """One of the user demo for the project demo, looked up and so remembered."""
    with plane.db.write() as tx:
        bootstrap(tx, "a", "b", NOW)
    with plane.db.write() as tx:
        user, project = identity.list_users(tx, name="demo")[0], identity.list_projects(tx, name="demo")[0]
        shown = store.add_token(tx, user.id, project.id, ["password"], NOW, LATER)
    found = plane.tokens.find(store.token_hash(shown), NOW)
    assert found is not None
    return found


def revoke(tx: sa.Connection, token: Token) -> None:
    store.revoke(tx, token.hash)


def take_the_role(tx: sa.Connection, token: Token) -> None:
    tx.execute(sa.delete(role_assignments).where(role_assignments.c.user_id == token.user.id))


def disable_the_user(tx: sa.Connection, token: Token) -> None:
    identity.change_user(tx, token.user.id, {"enabled": False})


def disable_the_project(tx: sa.Connection, token: Token) -> None:
    assert token.project is not None
    identity.change_project(tx, token.project.id, {"enabled": False})


def delete_the_project(tx: sa.Connection, token: Token) -> None:
    assert token.project is not None
    identity.delete_project(tx, token.project.id)


def disable_the_domain(tx: sa.Connection, _token: Token) -> None:
    tx.execute(sa.update(domains).values(enabled=False))


ENDS = [revoke, take_the_role, disable_the_user, disable_the_project, delete_the_project, disable_the_domain]


@pytest.fixture
def statements(plane: ControlPlane) -> list[Any]:
    said: list[Any] = []
    sa.event.listen(plane.db.engine, "before_cursor_execute", lambda *what: said.append(what[2]))
    return said


def test_it_is_looked_up_once(plane: ControlPlane, token: Token, statements: list[Any]) -> None:
    with plane.db.write() as tx:
        tx.execute(sa.insert(traits).values(name="CUSTOM_A"))
    statements.clear()
    assert plane.tokens.find(token.hash, NOW) is token
    assert statements == []


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_what_ends_it_ends_it_at_once(plane: ControlPlane, token: Token, end: Callable[[sa.Connection, Token], None]) -> None:
    with plane.db.write() as tx:
        end(tx, token)
    assert plane.tokens.find(token.hash, NOW) is None


@pytest.mark.parametrize("table", [group_members, group_role_assignments, user_groups, roles], ids=lambda table: table.name)
@pytest.mark.weakness(613)
def test_what_is_had_by_a_group_ends_at_once(plane: ControlPlane, token: Token, table: sa.Table) -> None:
    with plane.db.write() as tx:
        role = tx.scalar(sa.select(roles.c.id).where(roles.c.name == "member"))
        tx.execute(sa.insert(user_groups).values(id="g", domain_id="default", name="g"))
        tx.execute(sa.insert(group_members).values(group_id="g", user_id=token.user.id))
        tx.execute(sa.insert(group_role_assignments).values(group_id="g", role_id=role, target=token.target))
        take_the_role(tx, token)
    assert plane.tokens.find(token.hash, NOW) == token, "the role is held still, by the group"
    with plane.db.write() as tx:
        tx.execute(sa.delete(table))
    assert plane.tokens.find(token.hash, NOW) is None


def test_what_was_undone_does_not(plane: ControlPlane, token: Token) -> None:
    with plane.db.write() as tx:
        half = tx.begin_nested()
        revoke(tx, token)
        half.rollback()
    assert plane.tokens.find(token.hash, NOW) == token


def test_it_runs_out(plane: ControlPlane, token: Token) -> None:
    assert plane.tokens.find(token.hash, LATER - 1) is token
    assert plane.tokens.find(token.hash, LATER) is None


class Slow(frozenset[sa.Table]):
    """Tables of which it takes so long to see whether they were written to that `meanwhile` is done in between, once."""

    meanwhile: list[Callable[[], None]]

    def __and__(self, other: Set[object]) -> frozenset[sa.Table]:
        touched = frozenset(self).intersection(other)
        if self.meanwhile:
            self.meanwhile.pop()()
        return touched


@pytest.mark.parametrize("first", ["another table", "the same table"])
def test_a_write_that_is_counted_late_does_not_hide_one_that_was_counted_before(plane: ControlPlane, first: str) -> None:
    def revoked() -> None:
        with plane.db.write() as tx:
            tx.execute(sa.delete(tokens))

    slow = Slow({tokens})
    slow.meanwhile = []
    told = plane.db.count_writes(slow)
    before = told()
    slow.meanwhile = [revoked]
    with plane.db.write() as tx:
        tx.execute(sa.delete(traits if first == "another table" else tokens))
    assert told() == before + (1 if first == "another table" else 2)


def test_a_write_while_it_is_looked_up_has_it_looked_up_again(
    plane: ControlPlane, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = GoodTokens(plane.db)
    look = store.find_token

    def looked(tx: sa.Connection, hash_: str, now: float) -> Token | None:
        found = look(tx, hash_, now)
        with plane.db.write() as other:
            store.revoke(other, hash_)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "find_token", looked)
        assert fresh.find(token.hash, NOW) == token, "it was good when it was looked at"
    assert fresh.find(token.hash, NOW) is None
