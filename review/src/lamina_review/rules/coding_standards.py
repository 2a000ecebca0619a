"""CWE-710: code that a reader stumbles over."""
from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator

from lamina_review.rules.reading import dotted
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

OBSOLETE = {
    "logging.warn", "asyncio.get_event_loop", "datetime.datetime.utcnow", "datetime.utcnow", "tempfile.mktemp", "inspect.getargspec",
}
ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


@rule("nobody-gets-here", 561)
def nobody_gets_here(module: Module) -> Iterator[Site]:
    """Statements after a return or raise of the same block."""
    for function in module.functions():
        bad = None
        for node in ast.walk(function):
            for field in ("body", "orelse", "finalbody"):
                block = getattr(node, field, None)
                if isinstance(block, list):
                    bad = next((after for here, after in itertools.pairwise(block) if isinstance(here, ENDS)), bad)
        generator = bad is not None and any(isinstance(n, ast.Yield) for n in ast.walk(bad))
        yield Site(bad or function, "nobody gets here" if bad is not None and not generator else "")


@rule("debugger", 489)
def debugger(module: Module) -> Iterator[Site]:
    """A debugger that is left in."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) in {"breakpoint", "pdb.set_trace", "ipdb.set_trace"}:
            yield Site(call, "a debugger is left in")


@rule("soon-gone", 477)
def soon_gone(module: Module) -> Iterator[Site]:
    """A function of the standard library that is deprecated."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name.partition(".")[0] in {"logging", "asyncio", "datetime", "tempfile", "inspect"}:
            yield Site(call, f"{name}() is deprecated" if name in OBSOLETE else "")


@rule("silenced-without-a-word", 1164)
def silenced(module: Module) -> Iterator[Site]:
    """A checker is silenced as a whole, for every rule: nobody can tell what was meant."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if re.search(r"#\s*(noqa|nosec|type:\s*ignore)", line):
            place = ast.Pass(lineno=number, col_offset=0)
            named = re.search(r"noqa:|nosec:? *B\d|ignore\[|nosec\s+\w", line) is not None
            yield Site(place, "" if named else "silenced for every rule")
