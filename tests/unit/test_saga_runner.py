"""The runner on sagas made for the purpose: what it retries, when it turns back, when it sticks, what an operator may say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lamina.model.errors import AlreadyExists, ConcurrentUpdate, Conflict, HostUnreachable, HypervisorError, LaminaError, Unavailable
from lamina.saga import runner as module
from lamina.saga.log import Event, State
from lamina.saga.runner import Caller, Runner
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.store import sagas, schema
from lamina.store.database import Database

CALLER = Caller("u", "p", "req-1")


class Clock:
    """Counts what was slept."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    word: str = "w"


@dataclasses.dataclass(slots=True)
class Plane:
    """What the steps work with: a list of what they did, and errors to come, by step."""

    did: list[str] = dataclasses.field(default_factory=list)
    errors: dict[str, list[Exception]] = dataclasses.field(default_factory=dict)

    def do(self, name: str) -> str:
        if self.errors.get(name):
            raise self.errors[name].pop(0)
        self.did.append(name)
        return f"{name}!"


def kind(name: str = "toy", *, irrevocable: bool = False) -> Kind[Plane, Params]:
    first: Change[Plane, Params, str] = Change("first", lambda w, tx: w.plane.do("first"), lambda w, tx: w.plane.did.append("-first"), str)

    def second(work: Work[Plane, Params]) -> str:
        assert work.output(first) == "first!"
        return work.plane.do("second")

    return Kind(
        name,
        Params,
        (
            first,
            Effect("second", second, undo=lambda w: w.plane.do("-second"), irrevocable=irrevocable),
            Change("third", lambda w, tx: w.plane.do("third")),
        ),
        undone=_undone,
    )


def _undone(work: Work[Plane, Params], tx: sa.Connection, error: SagaError) -> None:
    work.plane.did.append(f"undone: {error.message}")


class Toy:
    def __init__(self, db: Database, made: Kind[Plane, Params]) -> None:
        self.db, self.kind, self.clock, self.plane = db, made, Clock(), Plane()
        self.runner: Runner[Plane] = Runner(db, self.clock, [made], lease=10, alone=False)
        self.runner.attach(self.plane)

    def enlist(self, subject: str = "s", *, interrupt: bool = False) -> str:
        with self.db.write() as tx:
            return self.runner.enlist(tx, self.kind, subject, Params(), CALLER, action="act", interrupt=interrupt)

    def run(self, saga_id: str) -> sagas.SagaRow:
        while self.runner.advance(saga_id):
            pass
        return self.row(saga_id)

    def row(self, saga_id: str) -> sagas.SagaRow:
        with self.db.read() as tx:
            return sagas.get(tx, saga_id)

    def events(self, saga_id: str) -> list[tuple[str, str]]:
        with self.db.read() as tx:
            return [(e.step, e.event) for e in sagas.events(tx, [saga_id])]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database.at(tmp_path)
    schema.upgrade(made)
    yield made
    made.close()


@pytest.fixture
def toy(db: Database) -> Toy:
    return Toy(db, kind())


def test_forward(toy: Toy) -> None:
    saga_id = toy.enlist()
    assert toy.run(saga_id).state == State.DONE
    assert toy.plane.did == ["first", "second", "third"]
    assert toy.events(saga_id) == [("first", Event.DONE), ("second", Event.DONE), ("third", Event.DONE)]


def test_a_failure_turns_back_through_its_own_undo(toy: Toy) -> None:
    toy.plane.errors["second"] = [HypervisorError("no")]
    saga_id = toy.enlist()
    row = toy.run(saga_id)
    assert row.state == State.UNDONE
    assert row.error is not None
    assert (row.error["code"], row.error["step"]) == ("lamina.hypervisor_error", "second")
    assert toy.plane.did == ["first", "-second", "-first", "undone: no"]
    assert toy.clock.slept == [], "a plain refusal is not tried again"


def test_an_unexpected_error_is_told_without_its_internals(toy: Toy) -> None:
    toy.plane.errors["second"] = [RuntimeError("the password is hunter2")]
    row = toy.run(toy.enlist())
    assert row.state == State.UNDONE
    assert row.error is not None
    assert "hunter2" not in str(row.error)
    assert "RuntimeError" in row.error["message"]


def test_a_silent_host_is_tried_again_a_bounded_number_of_times(toy: Toy) -> None:
    toy.plane.errors["second"] = [HostUnreachable("hush")] * len(module.RETRY_PAUSES)
    assert toy.run(toy.enlist("a")).state == State.DONE
    assert tuple(toy.clock.slept) == module.RETRY_PAUSES
    toy.plane.errors["second"] = [HostUnreachable("hush")] * (len(module.RETRY_PAUSES) + 1)
    assert toy.run(toy.enlist("b")).state == State.UNDONE


def test_a_change_is_begun_anew_after_a_conflict_and_not_for_ever(toy: Toy) -> None:
    toy.plane.errors["first"] = [ConcurrentUpdate("lost")] * module.CONFLICTS
    assert toy.run(toy.enlist("a")).state == State.DONE
    toy.plane.errors["first"] = [ConcurrentUpdate("lost")] * (module.CONFLICTS + 1)
    assert toy.run(toy.enlist("b")).state == State.UNDONE


@pytest.mark.parametrize("error", [HostUnreachable("hush"), Unavailable("no database")])
def test_a_process_that_ends_leaves_to_the_next_what_its_lines_are_too_short_for(db: Database, error: LaminaError) -> None:
    toy = Toy(db, kind())
    saga_id = toy.enlist()
    toy.runner.advance(saga_id)
    toy.plane.errors["second"] = [error]
    toy.runner.stop()
    assert not toy.runner.advance(saga_id)
    assert toy.events(saga_id) == [("first", Event.DONE)]
    assert (toy.row(saga_id).state, toy.row(saga_id).lease_expires_at) == (State.RUNNING, 0.0)
    another = Toy(db, kind())
    another.runner.take_over()
    assert another.run(saga_id).state == State.DONE
    assert another.plane.did == ["second", "third"]


def test_past_the_point_of_no_return_it_sticks_until_resumed(db: Database) -> None:
    toy = Toy(db, kind(irrevocable=True))
    toy.plane.errors["third"] = [HypervisorError("no")]
    saga_id = toy.enlist()
    assert toy.run(saga_id).state == State.STUCK
    assert toy.plane.did == ["first", "second"], "nothing is unwound"
    with pytest.raises(AlreadyExists):
        toy.enlist()
    toy.runner.resume(saga_id)
    assert toy.run(saga_id).state == State.DONE


def test_an_undo_that_fails_sticks_and_goes_on_backwards_when_resumed(toy: Toy) -> None:
    toy.plane.errors = {"second": [HypervisorError("no")], "-second": [HypervisorError("not back either")]}
    saga_id = toy.enlist()
    assert toy.run(saga_id).state == State.STUCK
    toy.runner.resume(saga_id)
    assert toy.run(saga_id).state == State.UNDONE
    assert toy.plane.did == ["first", "-second", "-first", "undone: no"]


def test_only_a_stuck_saga_is_for_the_operator_and_abandoning_needs_a_reason(db: Database) -> None:
    toy = Toy(db, kind(irrevocable=True))
    running = toy.enlist("other")
    with pytest.raises(Conflict, match="not stuck"):
        toy.runner.abandon(running, "because")
    toy.plane.errors["third"] = [HypervisorError("no")]
    saga_id = toy.enlist()
    toy.run(saga_id)
    toy.runner.abandon(saga_id, "the host burnt down")
    row = toy.row(saga_id)
    assert (row.state, row.abandoned_reason) == (State.ABANDONED, "the host burnt down")
    toy.enlist()  # the subject is free
    with pytest.raises(sa.exc.IntegrityError), db.engine.begin() as tx:
        tx.execute(sa.text("UPDATE sagas SET state = 'abandoned' WHERE id = :id"), {"id": running})


def test_an_interrupting_saga_waits_while_the_running_one_turns_back(toy: Toy) -> None:
    first = toy.enlist()
    toy.runner.advance(first)
    second = toy.enlist(interrupt=True)
    assert toy.row(second).state == State.WAITING
    assert toy.runner.advance(second) is False
    assert toy.run(first).state == State.UNDONE
    assert toy.row(second).state == State.RUNNING, "promoted by the commit that ended the first"
    assert toy.row(second).epoch > toy.row(first).epoch
    assert toy.run(second).state == State.DONE


def test_what_may_have_passed_the_point_of_no_return_is_not_cancelled(db: Database) -> None:
    toy = Toy(db, kind(irrevocable=True))
    first = toy.enlist()
    toy.runner.advance(first)
    second = toy.enlist(interrupt=True)
    assert toy.run(first).state == State.DONE
    assert toy.run(second).state == State.DONE


def test_an_interrupting_saga_takes_over_from_a_stuck_one(db: Database) -> None:
    toy = Toy(db, kind(irrevocable=True))
    toy.plane.errors["third"] = [HypervisorError("no")]
    first = toy.enlist()
    toy.run(first)
    second = toy.enlist(interrupt=True)
    assert toy.row(first).state == State.ABANDONED
    assert toy.run(second).state == State.DONE


def test_an_interrupting_saga_does_not_wait_for_one_that_gets_stuck_before_it(db: Database) -> None:
    """The one it interrupts is past its point of no return, and then cannot go on."""
    toy = Toy(db, kind(irrevocable=True))
    toy.plane.errors["third"] = [HypervisorError("no")]
    first = toy.enlist()
    toy.runner.advance(first)
    second = toy.enlist(interrupt=True)
    assert toy.row(second).state == State.WAITING
    assert toy.run(first).state == State.ABANDONED
    assert toy.row(first).abandoned_reason == f"given up for the operation {second}"
    assert toy.run(second).state == State.DONE


def test_a_step_that_this_version_does_not_know_sticks_readably(toy: Toy) -> None:
    saga_id = toy.enlist()
    with toy.db.write() as tx:
        tx.execute(sa.text("""UPDATE sagas SET steps = '["first","of the future"]' WHERE id = :id"""), {"id": saga_id})
    row = toy.run(saga_id)
    assert row.state == State.STUCK
    assert row.error is not None
    assert "of the future" in row.error["message"]


def test_calls_are_numbered_upwards_and_a_takeover_has_a_higher_epoch(toy: Toy) -> None:
    saga_id = toy.enlist()
    toy.runner.advance(saga_id)
    other: Runner[Plane] = Runner(toy.db, toy.clock, [toy.kind], lease=10, alone=False)
    other.attach(toy.plane)
    other.take_over()
    assert toy.row(saga_id).owner == toy.runner.me, "the lease is still good"
    before = toy.row(saga_id).epoch
    toy.clock.time += 11
    other.take_over()
    assert toy.row(saga_id).owner == other.me
    assert toy.row(saga_id).epoch > before
    assert toy.runner.advance(saga_id) is False, "it is no longer the first runner's"
    while other.advance(saga_id):
        pass
    assert toy.row(saga_id).state == State.DONE


def test_all_that_a_process_left_behind_is_taken_up_at_once_and_nothing_else(toy: Toy) -> None:
    left = [toy.enlist(subject=f"left-{number}") for number in range(3)]
    toy.clock.time += 11
    kept = toy.enlist(subject="kept")
    waiting = toy.enlist("left-0", interrupt=True)
    with toy.db.write() as tx:
        taken = sagas.take_all(tx, [*left, kept, waiting, "no-such"], owner="other", lease_expires_at=99, now=toy.clock.time, alone=False)
    assert taken == set(left)
    rows = [toy.row(one) for one in left]
    assert {(row.owner, row.epoch) for row in rows} == {("other", rows[0].epoch)}
    assert rows[0].epoch > toy.row(kept).epoch
    assert toy.row(kept).owner == toy.runner.me
    assert toy.row(waiting).state == State.WAITING


def test_whoever_lost_a_saga_writes_nothing_to_it(toy: Toy) -> None:
    saga_id = toy.enlist()
    mine = toy.row(saga_id)
    toy.clock.time += 11
    other: Runner[Plane] = Runner(toy.db, toy.clock, [toy.kind], lease=10, alone=False)
    other.attach(toy.plane)
    other.take_over()
    taken = toy.row(saga_id)
    for owner, epoch in ((mine.owner, mine.epoch), (mine.owner, taken.epoch), (taken.owner, mine.epoch)):
        assert owner is not None
        with pytest.raises(sagas.LostLease), toy.db.write() as tx:
            sagas.write(tx, saga_id, owner=owner, epoch=epoch, new_events=(), state=State.STUCK)
    assert toy.row(saga_id) == taken
