"""OpenAPI 3.1 documents, one for each room, written from the same route tables that are served.

What a document says of a call: its address and parameters, the body that its handler decodes, with which statuses it is
answered and refused. What answers look like is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lamina.api.reasons import reason
from lamina.api.routing import Microversions, Room, Route

_PLACEHOLDER = re.compile(r"\{([^}]+)\}")
_OCTETS = "application/octet-stream"
#: with what any call may be refused: a wrong address or version, one too many, a database that does not answer
_ALWAYS = (400, 429, 503)


def document(room: Room) -> dict[str, Any]:
    """The room's calls. What differs between microversions is told for all of them together."""
    models = [model for route in room.routes for model in route.takes]
    schemas, components = msgspec.json.schema_components(models, ref_template="#/components/schemas/{name}")
    schema_of = {id(model): schema for model, schema in zip(models, schemas, strict=True)}
    base, above = based(room)
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), routes in sorted(_by_call(room.routes, above).items()):
        paths.setdefault(path, {})[method.lower()] = _operation(room, path, routes, schema_of)
    shown = {
        "openapi": "3.1.0",
        "info": {"title": f"Lamina: {room.name}", "version": str(room.microversions.most) if room.microversions else "1"},
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": _schemes(room)},
    }
    plain: dict[str, Any] = _in_words_of_ecma(shown)
    return plain


def based(room: Room) -> tuple[str, str]:
    """Below which address the document's paths are, and what each of them begins with.

    A path is never empty in OpenAPI; a room that answers at its prefix itself, and not with a slash behind, has the prefix in its paths.
    """
    paths = {route.path for route in room.routes}
    return ("/", room.prefix) if "" in paths and "/" not in paths else (room.prefix or "/", "")


def _by_call(routes: Iterable[Route], above: str) -> Mapping[tuple[str, str], list[Route]]:
    """(path, method) -> the routes that answer it, one for each span of microversions."""
    found: dict[tuple[str, str], list[Route]] = {}
    for route in routes:
        found.setdefault((above + route.path or "/", route.method), []).append(route)
    return found


def _operation(room: Room, path: str, routes: list[Route], schema_of: Mapping[int, Any]) -> dict[str, Any]:
    first = routes[0]
    described: dict[str, Any] = {
        "operationId": f"{first.method} {path}",
        "summary": f"Policy rule {first.rule}" + (f", from version {first.since} on" if first.since else ""),
        "parameters": [*_of_path(path), *_of_query(routes), *_of_headers(room.microversions)],
        "responses": _responses(room, routes),
    }
    body = _body(routes, schema_of)
    described["security"] = [] if first.public else [{name: []} for name in _schemes(room)]
    return described | ({"requestBody": body} if body else {})


def _of_path(path: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _PLACEHOLDER.findall(path)]


def _of_query(routes: list[Route]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for route in routes for name in route.query)
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]


def _of_headers(versions: Microversions | None) -> list[dict[str, Any]]:
    if versions is None:
        return []
    told = f"{versions.service_type} and a version from {versions.least} to {versions.most}; without it, {versions.least}"
    pattern = rf"^{versions.service_type} ([0-9]+\.[0-9]+|latest)$"
    return [{"name": "OpenStack-API-Version", "in": "header", "description": told, "schema": {"type": "string", "pattern": pattern}}]


def _body(routes: list[Route], schema_of: Mapping[int, Any]) -> dict[str, Any] | None:
    if any(route.upload for route in routes):
        return {"required": True, "content": {_OCTETS: {}}}
    schemas = [schema_of[id(model)] for route in routes for model in route.takes]
    if not schemas:
        return None
    kind = routes[0].media_type
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"required": all(route.takes for route in routes), "content": {kind: {"schema": schema}}}


def _responses(room: Room, routes: list[Route]) -> dict[str, Any]:
    told = {status for route in routes for status in (*route.gives, *refusals(room, route))}
    return {str(status): {"description": reason(status)} for status in sorted(told)}


def refusals(room: Room, route: Route) -> frozenset[int]:
    """With which statuses a call may be refused: by what it is, and by what its row in the table says."""
    found = {*_ALWAYS, *route.refuses}
    if not route.public:
        found |= {401, 403}
    if _PLACEHOLDER.search(route.path) or route.since or route.until:
        found.add(404)
    if room.microversions is not None:
        found.add(406)
    if route.method != "GET":
        found.add(409)
    if route.takes or route.upload:
        found.add(413)
    return frozenset(found)


def _schemes(room: Room) -> dict[str, Any]:
    if room.authenticate is not None:
        return {"certificate": {"type": "mutualTLS"}}
    return {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}}


def _in_words_of_ecma(value: Any) -> Any:
    r"""Patterns as JSON Schema has them: it knows no ``\A`` and ``\Z``, and its ``$`` is the very end."""
    if isinstance(value, list):
        return [_in_words_of_ecma(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _in_words_of_ecma(inner) for key, inner in value.items()}
    if isinstance(plain.get("pattern"), str):
        plain["pattern"] = plain["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return plain
