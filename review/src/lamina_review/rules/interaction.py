"""CWE-435: two sides that each behave as they should, and do not agree."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, dotted, keyword, last_name, text_of
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

LAYOUTS = {"struct.pack", "struct.unpack", "struct.pack_into", "struct.unpack_from", "struct.Struct", "struct.calcsize"}


@rule("native-layout", 188)
def native_layout(module: Module) -> Iterator[Site]:
    """`struct` without a byte order takes this machine's order, sizes and padding: another machine reads other fields."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) in LAYOUTS:
            form = text_of(call.args[0]) if call.args else None
            multiple = form is not None and form[:1] not in "<>!=@" and re.search(r"[hHiIlLqQnNfdP]", form) is not None
            yield Site(call, f"no byte order in {form!r}" if multiple else "")


@rule("version-as-text", 439)
def version_as_text(module: Module) -> Iterator[Site]:
    """An interpreter's version compared as text: 3.10 comes before 3.9, so that behaviour changes with a new version."""
    for compare in module.nodes(ast.Compare):
        sides = [compare.left, *compare.comparators]
        if any(dotted(side) in {"sys.version", "platform.python_version()", "sys.version[]"} for side in sides):
            ordered = any(isinstance(op, ast.Lt | ast.Gt | ast.LtE | ast.GtE) for op in compare.ops)
            yield Site(compare, "a version is compared as text" if ordered else "")


@rule("encoding-of-the-locale", 436)
def encoding_of_the_locale(module: Module) -> Iterator[Site]:
    """A text file without a named encoding is written in the locale's: whoever reads it elsewhere reads other letters."""
    for call in module.nodes(ast.Call):
        name = dotted(call.func)
        if name in {"open", "io.open"}:
            mode = text_of(call.args[1]) if len(call.args) > 1 else text_of(keyword(call, "mode")) or "r"
            named = keyword(call, "encoding") is not None or len(call.args) > 3 or mode is None or "b" in mode
            yield Site(call, "" if named else "the locale decides the encoding")
        elif called(call) in {"read_text", "write_text"}:
            named = keyword(call, "encoding") is not None or len(call.args) > (called(call) == "write_text")
            yield Site(call, "" if named else "the locale decides the encoding")


@rule("last-key-wins", 436)
def last_key_wins(module: Module) -> Iterator[Site]:
    """A policy read as JSON by a reader for which the last of two equal keys wins; others take the first, or refuse."""
    for assign in module.nodes(ast.Assign):
        if isinstance(assign.value, ast.Call) and dotted(assign.value.func) in {"json.loads", "json.load"}:
            decides = any(re.search(r"(?i)policy|policies|claims|permission|rules$", last_name(t)) for t in assign.targets)
            guarded = keyword(assign.value, "object_pairs_hook") is not None
            yield Site(assign, "a key that stands twice is not noticed" if decides and not guarded else "")
