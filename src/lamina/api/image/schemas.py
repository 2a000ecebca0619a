"""JSON schemas of images, from which older clients learn the attributes."""

from __future__ import annotations

from typing import Any

import msgspec

from lamina.api.image.attributes import READ_ONLY, Attributes
from lamina.api.routing import READER, Reply, Request, Route

_LINKS = [
    {"rel": "self", "href": "{self}"},
    {"rel": "enclosure", "href": "{file}"},
    {"rel": "describedby", "href": "{schema}"},
]
_NUMBERS = frozenset({"size", "virtual_size"})
#: never shown: they lead to a store that is nobody's business
_HIDDEN = frozenset({"direct_url", "locations", "stores"})


def image_schema() -> dict[str, Any]:
    own = msgspec.json.schema(Attributes)["$defs"]["Attributes"]["properties"]
    told = {
        name: {"type": ["null", "integer" if name in _NUMBERS else "string"], "readOnly": True} for name in sorted(READ_ONLY - _HIDDEN)
    }
    return {"name": "image", "properties": own | told, "additionalProperties": {"type": "string"}, "links": _LINKS}


def show_image(request: Request) -> Reply:
    """GET /schemas/image."""
    return Reply(200, image_schema())


def show_images(request: Request) -> Reply:
    """GET /schemas/images."""
    text = {"type": "string"}
    return Reply(
        200,
        {
            "name": "images",
            "properties": {"images": {"type": "array", "items": image_schema()}, "first": text, "next": text, "schema": text},
            "links": [
                {"rel": "first", "href": "{first}"},
                {"rel": "next", "href": "{next}"},
                {"rel": "describedby", "href": "{schema}"},
            ],
        },
    )


ROUTES = (
    Route("GET", "/schemas/image", show_image, "get_image_schema", READER),
    Route("GET", "/schemas/images", show_images, "get_images_schema", READER),
)
