"""What operations are written in: kinds of sagas, and the two kinds of steps.

A `Change` touches the database only; it and its line in the log are one commit, so it happens exactly once.
An `Effect` touches a host; it runs outside any transaction, may run again after a crash, and must come to the same
each time. What it learnt is written by ``then`` in the commit of its line in the log. Their undos are alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa

from lamina.model import decoding
from lamina.model.errors import LaminaError
from lamina.model.hosts import Call, Fence


class StepDidNothing(LaminaError):
    """Raised by an irrevocable step that knows that nothing of it has happened, and nothing will: the saga may still turn back."""

    code = "lamina.saga.step_did_nothing"


D = TypeVar("D")
P = TypeVar("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True)
class Change(Generic[D, P, R]):
    """A step in the database. ``do(work, tx)`` returns the step's output; ``undo`` takes the change back."""

    name: str
    do: Callable[[Work[D, P], sa.Connection], R]
    undo: Callable[[Work[D, P], sa.Connection], None] | None = None
    output: type[Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Effect(Generic[D, P, R]):
    """A step on a host.

    ``then(work, tx, output)`` records what is true afterwards; ``undone(work, tx, seen)`` records what is true after
    ``undo``, of which ``seen`` is what it returned.
    Before an ``irrevocable`` step the saga may turn back; once it may have begun, the saga only goes forward, unless the
    step says for certain, by `StepDidNothing`, that it came to nothing.
    """

    name: str
    do: Callable[[Work[D, P]], R]
    then: Callable[[Work[D, P], sa.Connection, R], None] | None = None
    undo: Callable[[Work[D, P]], Any] | None = None
    undone: Callable[[Work[D, P], sa.Connection, Any], None] | None = None
    output: type[Any] | None = None
    irrevocable: bool = False


Step = Change[D, P, Any] | Effect[D, P, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind(Generic[D, P]):
    """A kind of saga: its name in the database, what it is given, its steps.

    ``undone(work, tx, error)`` is part of the commit that ends the unwinding: there the subject gets its fault, or the
    next attempt is enlisted.
    """

    name: str
    params: type[P]
    steps: tuple[Step[D, P], ...]
    undone: Callable[[Work[D, P], sa.Connection, SagaError], None]

    def step(self, name: str) -> Step[D, P] | None:
        return next((s for s in self.steps if s.name == name), None)

    @property
    def step_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.steps)


@dataclasses.dataclass(frozen=True, slots=True)
class SagaError:
    """Why a saga unwinds, as it lies in the log."""

    code: str
    message: str
    status: int = 500
    #: the step that failed, and the host it worked on
    step: str = ""
    host: str | None = None

    @classmethod
    def of(cls, error: Exception, step: str, host: str | None) -> SagaError:
        """From any exception; what is not Lamina's own is told without its internals."""
        if isinstance(error, LaminaError):
            return cls(error.code, error.message, error.status, step, host)
        told = f"Lamina met an unexpected error ({type(error).__name__}) at step {step}; its log tells more."
        return cls(LaminaError.code, told, 500, step, host)


@dataclasses.dataclass(slots=True)
class Work(Generic[D, P]):
    """What a step is given: the control plane, the saga's identity and parameters, and the outputs of earlier steps."""

    plane: D
    id: str
    kind: str
    subject: str
    params: P
    epoch: int
    action: str
    request_id: str
    project_id: str
    user_id: str
    outputs: Mapping[str, Any]
    #: numbers of the calls to hosts, larger than those of every earlier step
    calls: Iterator[int]
    #: the host a step worked on, for those who read the log
    host: str | None = None
    global_request_id: str | None = None
    #: sagas that a step has enlisted or promoted in its transaction; started once that is committed
    enlisted: list[str] = dataclasses.field(default_factory=list)

    def output(self, step: Change[D, P, R] | Effect[D, P, R]) -> R:
        """What an earlier step returned. Raises KeyError where it has not finished."""
        if step.output is None:
            raise KeyError(f"step {step.name} has no output")
        return cast(R, decoding.from_plain(self.outputs[step.name], step.output))

    def finished(self, step: Change[D, P, Any] | Effect[D, P, Any]) -> bool:
        """Whether an earlier step came to its end; an undo may find that it did not."""
        return step.name in self.outputs

    def call(self, step: str) -> Call:
        """The signature of the next call to a host; later calls have higher fences."""
        return Call(self.id, step, Fence(self.epoch, next(self.calls)))
