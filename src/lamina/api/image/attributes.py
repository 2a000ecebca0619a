"""What a caller may say of an image: its own attributes, and properties beside them.

Creating and patching come to the same: a flat object, checked as a whole here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from lamina.api.routing import Context
from lamina.model import decoding
from lamina.model.errors import BadRequest, Forbidden
from lamina.store.images import Image

TEXT = r"\A[^\x00]*\Z"
READ_ONLY = frozenset(
    {
        *("id", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "created_at", "updated_at"),
        *("self", "file", "schema", "direct_url", "locations", "stores"),
    }
)

Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=TEXT)]
DiskFormat = Literal["raw", "qcow2", "iso", "vhd", "vhdx", "vmdk", "vdi"]
_Text = Annotated[str, msgspec.Meta(max_length=255, pattern=TEXT)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Properties = Annotated[
    dict[
        Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=TEXT)],
        Annotated[str, msgspec.Meta(max_length=65535, pattern=TEXT)],
    ],
    msgspec.Meta(max_length=128),
]


class Attributes(msgspec.Struct, kw_only=True):
    """The attributes that a caller may set, under the names that the API gives them."""

    owner: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=TEXT)]
    name: _Text | None = None
    visibility: Literal["public", "community", "shared", "private"] = "shared"
    protected: bool = False
    os_hidden: bool = False
    disk_format: DiskFormat | None = None
    container_format: Literal["bare"] | None = None
    min_disk: _Amount = 0
    min_ram: _Amount = 0
    tags: Annotated[list[Tag], msgspec.Meta(max_length=128)] = []


NAMES = frozenset(Attributes.__struct_fields__)


def flat(image: Image) -> dict[str, Any]:
    """What can be said of the image as it is."""
    return {
        **image.properties,
        "owner": image.owner,
        "name": image.name,
        "visibility": image.visibility,
        "protected": image.protected,
        "os_hidden": image.hidden,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "min_disk": image.min_disk_gb,
        "min_ram": image.min_memory_mb,
        "tags": list(image.tags),
    }


def said(image: Image, context: Context, wanted: Mapping[str, Any]) -> Image:
    """`image` with everything that `wanted` says of it.

    Raises `BadRequest` that names the attribute, and `Forbidden` for what is not the caller's to set.
    """
    for name in wanted.keys() & READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    try:
        own = decoding.from_plain({n: v for n, v in wanted.items() if n in NAMES}, Attributes)
        properties = decoding.from_plain({n: v for n, v in wanted.items() if n not in NAMES}, _Properties)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid image object: {error}") from error
    if not context.is_admin and own.owner != context.project_id:
        raise Forbidden(f"You are not permitted to create images owned by '{own.owner}'.")
    if own.visibility == "public" and image.visibility != "public" and not context.is_admin:
        raise Forbidden("You are not permitted to make an image public; an admin is.")
    if image.status != "queued" and (own.disk_format, own.container_format) != (image.disk_format, image.container_format):
        raise Forbidden("The formats of an image cannot be changed once it has content.")
    return dataclasses.replace(
        image,
        owner=own.owner,
        name=own.name,
        visibility=own.visibility,
        protected=own.protected,
        hidden=own.os_hidden,
        disk_format=own.disk_format,
        container_format=own.container_format,
        min_disk_gb=own.min_disk,
        min_memory_mb=own.min_ram,
        tags=tuple(dict.fromkeys(own.tags)),
        properties=properties,
    )
