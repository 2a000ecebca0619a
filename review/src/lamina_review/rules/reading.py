"""Small questions that rules ask of syntax."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.source import Function, Module

#: verbs that bring something into being which has to be taken away again, and those that do so
ACQUIRE = re.compile(r"(^|_)(create|allocate|acquire|reserve|claim|attach|provision|spawn|mount|checkout)(_|$)")
RELEASE = re.compile(
    r"(^|_)(delete|remove|release|destroy|deallocate|free|unreserve|detach|cleanup|clean|undo|rollback|revert|unmount|umount|close|cancel|"
    r"unlink|rmtree|terminate|kill|stop|undefine|callback|push|unwind)(_|$)"
)
#: context managers that take back what was done when what they hold fails
UNDOING = re.compile(r"(?i)excutils|stack|undo|revert|rollback|save_and_reraise|transaction|begin")
#: what names a secret, as a word of a snake_case name
SECRET = re.compile(r"(^|_)(password|passwd|passphrase|secret|token|api_?key|private_key|credential|session_id|nonce|otp)s?($|_)")


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute; calls and subscripts within it read as ``()`` and ``[]``; else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    if isinstance(node, ast.Subscript):
        return f"{dotted(node.value)}[]"
    return ""


def called(call: ast.Call) -> str:
    """The last part of what is called: ``c`` of ``a.b.c()``."""
    return dotted(call.func).rpartition(".")[2]


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in a node, not those of functions that are defined in it."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, ast.Call):
            yield here
        waiting.extend(child for child in ast.iter_child_nodes(here) if not isinstance(child, Function | ast.Lambda))


def names(node: ast.AST) -> set[str]:
    """The plain names and the attributes that occur in a node."""
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return found | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def last_name(node: ast.AST) -> str:
    """How a value is called: the name, or the attribute, or the text of the key."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword argument."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def text_of(node: ast.AST | None) -> str | None:
    """The text of a constant."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def releases(nodes: list[ast.stmt]) -> bool:
    """Whether something in these statements takes away, by the name of what is called."""
    return any(RELEASE.search(called(call).lower()) for node in nodes for call in calls(node))


def undone_around(module: Module, node: ast.AST) -> bool:
    """Whether a failure at `node` meets a handler, a `finally` or a `with` that takes away what was made."""
    for around in module.above(node):
        if isinstance(around, ast.Try) and (releases(around.finalbody) or any(releases(h.body) for h in around.handlers)):
            return True
        if isinstance(around, ast.With | ast.AsyncWith) and any(
            UNDOING.search(dotted(item.context_expr)) for item in around.items
        ):
            return True
        if isinstance(around, Function):
            return False
    return False


def handled_within(node: ast.AST) -> bool:
    """Whether a `try` inside `node` takes away on failure."""
    tries = [inner for inner in ast.walk(node) if isinstance(inner, ast.Try)]
    return any(releases(inner.finalbody) or any(releases(h.body) for h in inner.handlers) for inner in tries)


def folded(node: ast.AST | None, known: dict[str, ast.expr], depth: int = 0) -> str | None:
    """The text that an expression of constants comes to: sums, `replace`, `format` of nothing, names assigned once."""
    if node is None or depth > 12:
        return None
    if isinstance(node, ast.Name) and node.id in known:
        return folded(known[node.id], known, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = folded(node.left, known, depth + 1), folded(node.right, known, depth + 1)
        return left + right if left is not None and right is not None else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace" and len(node.args) == 2:
        parts = [folded(part, known, depth + 1) for part in (node.func.value, *node.args)]
        text, old, new = parts
        return text.replace(old, new) if text is not None and old is not None and new is not None else None
    return text_of(node)
