"""CWE-284: who may do what."""
from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lamina_review.rules.reading import called, calls, dotted, keyword, last_name, names, text_of
from lamina_review.rules.rule import Site, rule
from lamina_review.source import Function, Module

VERBS = {"route", "get", "post", "put", "patch", "delete", "api_route"}
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
CHECK = re.compile(r"(?i)auth|permission|login|policy|polic|enforce|require|depends|security|check_|can_|owner|admin|token|acl|role")
OWNER = re.compile(r"(?i)owner|project|tenant|user|account|context")
REQUEST = re.compile(r"(?i)^(request|req)$")
LOOKUPS = {"get", "filter", "filter_by", "get_by_id", "find", "find_one"}


def _route(function: Function) -> ast.Call | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr in VERBS:
            path = text_of(decorator.args[0]) if decorator.args else None
            if path is not None and path.startswith("/"):
                return decorator
    return None


@rule("route-without-check", 862)
def route_without_check(module: Module) -> Iterator[Site]:
    """A handler that is put on a route which writes, by a decorator or in a table, where nothing names a check nor says
    that there is none: everybody may call it."""
    for function in module.functions():
        route = _route(function)
        if route is None:
            continue
        said = {called(route).upper(), *_methods(route)}
        mentioned = {n for d in function.decorator_list for n in names(d)}
        mentioned |= {dotted(call.func) for call in calls(function)} | {a.arg for a in function.args.args}
        yield Site(function, "" if _checked(mentioned) or not said & WRITES else f"{function.name}() changes something and names no check")
    for call in module.nodes(ast.Call):
        handler = handler_in_table(call)
        if handler is not None:
            after = call.args[call.args.index(handler) + 1:]
            said_public = keyword(call, "public") is not None
            checked = bool(after) or said_public or _checked({n for k in call.keywords for n in {k.arg or "", *names(k.value)}})
            writes = {text_of(a) for a in call.args} & WRITES or _methods(call) & WRITES
            yield Site(call, "" if checked or not writes else f"{last_name(handler)}() changes something and names no check")


def handler_in_table(call: ast.Call) -> ast.expr | None:
    """The handler that ``Route(…)`` names."""
    if not called(call).endswith("Route"):
        return None
    return next((a for a in call.args if isinstance(a, ast.Name | ast.Attribute) and last_name(a).islower()), None)


def _methods(call: ast.Call) -> set[str]:
    methods = keyword(call, "methods")
    return {str(e.value).upper() for e in getattr(methods, "elts", []) if isinstance(e, ast.Constant)}


def _checked(mentioned: set[str]) -> bool:
    return any(CHECK.search(name) for name in mentioned)


@rule("object-by-key-alone", 639)
def object_by_key_alone(module: Module) -> Iterator[Site]:
    """A record is looked up by a key out of the request, and the question does not name whose it has to be."""
    for function in module.functions():
        keys = {
            target.id for node in ast.walk(function) if isinstance(node, ast.Assign) and any(REQUEST.search(n) for n in names(node.value))
            and isinstance(node.value, ast.Subscript) for target in node.targets if isinstance(target, ast.Name)
        }
        for call in calls(function):
            if called(call) not in LOOKUPS or "query" not in dotted(call.func) or not (keys & names(call)):
                continue
            owned = any(OWNER.search(last) for last in names(call) - keys) or any(OWNER.search(k.arg or "") for k in call.keywords)
            yield Site(call, "" if owned else "looked up by a key of the request, whoever owns it")


@rule("secret-in-source", 798)
def secret_in_source(module: Module) -> Iterator[Site]:
    """A password or token as a constant argument: all who read the source have it, and it cannot be changed."""
    for call in module.nodes(ast.Call):
        for argument in call.keywords:
            if argument.arg in {"password", "passwd", "token", "secret", "api_key", "secret_key"}:
                text = text_of(argument.value)
                real = text is not None and len(text) >= 8 and any(c.isdigit() for c in text) and " " not in text
                yield Site(call, f"{argument.arg}= is a constant" if real else "")


@rule("written-by-all", 732)
def written_by_all(module: Module) -> Iterator[Site]:
    """A mode that lets every user of the machine write."""
    for call in module.nodes(ast.Call):
        if called(call) in {"chmod", "fchmod", "lchmod", "mkfifo"} and call.args:
            mode = call.args[-1]
            known = isinstance(mode, ast.Constant) and isinstance(mode.value, int)
            open_to_all = known and bool(int(mode.value) & 0o002)  # type: ignore[attr-defined]
            yield Site(call, "everybody may write" if open_to_all else "")


@rule("anybody-may-answer", 295)
def anybody_may_answer(module: Module) -> Iterator[Site]:
    """The other side's certificate is not verified: anybody in between may answer in its name."""
    for assign in module.nodes(ast.Assign):
        target = assign.targets[0]
        if isinstance(target, ast.Attribute) and target.attr in {"verify_mode", "check_hostname"}:
            off = dotted(assign.value).endswith("CERT_NONE") or (isinstance(assign.value, ast.Constant) and assign.value.value is False)
            yield Site(assign, "the certificate is not verified" if off else "")
    for call in module.nodes(ast.Call):
        verify = keyword(call, "verify")
        if verify is not None and "jwt" not in dotted(call.func):
            yield Site(call, "the certificate is not verified" if isinstance(verify, ast.Constant) and verify.value is False else "")
