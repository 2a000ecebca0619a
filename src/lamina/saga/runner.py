"""The runner: carries sagas forward and back, one log line at a time, and takes up those that others left.

Each turn reads the log, asks `log.next_move` what comes next, does it, and commits the line together with the rows the
step changes. Killed anywhere, the log says where to go on; a step that had not been logged is done again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from lamina.model import decoding, ids
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest, ConcurrentUpdate, Conflict, HostError, HostUnreachable, LaminaError, Unavailable
from lamina.saga import counts, lines, recovery
from lamina.saga.log import CorruptLog, Do, Entry, Event, Finish, State, Undo, next_move, unwinding
from lamina.saga.probe import NoProbe, Probe
from lamina.saga.steps import Change, Effect, Kind, SagaError, Step, StepDidNothing, Work
from lamina.store import sagas
from lamina.store.database import Database

D = TypeVar("D")
P = TypeVar("P")
log = structlog.get_logger()

#: pauses in seconds before a transient failure is tried again
RETRY_PAUSES = (0.1, 0.5, 2.0)
#: how often a change is begun anew after somebody else was faster
CONFLICTS = 10
#: room for the calls of one step in the numbering of a saga's calls, which grows from step to step
CALLS_OF_A_STEP = 1_000_000
#: most sagas advanced at once; each may wait for its host
WORKERS = 32


class Cancelled(Conflict):
    """Somebody asked the operation to turn back: the server is being deleted, or the operation was aborted."""

    code = "lamina.saga.cancelled"


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a saga runs."""

    user_id: str
    project_id: str
    request_id: str
    #: what the caller's own caller names the whole by
    global_request_id: str | None = None


class Runner(Generic[D]):
    """Runs sagas of one process. Thread-safe. `alone` says that no other process uses this database."""

    def __init__(
        self, db: Database, clock: Clock, kinds: Iterable[Kind[D, Any]], *, lease: float, alone: bool, probe: Probe | None = None
    ) -> None:
        self.me = ids.new_uuid()
        self.kinds = {kind.name: kind for kind in kinds}
        self._db = db
        self._clock = clock
        self._lease = lease
        self._alone = alone
        self._probe: Probe = probe or NoProbe()
        self._plane: D | None = None
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._heart: threading.Thread | None = None

    def attach(self, plane: D) -> None:
        """Give the steps what they work with."""
        self._plane = plane

    def start(self) -> None:
        """Take up what was left unfinished, and run in threads from now on. Not started, a runner moves by `advance` only."""
        self._pool = concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="saga")
        self.take_over()
        self._heart = threading.Thread(target=self._beat, name="saga-lease", daemon=True)
        self._heart.start()

    def stop(self) -> None:
        """Finish the steps under way, log them, and leave the rest to another process, or to the next."""
        self._stopping.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._heart is not None:
            self._heart.join()
        try:
            with self._db.write() as tx:
                sagas.let_go(tx, owner=self.me)
        except LaminaError as error:
            log.warning("leases not let go", why=error.message)

    # ------------------------------------------------------------------------------------------------ enlisting

    def enlist(
        self, tx: sa.Connection, kind: Kind[D, P], subject: str, params: P, caller: Caller, *, action: str, interrupt: bool = False
    ) -> str:
        """Write a new saga into the caller's transaction; after its commit the caller passes the id to `wake`.

        With `interrupt` the saga that holds the subject is asked to turn back and the new one waits for its end; one
        that is stuck is given up for it. Raises `AlreadyExists` where the subject is held and the new saga may not wait.
        """
        saga_id, now = ids.new_uuid(), self._clock.now()
        holder = sagas.holder(tx, subject) if interrupt else None
        if holder is not None and holder.state == State.STUCK:
            _give_up(tx, holder.id, saga_id, now)
            holder = None
        elif holder is not None:
            sagas.cancel(tx, holder.id)
        waits = {"state": State.WAITING, "owner": None, "lease_expires_at": None} if holder else {}
        sagas.insert(tx, [self._columns(tx, kind, params, caller, action, now) | {"id": saga_id, "subject": subject} | waits])
        return saga_id

    def enlist_new(
        self, tx: sa.Connection, kind: Kind[D, P], subjects: Iterable[str], params: P, caller: Caller, *, action: str
    ) -> list[str]:
        """One saga for each of these subjects, which nothing holds yet, all under one epoch: as `enlist`, at once."""
        columns = self._columns(tx, kind, params, caller, action, self._clock.now())
        rows = [columns | {"id": ids.new_uuid(), "subject": subject} for subject in subjects]
        sagas.insert(tx, rows)
        return [str(row["id"]) for row in rows]

    def _columns(self, tx: sa.Connection, kind: Kind[D, P], params: P, caller: Caller, action: str, now: float) -> dict[str, Any]:
        """What the rows of new sagas of this process have in common."""
        return {
            "kind": kind.name,
            "params": msgspec.to_builtins(params),
            "steps": list(kind.step_names),
            "state": State.RUNNING,
            "owner": self.me,
            "lease_expires_at": now + self._lease,
            "epoch": sagas.next_epoch(tx),
            "action": action,
            "request_id": caller.request_id,
            "global_request_id": caller.global_request_id,
            "project_id": caller.project_id,
            "user_id": caller.user_id,
            "created_at": now,
            "updated_at": now,
        }

    def wake(self, *saga_ids: str) -> None:
        """Begin to run these sagas if they are ours to run. Losing a call loses no saga: `take_over` finds it."""
        for saga_id in saga_ids:
            with self._lock:
                if self._pool is None or self._stopping.is_set() or saga_id in self._running:
                    continue
                self._running.add(saga_id)
            try:
                self._pool.submit(self._run, saga_id)
            except RuntimeError:  # the pool shut down between the check and here
                self._forget(saga_id)

    def take_over(self) -> recovery.Plan:
        """Take up sagas whose process is gone and waiting ones whose turn has come."""
        with self._lock:
            mine = frozenset(self._running)
        with self._db.read() as tx:
            rows = {row.id: row for row in sagas.unfinished(tx)}
        found = [recovery.Found(r.id, r.kind, r.subject, State(r.state), r.owner, r.lease_expires_at, r.seq) for r in rows.values()]
        plan = recovery.plan(found, me=self.me, mine=mine, now=self._clock.now(), alone=self._alone, kinds=self.kinds.keys())
        for saga_id in plan.unknown:
            log.warning("saga of a kind this version does not know", saga=saga_id, kind=rows[saga_id].kind)
        taken = self._take_all(plan.take) if plan.take else set()
        for saga_id in (*plan.take, *plan.promote):
            if saga_id in taken or (saga_id in plan.promote and self._promote(rows[saga_id])):
                if saga_id in taken:
                    counts.TAKEN_OVER.labels(rows[saga_id].kind).inc()
                log.info("saga taken up", saga=saga_id, kind=rows[saga_id].kind, subject=rows[saga_id].subject)
                self.wake(saga_id)
        for stuck, saga_id in plan.overrule:
            if self._overrule(stuck, rows[saga_id]):
                log.info("stuck saga given up for one that waits", stuck=stuck, saga=saga_id, subject=rows[saga_id].subject)
                self.wake(saga_id)
        return plan

    def _overrule(self, stuck: str, waiting: sagas.SagaRow) -> bool:
        """Let the one that waits behind a stuck saga begin; False where an operator or another process was faster."""
        now = self._clock.now()
        try:
            with self._db.write() as tx:
                _give_up(tx, stuck, waiting.id, now)
                taken = sagas.take(tx, waiting, state=State.RUNNING, owner=self.me, lease_expires_at=now + self._lease, now=now)
        except Conflict:
            return False
        return taken is not None

    def _take_all(self, saga_ids: Sequence[str]) -> set[str]:
        """A process that dies may leave many behind: together they cost the others no more than one."""
        now = self._clock.now()
        with self._db.write() as tx:
            return sagas.take_all(tx, saga_ids, owner=self.me, lease_expires_at=now + self._lease, now=now, alone=self._alone)

    def _promote(self, row: sagas.SagaRow) -> bool:
        """Let a waiting saga begin, whose subject is free; False where another was faster."""
        now = self._clock.now()
        try:
            with self._db.write() as tx:
                if sagas.holder(tx, row.subject) is not None:
                    return False
                taken = sagas.take(tx, row, state=State.RUNNING, owner=self.me, lease_expires_at=now + self._lease, now=now)
                return taken is not None
        except sa.exc.IntegrityError:  # another waiting saga of the subject was promoted first
            return False

    # ------------------------------------------------------------------------------------------------ an operator's word

    def resume(self, saga_id: str) -> None:
        """Let a stuck saga try again. Raises `NotFound`, `Conflict`."""
        now = self._clock.now()
        with self._db.write() as tx:
            back = unwinding(lines.read(sagas.events(tx, [saga_id])))
            sagas.operator_verdict(tx, saga_id, state=State.UNWINDING if back else State.RUNNING, reason=None, now=now)
        self.take_over()

    def abandon(self, saga_id: str, reason: str) -> None:
        """Give a stuck saga up: its subject is free, what it left is for the operator. Raises `NotFound`, `Conflict`."""
        now = self._clock.now()
        with self._db.write() as tx:
            row = sagas.get(tx, saga_id)
            sagas.operator_verdict(tx, saga_id, state=State.ABANDONED, reason=reason, now=now)
        counts.ended(row.kind, State.ABANDONED, now - row.created_at)
        self.take_over()

    # ------------------------------------------------------------------------------------------------ running

    def _run(self, saga_id: str) -> None:
        try:
            while not self._stopping.is_set() and self.advance(saga_id):
                pass
        except sagas.LostLease:
            log.info("saga lost to another process", saga=saga_id)
        except LaminaError as error:
            log.error("saga cannot go on now", saga=saga_id, why=error.message, **error.context)
        except Exception:
            log.exception("saga cannot go on now", saga=saga_id)
        finally:
            self._forget(saga_id)

    def _forget(self, saga_id: str) -> None:
        with self._lock:
            self._running.discard(saga_id)

    def advance(self, saga_id: str) -> bool:
        """Make one move of a saga that this process owns; False once nothing is left to do for now."""
        with self._db.read() as tx:
            row = sagas.get(tx, saga_id)
            written = sagas.events(tx, [saga_id])
        if row.owner != self.me or row.state not in (State.RUNNING, State.UNWINDING):
            return False
        kind = self.kinds[row.kind]
        try:
            lines.must_be_readable(row)
            entries = lines.read(written)
            move = next_move(row.steps, entries)
            if not entries:
                counts.BEGUN.labels(row.kind).inc()
            turn = _Turn(self, kind, row, entries, self._work(kind, row, entries))
        except CorruptLog as error:
            return self._unreadable(row, error)
        missing = move.step if not isinstance(move, Finish) and kind.step(move.step) is None else None
        if missing is not None:
            return turn.stick(SagaError("lamina.saga.unknown_step", f"this version of Lamina has no step {missing!r} in {row.kind}"))
        match move:
            case Do(step):
                return turn.do(step)
            case Undo(step):
                return turn.undo(step)
            case Finish(state):
                return turn.finish(state)

    def _unreadable(self, row: sagas.SagaRow, error: CorruptLog) -> bool:
        """What cannot be read waits for an operator, and keeps nobody else waiting."""
        told = dataclasses.asdict(SagaError.of(error, "", None))
        with self._db.write() as tx:
            now = self._clock.now()
            sagas.write(tx, row.id, owner=self.me, epoch=row.epoch, new_events=(), state=State.STUCK, error=told, updated_at=now)
            waited_for = sagas.waiting(tx, row.subject) is not None
        counts.STUCK.labels(row.kind).inc()
        log.error("saga is stuck", saga=row.id, kind=row.kind, subject=row.subject, why=error.message)
        if waited_for:
            self.take_over()
        return False

    def _work(self, kind: Kind[D, Any], row: sagas.SagaRow, entries: list[Entry]) -> Work[D, Any]:
        if self._plane is None:
            raise LaminaError("the runner has not been started")
        try:
            params = decoding.from_plain(row.params, kind.params)
        except (msgspec.ValidationError, BadRequest) as error:
            raise CorruptLog(f"the parameters of operation {row.id} cannot be read: {error}") from error
        return Work(
            plane=self._plane,
            id=row.id,
            kind=row.kind,
            subject=row.subject,
            params=params,
            epoch=row.epoch,
            action=row.action,
            request_id=row.request_id,
            global_request_id=row.global_request_id,
            project_id=row.project_id,
            user_id=row.user_id,
            outputs={e.step: e.output for e in entries if e.event is Event.DONE},
            calls=itertools.count(len(entries) * CALLS_OF_A_STEP + 1),
        )

    def _beat(self) -> None:
        while not self._stopping.wait(self._lease / 3):
            with self._lock:
                mine = frozenset(self._running)
            try:
                if mine:
                    with self._db.write() as tx:
                        sagas.extend_leases(tx, owner=self.me, saga_ids=mine, lease_expires_at=self._clock.now() + self._lease)
                self.take_over()
            except LaminaError as error:
                log.warning("leases not extended", why=error.message)


class _Turn(Generic[D]):
    """One move of one saga: what was read, and the ways it can end."""

    def __init__(self, runner: Runner[D], kind: Kind[D, Any], row: sagas.SagaRow, entries: list[Entry], work: Work[D, Any]) -> None:
        self._runner = runner
        self._kind = kind
        self._row = row
        self._entries = entries
        self._work = work
        self._started_at = runner._clock.now()

    def do(self, name: str) -> bool:
        step = self._step(name)
        if self._row.cancelled and not self._committed(name):
            return self._fail(name, Cancelled("The operation was asked to turn back."))
        try:
            ended = self._change(step) if isinstance(step, Change) else self._effect(step)
        except sagas.LostLease:
            raise
        except Exception as error:
            if self._left_to_the_next(error):
                return False
            self._tell(name, error)
            if self._committed(name, itself=not isinstance(error, StepDidNothing)):
                return self.stick(SagaError.of(error, name, self._work.host))
            return self._fail(name, error)
        return self._logged(name, ended, State.DONE)

    def _change(self, step: Change[D, Any, Any]) -> bool:
        """One transaction; begun anew where somebody else changed what it had read."""
        for attempt in range(CONFLICTS + 1):
            self._runner._probe.at("before-do", self._row.id, step.name)
            try:
                # a claim looks at what is committed to find its host; those who were beaten to it take turns
                with self._runner._db.write(settled=True, queued=attempt > 0) as tx:
                    output = step.do(self._work, tx)
                    ended = self._log(tx, step.name, Event.DONE, output=output, last=step.name == self._row.steps[-1])
                    self._runner._probe.at("after-do", self._row.id, step.name)
                return ended
            except ConcurrentUpdate:
                if attempt == CONFLICTS:
                    raise
        return False

    def _effect(self, step: Effect[D, Any, Any]) -> bool:
        self._runner._probe.at("before-do", self._row.id, step.name)
        output = self._patiently(lambda: step.do(self._work))
        self._runner._probe.at("after-do", self._row.id, step.name)
        with self._runner._db.write() as tx:
            if step.then is not None:
                step.then(self._work, tx, output)
            return self._log(tx, step.name, Event.DONE, output=output, last=step.name == self._row.steps[-1])

    def undo(self, name: str) -> bool:
        step = self._step(name)
        try:
            self._runner._probe.at("before-undo", self._row.id, name)
            seen = None
            if isinstance(step, Effect) and step.undo is not None:
                undo = step.undo
                seen = self._patiently(lambda: undo(self._work))
                self._runner._probe.at("after-undo", self._row.id, name)
            with self._runner._db.write() as tx:
                if isinstance(step, Change) and step.undo is not None:
                    step.undo(self._work, tx)
                elif isinstance(step, Effect) and step.undone is not None:
                    step.undone(self._work, tx, seen)
                ended = self._log(tx, name, Event.UNDONE, last=name == self._row.steps[0])
        except sagas.LostLease:
            raise
        except Exception as error:
            if self._left_to_the_next(error):
                return False
            self._tell(name, error)
            return self.stick(SagaError.of(error, name, self._work.host), undoing=name)
        return self._logged(name, ended, State.UNDONE)

    def finish(self, state: State) -> bool:
        """End a saga whose last line lies in the log but whose row does not say so (a saga without steps)."""
        with self._runner._db.write() as tx:
            self._end(tx, state, ())
        self._count(state)
        self._runner.wake(*self._work.enlisted)
        return False

    def stick(self, error: SagaError, undoing: str | None = None) -> bool:
        """Neither forward nor back: wait, visibly, for an operator."""
        events = []
        if undoing is not None and not any(e.step == undoing and e.event is Event.UNDO_FAILED for e in self._entries):
            events.append(self._event(undoing, Event.UNDO_FAILED, error=error))
        with self._runner._db.write() as tx:
            self._write(tx, events, state=State.STUCK, error=dataclasses.asdict(error))
            waited_for = sagas.waiting(tx, self._row.subject) is not None
        counts.STUCK.labels(self._row.kind).inc()
        log.error("saga is stuck", saga=self._row.id, kind=self._row.kind, subject=self._row.subject, step=error.step, why=error.message)
        if waited_for:
            self._runner.take_over()
        return False

    def _fail(self, name: str, error: Exception) -> bool:
        told = SagaError.of(error, name, self._work.host)
        with self._runner._db.write() as tx:
            self._write(tx, [self._event(name, Event.FAILED, error=told)], state=State.UNWINDING, error=dataclasses.asdict(told))
        self._runner._probe.at("logged", self._row.id, name)
        return True

    def _log(self, tx: sa.Connection, name: str, event: Event, *, output: Any = None, last: bool) -> bool:
        line = self._event(name, event, output=output)
        if last:
            self._end(tx, State.DONE if event is Event.DONE else State.UNDONE, (line,))
        else:
            self._write(tx, [line])
        return last

    def _count(self, outcome: State) -> None:
        counts.ended(self._row.kind, outcome, self._runner._clock.now() - self._row.created_at)

    def _logged(self, name: str, ended: bool, outcome: State) -> bool:
        """`outcome` is that of the saga, if it has `ended`."""
        if ended:
            self._count(outcome)
        self._runner._probe.at("logged", self._row.id, name)
        if ended:
            self._runner._forget(self._row.id)
            self._runner.wake(*self._work.enlisted)
        return not ended

    def _end(self, tx: sa.Connection, state: State, events: tuple[sagas.EventRow, ...]) -> None:
        """The last commit of a saga: its subject learns of the outcome and the next in line is promoted."""
        self._write(tx, events, state=state)
        if state is State.UNDONE:
            self._kind.undone(self._work, tx, lines.first_failure(self._entries))
        following = sagas.waiting(tx, self._row.subject)
        if following is not None and sagas.holder(tx, self._row.subject) is None:
            now = self._runner._clock.now()
            sagas.take(tx, following, state=State.RUNNING, owner=self._runner.me, lease_expires_at=now + self._runner._lease, now=now)
            self._work.enlisted.append(following.id)

    def _write(self, tx: sa.Connection, events: Iterable[sagas.EventRow], **columns: Any) -> None:
        now = self._runner._clock.now()
        columns = {"updated_at": now, "lease_expires_at": now + self._runner._lease} | columns
        sagas.write(tx, self._row.id, owner=self._runner.me, epoch=self._row.epoch, new_events=tuple(events), **columns)

    def _event(self, name: str, event: Event, *, output: Any = None, error: SagaError | None = None) -> sagas.EventRow:
        return sagas.EventRow(
            saga_id=self._row.id,
            step=name,
            event=event,
            number=len(self._entries) + 1,
            output=msgspec.to_builtins(output),
            error=dataclasses.asdict(error) if error else None,
            host=self._work.host,
            started_at=self._started_at,
            finished_at=self._runner._clock.now(),
        )

    def _patiently(self, attempt: Any) -> Any:
        for pause in (*RETRY_PAUSES, None):
            try:
                return attempt()
            except (HostError, Unavailable) as error:
                if pause is None or not (isinstance(error, Unavailable) or error.retry) or self._runner._stopping.is_set():
                    raise
                log.info("step is tried again", saga=self._row.id, why=error.message, after_seconds=pause)
                self._runner._clock.sleep(pause)
        return None

    def _left_to_the_next(self, error: Exception) -> bool:
        """Whether a step failed for no other reason than that this process is ending: its lines to hosts and to the database end too.

        Nothing is logged of it, so whoever goes on does it again.
        """
        return self._runner._stopping.is_set() and isinstance(error, (HostUnreachable, Unavailable))

    def _committed(self, name: str, *, itself: bool = True) -> bool:
        """Whether the saga may have passed a step that cannot be taken back, up to this one, and this `itself`."""
        steps = [self._kind.step(s) for s in self._row.steps[: self._row.steps.index(name) + itself]]
        return any(isinstance(s, Effect) and s.irrevocable for s in steps)

    def _step(self, name: str) -> Step[D, Any]:
        step = self._kind.step(name)
        if step is None:
            raise LaminaError(f"no step {name!r} in {self._kind.name}")
        return step

    def _tell(self, name: str, error: Exception) -> None:
        if isinstance(error, LaminaError):
            log.info("step failed", saga=self._row.id, kind=self._row.kind, step=name, why=error.message, **error.context)
        else:
            log.error("step failed", saga=self._row.id, kind=self._row.kind, step=name, exc_info=error)


def _give_up(tx: sa.Connection, stuck: str, saga_id: str, now: float) -> None:
    """End a stuck saga for the sake of another. Raises `Conflict` where it is not stuck."""
    sagas.operator_verdict(tx, stuck, state=State.ABANDONED, reason=f"given up for the operation {saga_id}", now=now)
