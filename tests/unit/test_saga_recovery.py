"""Which sagas a process takes up, as a pure plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.saga.log import HOLDING, State
from lamina.saga.recovery import Found, plan

KINDS = {"create", "delete"}


def found(
    seq: int, state: State, *, owner: str | None = "gone", lease: float | None = 10.0, subject: str = "s", kind: str = "create"
) -> Found:
    return Found(f"saga{seq}", kind, subject, state, owner, lease, seq)


def test_an_expired_lease_is_taken_and_a_good_one_is_not() -> None:
    rows = [found(1, State.RUNNING, lease=5.0), found(2, State.UNWINDING, lease=20.0, subject="t")]
    assert plan(rows, me="me", mine=(), now=10.0, alone=False, kinds=KINDS).take == ("saga1",)


def test_alone_on_the_database_nobody_elses_lease_counts() -> None:
    rows = [found(1, State.RUNNING, lease=99.0), found(2, State.RUNNING, lease=99.0, owner="me", subject="t")]
    assert plan(rows, me="me", mine=(), now=10.0, alone=True, kinds=KINDS).take == ("saga1",)


def test_what_i_run_i_do_not_take_again() -> None:
    assert plan([found(1, State.RUNNING, lease=0.0)], me="me", mine={"saga1"}, now=10.0, alone=True, kinds=KINDS).take == ()


def test_a_stuck_saga_waits_for_its_operator() -> None:
    decided = plan([found(1, State.STUCK, lease=0.0)], me="me", mine=(), now=10.0, alone=True, kinds=KINDS)
    assert (decided.take, decided.promote, decided.overrule) == ((), (), ())


def test_what_waits_behind_a_stuck_saga_has_it_given_up() -> None:
    waiting = [found(seq, State.WAITING, owner=None, lease=None) for seq in (2, 3)]
    decided = plan([found(1, State.STUCK, lease=0.0), *waiting], me="me", mine=(), now=10.0, alone=True, kinds=KINDS)
    assert (decided.take, decided.promote, decided.overrule) == ((), (), (("saga1", "saga2"),))


def test_of_two_that_wait_the_older_is_promoted() -> None:
    rows = [found(2, State.WAITING, owner=None, lease=None), found(1, State.WAITING, owner=None, lease=None)]
    assert plan(rows, me="me", mine=(), now=10.0, alone=False, kinds=KINDS).promote == ("saga1",)


@pytest.mark.weakness(439)
def test_kinds_of_a_newer_version_are_left_to_it() -> None:
    decided = plan([found(1, State.RUNNING, lease=0.0, kind="teleport")], me="me", mine=(), now=10.0, alone=True, kinds=KINDS)
    assert (decided.take, decided.unknown) == ((), ("saga1",))


HELD_OR_WAITING = st.sampled_from(sorted(HOLDING | {State.WAITING}))


@given(st.lists(st.tuples(HELD_OR_WAITING, st.sampled_from(["a", "b"]), st.floats(0, 20), st.booleans()), max_size=8))
def test_no_subject_is_ever_held_twice(rows: list[tuple[State, str, float, bool]]) -> None:
    world: list[Found] = []
    for seq, (state, subject, lease, known) in enumerate(rows):
        if state in HOLDING and any(f.subject == subject and f.state in HOLDING for f in world):
            continue  # the database's unique index allows one holder
        world.append(found(seq, state, subject=subject, lease=lease, kind="create" if known else "teleport"))
    decided = plan(world, me="me", mine=(), now=10.0, alone=False, kinds=KINDS)
    holders = [f.subject for f in world if f.state in HOLDING]
    holders += [f.subject for f in world if f.id in decided.promote]
    assert len(holders) == len(set(holders))
