"""A session of pytest in which a module's tests are run once as it is, and then against each of its mutants.

Collected once; every mutant is a fork, in which the code of one function is exchanged and those tests run that go
through the changed line, the fastest first, until one fails.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant, mutants

#: seconds that a mutant may take beyond ten times what its tests take without it; what hangs is noticed
PATIENCE = 10


@dataclasses.dataclass(slots=True)
class Outcome:
    killed: list[str] = dataclasses.field(default_factory=list)
    survived: list[str] = dataclasses.field(default_factory=list)


class MutationSession:
    """The plugin. `only` are names of mutants to be tried alone."""

    def __init__(self, module: str, only: frozenset[str] = frozenset()) -> None:
        self._name = module
        self._only = only
        self.outcome = Outcome()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        module = importlib.import_module(self._name)
        source = inspect.getsource(module)
        lines, seconds = _baseline(session, module)
        if _noticed(session, module, None, session.items, sum(seconds.values())):
            raise pytest.UsageError("a test fails in a fork without any change")
        for mutant in mutants(source):
            if self._only and mutant.name not in self._only:
                continue
            reached = set(range(mutant.first, mutant.last + 1)) if mutant.function else _uses(mutant)
            chosen = [item for item in session.items if not reached or lines[item.nodeid] & reached]
            chosen.sort(key=lambda item: seconds[item.nodeid])
            noticed = _noticed(session, module, mutant, chosen, sum(seconds[i.nodeid] for i in chosen))
            (self.outcome.killed if noticed else self.outcome.survived).append(mutant.name)
            if not noticed:
                print(f"  line {mutant.first}: {mutant.name}", file=sys.__stderr__, flush=True)
        return True


def _uses(mutant: Mutant) -> set[int]:
    """The lines in functions of the module that read what its statement assigns; none where only other modules do."""
    assigned = {
        node.id for node in ast.walk(mutant.statement or ast.Pass()) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    functions = (node for node in ast.walk(mutant.tree) if isinstance(node, ast.FunctionDef))
    return {node.lineno for function in functions for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in assigned}


def _run(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Whether it passed."""
    reports = runtestprotocol(item, log=False, nextitem=following)
    return all(report.outcome != "failed" for report in reports)


def _baseline(session: pytest.Session, module: ModuleType) -> tuple[dict[str, set[int]], dict[str, float]]:
    """Which lines of the module each test goes through, and the seconds it takes."""
    lines: dict[str, set[int]] = {}
    seconds: dict[str, float] = {}
    following: list[pytest.Item | None] = [*session.items[1:], None]
    for item, after in zip(session.items, following, strict=True):
        began = time.monotonic()
        with _traced(module.__file__ or "") as seen:
            passed = _run(item, after)
        if not passed:
            raise pytest.UsageError(f"{item.nodeid} fails without any change")
        lines[item.nodeid], seconds[item.nodeid] = seen, time.monotonic() - began
    return lines, seconds


@contextlib.contextmanager
def _traced(file: str) -> Iterator[set[int]]:
    seen: set[int] = set()

    def within(frame: FrameType, _event: str, _argument: Any) -> Any:
        seen.add(frame.f_lineno)
        return within

    def begun(frame: FrameType, _event: str, _argument: Any) -> Any:
        return within(frame, "", None) if frame.f_code.co_filename == file else None

    threading.settrace(begun)
    sys.settrace(begun)
    try:
        yield seen
    finally:
        sys.settrace(None)
        threading.settrace(None)


def _noticed(session: pytest.Session, module: ModuleType, mutant: Mutant | None, items: list[pytest.Item], usual: float) -> bool:
    """Whether one of the tests fails, or does not end, with the mutant in the module's place; None changes nothing."""
    child = os.fork()
    if child == 0:
        signal.alarm(int(usual * 10) + PATIENCE)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            if mutant is not None:
                _exchange(module, mutant)
            after: list[pytest.Item | None] = [*items[1:], None]
            passed = all(_run(item, following) for item, following in zip(items, after, strict=True))
        except BaseException:
            passed = False
        os._exit(0 if passed else 1)
    return os.waitpid(child, 0)[1] != 0


def _exchange(module: ModuleType, mutant: Mutant) -> None:
    if mutant.statement is not None:
        _assign(module, mutant)
    else:
        code = compile(mutant.tree, module.__file__ or "", "exec", dont_inherit=True)
        owner: Any = module
        for name in mutant.function.split("."):
            owner = inspect.getattr_static(owner, name)
            code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
        _function(owner).__code__ = code
    for other in _ours():
        for value in list(vars(other).values()):
            if isinstance(value, functools._lru_cache_wrapper):
                value.cache_clear()


def _assign(module: ModuleType, mutant: Mutant) -> None:
    """Exchange a value of the module, in every module that has taken it over."""
    before = dict(vars(module))
    assert mutant.statement is not None
    exec(compile(ast.Module([mutant.statement], []), module.__file__ or "", "exec"), vars(module))  # noqa: S102
    for name, value in list(vars(module).items()):
        for other in _ours():
            if name in before and value is not before[name] and vars(other).get(name, module) is before[name]:
                setattr(other, name, value)


def _ours() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name.startswith("lamina.")]


def _function(found: Any) -> Any:
    """The function under a property, a method of a class, or a memory."""
    for under in ("fget", "__func__", "__wrapped__"):
        found = getattr(found, under, None) or found
    return found
