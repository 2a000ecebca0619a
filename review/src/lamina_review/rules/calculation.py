"""CWE-682: quantities, their units and their edges."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, dotted, last_name, names
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Module

UNIT = re.compile(r"_(bytes|kb|kib|mb|mib|gb|gib|tb|ms|us|ns|seconds|minutes|hours)$")
RATIO = re.compile(r"(?i)(ratio|factor|percent|fraction|overcommit)")
MONEY = re.compile(r"(?i)(amount|price|total_price|cost|balance|invoice)")


@rule("product-cut-to-a-whole", 1339)
def product_cut_to_a_whole(module: Module) -> Iterator[Site]:
    """`int(total * ratio)` with a binary fraction: 15 times 8.2 comes to 122, not to 123. Exact fractions do not lose one."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) in {"int", "math.floor"} and len(call.args) == 1 and isinstance(call.args[0], ast.BinOp):
            product = call.args[0]
            ratio = isinstance(product.op, ast.Mult) and any(RATIO.search(n) for n in names(product))
            yield Site(call, "a product with a binary fraction is cut" if ratio and "Fraction" not in names(product) else "")


@rule("money-in-binary-fractions", 1339)
def money_in_binary_fractions(module: Module) -> Iterator[Site]:
    """Amounts of money summed as float: cents are not binary fractions."""
    for node in module.nodes(ast.AugAssign):
        if MONEY.search(last_name(node.target)):
            floats = any(isinstance(n, ast.Call) and dotted(n.func) == "float" for n in ast.walk(node.value))
            yield Site(node, "an amount is summed as float" if floats else "")


@rule("divided-by-a-count", 369)
def divided_by_a_count(module: Module) -> Iterator[Site]:
    """Divided by the length of something that nobody asked whether it is empty."""
    for division in module.nodes(ast.BinOp):
        if not isinstance(division.op, ast.Div | ast.FloorDiv | ast.Mod):
            continue
        count = division.right
        if not (isinstance(count, ast.Call) and dotted(count.func) == "len" and count.args):
            continue
        what = ast.unparse(count.args[0])
        if what.rpartition(".")[2].isupper():
            continue  # a constant, which its author sees
        yield Site(division, "" if _asked(module, division, what) else f"{what} may be empty")


def _asked(module: Module, node: ast.AST, what: str) -> bool:
    """Whether a condition in the function names the thing: ``if not samples``, ``x if samples else 0``, ``while samples``."""
    function = module.function_at(node)
    for inner in ast.walk(function or module.tree):
        test = inner.test if isinstance(inner, ast.If | ast.IfExp | ast.While | ast.Assert) else None
        if test is not None and what in ast.unparse(test):
            return True
        if isinstance(inner, ast.BoolOp) and what in ast.unparse(inner.values[0]):
            return True
        if isinstance(inner, ast.For | ast.comprehension) and what in ast.unparse(inner.iter) and node in set(ast.walk(inner)):
            return True
    return False


@rule("two-units", 682)
def two_units(module: Module) -> Iterator[Site]:
    """Added, subtracted or compared although their names end in different units."""
    sums = [(node, [node.left, node.right]) for node in module.nodes(ast.BinOp) if isinstance(node.op, ast.Add | ast.Sub)]
    compared = [(node, [node.left, *node.comparators]) for node in module.nodes(ast.Compare)]
    for node, sides in [*sums, *compared]:
        units = [match.group(1) for side in sides if (match := UNIT.search(last_name(side).lower()))]
        if len(units) == 2:
            yield Site(node, f"{units[0]} and {units[1]} in one" if units[0] != units[1] else "")


@rule("past-the-end", 193)
def past_the_end(module: Module) -> Iterator[Site]:
    """A loop over ``range(len(x))`` that reads ``x[i + 1]``, or over ``range(len(x) + 1)`` that reads ``x[i]``."""
    for loop in module.nodes(ast.For):
        counted = loop.iter
        plain = isinstance(counted, ast.Call) and called(counted) == "range" and len(counted.args) == 1
        if not plain or not isinstance(counted, ast.Call) or not isinstance(loop.target, ast.Name):
            continue
        bound = ast.unparse(counted.args[0])
        match = re.fullmatch(r"len\((\w+)\)( \+ 1)?", bound)
        if match is None:
            continue
        wanted = f"{match.group(1)}[{loop.target.id}]" if match.group(2) else f"{match.group(1)}[{loop.target.id} + 1]"
        reads = any(isinstance(n, ast.Subscript) and ast.unparse(n) == wanted for n in ast.walk(loop))
        yield Site(loop, f"{wanted} is past the end in the last round" if reads else "")


@rule("text-times-a-number", 681)
def text_times_a_number(module: Module) -> Iterator[Site]:
    """A decimal number read as float and cut: ``int(float("0.29") * 100)`` is 28."""
    for call in module.nodes(ast.Call):
        if dotted(call.func) == "int" and call.args and isinstance(call.args[0], ast.BinOp) and isinstance(call.args[0].op, ast.Mult):
            floats = any(isinstance(n, ast.Call) and dotted(n.func) == "float" for n in ast.walk(call.args[0]))
            yield Site(call, "a decimal number goes through a binary fraction" if floats else "")
