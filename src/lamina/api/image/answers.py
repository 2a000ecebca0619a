"""What images and errors look like in the Image API's answers."""

from __future__ import annotations

import datetime
from typing import Any

from lamina.api.reasons import reason
from lamina.api.routing import Reply, Version
from lamina.model.errors import LaminaError
from lamina.store.images import Image


def fault(error: LaminaError, request_id: str, version: Version) -> Reply:
    """Clients of Glance show the reason or the text as it comes; JSON with a ``message`` at its root is read by openstacksdk, too."""
    title = reason(error.status)
    return Reply(error.status, {"message": error.message, "code": f"{error.status} {title}", "title": title})


def moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image(value: Image) -> dict[str, Any]:
    """An image with its properties beside its own attributes. Links are relative to the endpoint, as Glance's are."""
    return {
        **value.properties,
        "id": value.id,
        "name": value.name,
        "owner": value.owner,
        "status": value.status,
        "visibility": value.visibility,
        "protected": value.protected,
        "os_hidden": value.hidden,
        "disk_format": value.disk_format,
        "container_format": value.container_format,
        "size": value.size,
        "virtual_size": value.virtual_size,
        "checksum": value.checksum,
        "os_hash_algo": "sha512" if value.sha512 else None,
        "os_hash_value": value.sha512,
        "min_disk": value.min_disk_gb,
        "min_ram": value.min_memory_mb,
        "tags": list(value.tags),
        "created_at": moment(value.created_at),
        "updated_at": moment(value.updated_at),
        "self": f"/v2/images/{value.id}",
        "file": f"/v2/images/{value.id}/file",
        "schema": "/v2/schemas/image",
    }
