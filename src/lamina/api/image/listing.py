"""GET /images: filters, order and pages, as Image API v2 has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args
from urllib.parse import urlencode

from lamina.api.image import access, answers
from lamina.api.image.attributes import NAMES, READ_ONLY
from lamina.api.routing import Reply, Request
from lamina.model.errors import BadRequest
from lamina.store import images
from lamina.store.images import SORT_KEYS, Image, Visibility
from lamina.store.paging import Direction

Default = TypeVar("Default", int, None)

_DEFAULT_LIMIT = 25
_MOST_LIMIT = 1000

#: filters that take one word, or several as ``in:a,b``
_WORDS = ("id", "name", "status", "owner", "disk_format", "container_format", "checksum")
_NUMBERS = {"min_disk": "min_disk_gb", "min_ram": "min_memory_mb"}
_FLAGS = {"protected": "protected", "os_hidden": "hidden"}
_OTHER = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status", "tag", "size_min", "size_max"})


def index(request: Request) -> Reply:
    visibility = request.value("visibility")
    if visibility is not None and visibility not in (*get_args(Visibility), "all"):
        raise BadRequest(f"visibility: {visibility[:80]!r} is not one of {', '.join(get_args(Visibility))} and all")
    limit = min(_number(request, "limit", _DEFAULT_LIMIT), _MOST_LIMIT)
    with request.plane.db.read() as tx:
        found = images.page(
            tx,
            project_id=access.sees(request),
            visibility=visibility,
            among=_among(request),
            sizes=(_number(request, "size_min", None), _number(request, "size_max", None)),
            also=_also(request),
            sort=_sort(request),
            marker=request.value("marker"),
            limit=limit,
        )
    rest = [(name, value) for name, value in request.query if name != "marker"]
    body: dict[str, Any] = {"images": [answers.image(one) for one in found], "first": _link(rest), "schema": "/v2/schemas/images"}
    if found and len(found) == limit:
        body["next"] = _link([*rest, ("marker", found[-1].id)])
    return Reply(200, body)


def _link(query: list[tuple[str, str]]) -> str:
    return "/v2/images" + (f"?{urlencode(query)}" if query else "")


def _among(request: Request) -> dict[str, list[Any]]:
    among: dict[str, list[Any]] = {}
    for name in _WORDS:
        if (given := request.value(name)) is not None:
            among[name] = given[3:].split(",") if given.startswith("in:") else [given]
    for name, column in _NUMBERS.items():
        if (number := _number(request, name, None)) is not None:
            among[column] = [number]
    for name, column in _FLAGS.items():
        if (given := request.value(name)) is not None:
            among[column] = [_flag(name, given)]
    # hidden images are listed only when they are asked for
    among.setdefault("hidden", [False])
    return among


def _also(request: Request) -> Callable[[Image], bool]:
    tags = set(request.values("tag"))
    properties: dict[str, str] = {}
    for name, value in request.query:
        if name in {*_WORDS, *_NUMBERS, *_FLAGS, *_OTHER}:
            continue
        if name in NAMES | READ_ONLY:
            raise BadRequest(f"{name}: images cannot be listed by this attribute")
        properties[name] = value
    return lambda image: tags <= set(image.tags) and all(image.properties.get(name) == value for name, value in properties.items())


def _sort(request: Request) -> tuple[tuple[str, Direction], ...]:
    """``sort=name:asc,size`` or ``sort_key=…&sort_dir=…``, each as often as wanted."""
    if (joint := request.value("sort")) is not None:
        pairs = [(key, direction or "desc") for key, _, direction in (part.strip().partition(":") for part in joint.split(","))]
    else:
        keys, directions = request.values("sort_key") or ["created_at"], request.values("sort_dir") or ["desc"]
        if len(directions) not in (1, len(keys)):
            raise BadRequest("sort_dir: say one for all keys, or one for each")
        pairs = list(zip(keys, directions * len(keys) if len(directions) == 1 else directions, strict=True))
    order: dict[str, Direction] = {}
    for key, word in pairs:
        if key not in SORT_KEYS:
            raise BadRequest(f"sort: {key[:80]!r} is not one of {', '.join(SORT_KEYS)}")
        order[key] = _direction(word)
    return tuple(order.items())


def _direction(word: str) -> Direction:
    if word == "asc":
        return "asc"
    if word == "desc":
        return "desc"
    raise BadRequest(f"sort_dir: {word[:80]!r} is neither 'asc' nor 'desc'")


def _number(request: Request, name: str, default: Default) -> int | Default:
    given = request.value(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 18):
        raise BadRequest(f"{name}: {given[:80]!r} is not a whole number from 0")
    return int(given)


def _flag(name: str, given: str) -> bool:
    word = given.lower()
    if word not in {"true", "false"}:
        raise BadRequest(f"{name}: {given[:80]!r} is neither true nor false")
    return word == "true"
