"""What a server group's policy means for a host, and that no order of events breaks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from lamina.model.errors import NotFound
from lamina.model.gpus import Layout
from lamina.model.policies import PolicyName
from lamina.model.server_groups import Company, GroupPolicy, ServerGroup
from lamina.scheduling import choice, filters, groups
from lamina.scheduling.filters import Wanted
from lamina.store import schema, server_groups
from lamina.store.database import Database
from tests.unit.test_scheduling import SMALL, field, host, request

HOSTS = ("a", "b", "c")


def group(policy: GroupPolicy, most: int | None = None) -> ServerGroup:
    return ServerGroup("g", "g", "p", "u", policy, most)


def company(policy: GroupPolicy, *places: str, most: int | None = None) -> Company:
    """Others at these places, each the name of a host or of two with a slash between them."""
    return Company(group(policy, most), tuple(frozenset(place.split("/")) for place in places))


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        (company(GroupPolicy.ANTI_AFFINITY), None),
        (company(GroupPolicy.ANTI_AFFINITY, "b", "c"), None),
        (company(GroupPolicy.ANTI_AFFINITY, "a"), "has 1 of at most 1 servers of anti-affinity group g"),
        (company(GroupPolicy.ANTI_AFFINITY, "b/a"), "has 1 of at most 1 servers of anti-affinity group g"),
        (company(GroupPolicy.ANTI_AFFINITY, "a", most=2), None),
        (company(GroupPolicy.ANTI_AFFINITY, "a", "a", most=2), "has 2 of at most 2 servers of anti-affinity group g"),
        (company(GroupPolicy.AFFINITY), None),
        (company(GroupPolicy.AFFINITY, "a", "a"), None),
        (company(GroupPolicy.AFFINITY, "b"), "affinity group g has a server on another host (b)"),
        (
            company(GroupPolicy.AFFINITY, "a/b"),
            "affinity group g has a server on another host (between a and b until its move is confirmed or reverted)",
        ),
        (company(GroupPolicy.SOFT_AFFINITY, "b"), None),
        (company(GroupPolicy.SOFT_ANTI_AFFINITY, "a"), None),
    ],
)
def test_a_hard_policy_refuses_a_host_and_says_why(others: Company, reason: str | None) -> None:
    assert others.refuses("a") == reason
    assert filters.why_not(host("a"), Wanted(request(), company=others)) == reason


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, int, str]]:
    verbs = st.sampled_from(["place", "move", "confirm", "revert", "delete"])
    return draw(st.lists(st.tuples(verbs, st.integers(0, 5), st.sampled_from(HOSTS)), max_size=40))


@given(st.sampled_from([GroupPolicy.AFFINITY, GroupPolicy.ANTI_AFFINITY]), st.integers(1, 3), stories())
def test_no_order_of_events_breaks_a_hard_policy(policy: GroupPolicy, most: int, story: list[tuple[str, int, str]]) -> None:
    """Servers come, move, stay or go back, and leave, each only where it is not refused; every moment the policy holds."""
    source: dict[int, str] = {}
    target: dict[int, str] = {}

    def allowed(server: int, where: str) -> bool:
        others = tuple(frozenset({source[s], target.get(s, source[s])}) for s in source if s != server)
        return Company(group(policy, most), others).refuses(where) is None

    for verb, server, where in story:
        if verb == "place" and server not in source and allowed(server, where):
            source[server] = where
        elif verb == "move" and server in source and server not in target and allowed(server, where):
            target[server] = where
        elif verb == "confirm" and server in target:
            source[server] = target.pop(server)
        elif verb == "revert":
            target.pop(server, None)
        elif verb == "delete":
            source.pop(server, None)
            target.pop(server, None)
        if policy is GroupPolicy.AFFINITY:
            assert len(set(source.values())) <= 1
        else:
            assert all(list(source.values()).count(name) <= most for name in HOSTS)


def test_soft_policies_order_hosts_before_the_placement_policy_does() -> None:
    hosts = field({"a": Layout(), "b": Layout((SMALL,)), "c": Layout((SMALL,) * 2)})

    def chosen(others: Company | None, last_resort: str | None = None) -> str:
        wanted = Wanted(request(), company=others, last_resort=last_resort)
        return choice.choose(hosts, wanted, PolicyName.SPREAD).host.name

    assert chosen(None) == "a"
    assert chosen(company(GroupPolicy.SOFT_AFFINITY, "b", "c", "c")) == "c"
    assert chosen(company(GroupPolicy.SOFT_ANTI_AFFINITY, "a", "b")) == "c"
    assert chosen(company(GroupPolicy.SOFT_ANTI_AFFINITY, "a", "a", "b", "c")) == "b"
    assert chosen(company(GroupPolicy.SOFT_AFFINITY, "b"), last_resort="b") == "a"
    assert chosen(company(GroupPolicy.SOFT_AFFINITY)) == "a"


def test_a_wish_that_cannot_be_met_is_passed_over() -> None:
    full = field({"a": Layout((SMALL,) * 4), "b": Layout()})
    wanted = Wanted(request(), company=company(GroupPolicy.SOFT_AFFINITY, "a"))
    assert choice.choose(full, wanted, PolicyName.PACK).host.name == "b"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database.at(tmp_path)
    schema.upgrade(db)
    with db.write() as tx:
        for policy in GroupPolicy:
            server_groups.add(tx, dataclasses.replace(group(policy), id=str(policy)))
            server_groups.join(tx, str(policy), [f"server-{policy}"])
    yield db
    db.close()


def test_the_claims_of_a_group_under_a_hard_policy_come_one_after_the_other(db: Database) -> None:
    """SQLite's writers do so anyway; on PostgreSQL the row of the group is held, in the way that lets others join it."""
    dialect: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert str(server_groups.OF_SERVER_HELD.compile(dialect=dialect)).endswith("FOR NO KEY UPDATE")
    asked: list[bool] = []
    sa.event.listen(db.engine, "before_execute", lambda _tx, clause, *_: asked.append(clause is server_groups.OF_SERVER_HELD))
    for policy in GroupPolicy:
        asked.clear()
        with db.write() as tx:
            seen = groups.company(tx, f"server-{policy}")
        assert seen == Company(dataclasses.replace(group(policy), id=str(policy)), ())
        assert any(asked) is policy.hard


def test_a_group_that_is_gone_has_no_say(db: Database) -> None:
    with db.write() as tx:
        server_groups.delete(tx, "affinity")
        assert groups.company(tx, "server-affinity") is None
        assert groups.company(tx, "server-of-no-group") is None
        with pytest.raises(NotFound):
            server_groups.join(tx, "affinity", ["another"])
