"""CWE-703: what is done when something is not as usual."""
from __future__ import annotations

import ast
from collections.abc import Iterator

from lamina_review.rules.reading import called, calls, dotted, keyword
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

BROAD = {"Exception", "BaseException", "OSError", "IOError", "EnvironmentError", "RuntimeError"}
TOLD = {"exception", "error", "warning", "warn", "critical", "info", "debug", "print", "write", "log", "echo", "fail", "set_exception"}


def caught(handler: ast.ExceptHandler) -> set[str]:
    """The names of the exceptions that a handler is for; none for a bare one."""
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {dotted(t) for t in types if t is not None}


@rule("anything-taken-for-an-answer", 396)
def anything_taken_for_an_answer(module: Module) -> Iterator[Site]:
    """Every exception is caught, nobody is told and the exception itself is not used: a defect looks like an answer."""
    for handler in module.nodes(ast.ExceptHandler):
        if handler.type is not None and not caught(handler) & {"Exception", "BaseException"}:
            yield Site(handler)
            continue
        raised = any(isinstance(n, ast.Raise) for s in handler.body for n in ast.walk(s))
        told = any(called(call) in TOLD for s in handler.body for call in calls(s))
        used = handler.name and any(isinstance(n, ast.Name) and n.id == handler.name for s in handler.body for n in ast.walk(s))
        yield Site(handler, "" if raised or told or used else "any exception is caught and nobody is told")


@rule("silence", 390)
def silence(module: Module) -> Iterator[Site]:
    """An error of the system is caught and nothing is done, not even said why that is right."""
    for handler in module.nodes(ast.ExceptHandler):
        only_pass = len(handler.body) == 1 and isinstance(handler.body[0], ast.Pass)
        broad = handler.type is None or bool(caught(handler) & BROAD)
        if only_pass:
            yield Site(handler, "an error is caught and nothing is done" if broad else "")


@rule("more-parts-than-places", 754)
def more_parts_than_places(module: Module) -> Iterator[Site]:
    """``"{}:{}".format(*text.split("_"))`` uses as many parts as there are places and drops the rest without a word:
    a text with something added at its end passes for one without."""
    for call in module.nodes(ast.Call):
        if called(call) != "format" or not any(isinstance(a, ast.Starred) for a in call.args):
            continue
        starred = [a.value for a in call.args if isinstance(a, ast.Starred)]
        split = any(isinstance(value, ast.Call) and called(value) in {"split", "rsplit"} for value in starred)
        yield Site(call, "parts beyond the last place are dropped" if split else "")


@rule("end-of-a-program-not-asked", 252)
def end_of_a_program_not_asked(module: Module) -> Iterator[Site]:
    """A program is run, or bytes are written, and whether that succeeded is not asked."""
    for statement in module.nodes(ast.Expr):
        call = statement.value
        if not isinstance(call, ast.Call):
            continue
        name = dotted(call.func)
        if name in {"subprocess.call", "os.system", "os.write"}:
            yield Site(statement, f"what {name}() returns is not looked at")
        elif name == "subprocess.run":
            yield Site(statement, "" if keyword(call, "check") is not None else "whether the program failed is not asked")
