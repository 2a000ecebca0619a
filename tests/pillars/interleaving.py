"""A scheduler of threads of which one runs at a time, and another one only where it is told to: every order can be had, and had again.

Threads give way before each step of an operation, done or undone; where asked, around each call to a host too. What comes between
two of these points is read anew by whoever goes on, or is one transaction.
An order is the list of choices made at those points; `every_order` goes through all of them, depth first.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lamina.hosts.directory import Compute

#: seconds in which a thread that has its turn gives way or ends; one that does not waits for another, who will never come
PATIENCE = 60.0


class Deadlock(AssertionError):
    """A thread waits for one that has not got its turn."""


class Interleaver:
    """A probe of the runner. `choices` are taken first, then those of `dice`, or the first thread that can go on."""

    def __init__(self, choices: Sequence[int] = (), dice: random.Random | None = None) -> None:
        self._choices = list(choices)
        self._dice = dice
        #: at each point: what was chosen, and of how many
        self.taken: list[tuple[int, int]] = []
        self._turns: list[threading.Event] = []
        self._given_way = threading.Event()
        self._ended: set[int] = set()
        self._of_thread: dict[int, int] = {}
        self._failures: list[BaseException] = []

    def at(self, point: str, _saga_id: str, _step: str) -> None:
        """A `Probe`; what is done within a transaction is not come between."""
        if point in ("before-do", "before-undo"):
            self.give_way()

    def wrap(self, compute: Compute) -> Compute:
        return _Called(self, compute)

    def give_way(self) -> None:
        number = self._of_thread.get(threading.get_ident())
        if number is None:
            return  # not one of those that take turns
        self._given_way.set()
        self._turns[number].wait()
        self._turns[number].clear()

    def run(self, *tasks: Callable[[], None]) -> None:
        """Raises what a task raises, and `Deadlock`."""
        self._turns = [threading.Event() for _ in tasks]
        threads = [threading.Thread(target=self._task, args=(n, task), daemon=True) for n, task in enumerate(tasks)]
        for thread in threads:
            thread.start()
        while waiting := [n for n in range(len(tasks)) if n not in self._ended]:
            chosen = self._choose(len(waiting))
            self._given_way.clear()
            self._turns[waiting[chosen]].set()
            if not self._given_way.wait(PATIENCE):
                raise Deadlock(f"after {[choice for choice, _ in self.taken]} nobody goes on")
        for thread in threads:
            thread.join(PATIENCE)
        if self._failures:
            raise self._failures[0]

    def _choose(self, among: int) -> int:
        at = len(self.taken)
        drawn = self._dice.randrange(among) if self._dice is not None else 0
        chosen = self._choices[at] if at < len(self._choices) else drawn
        self.taken.append((chosen, among))
        return chosen

    def _task(self, number: int, task: Callable[[], None]) -> None:
        self._of_thread[threading.get_ident()] = number
        self._turns[number].wait()
        self._turns[number].clear()
        try:
            task()
        except BaseException as error:
            self._failures.append(error)
        finally:
            self._ended.add(number)
            self._given_way.set()


class _Called:
    """A host, before and after each call of which another may go on."""

    def __init__(self, line: Interleaver, compute: Compute) -> None:
        self._line = line
        self._compute = compute

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._compute, name)

        def called(*arguments: Any, **more: Any) -> Any:
            self._line.give_way()
            answer = method(*arguments, **more)
            self._line.give_way()
            return answer

        return called


def every_order(run: Callable[[Interleaver], None]) -> Iterator[list[int]]:
    """Run again and again, each time in another order, until there is no other."""
    choices: list[int] | None = []
    while choices is not None:
        line = Interleaver(choices)
        run(line)
        yield [choice for choice, _ in line.taken]
        choices = _next(line.taken)


def _next(taken: list[tuple[int, int]]) -> list[int] | None:
    """The order after this one: the last choice that has another."""
    for at in reversed(range(len(taken))):
        choice, among = taken[at]
        if choice + 1 < among:
            return [*(before for before, _ in taken[:at]), choice + 1]
    return None
