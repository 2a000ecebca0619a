"""Flavors, images and servers through the Compute and Image APIs, as the demo and the benchmark need them."""

from __future__ import annotations

import time
from typing import Any

from lamina.cli.client import Client
from lamina.model import resources
from lamina.model.errors import LaminaError, NotFound, Unavailable

#: content of the image; simulated hosts start servers from any
_IMAGE = b"\0" * 4096


def make_image(client: Client, name: str) -> str:
    """An image with content. Returns its id."""
    image = client.call("image", "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})
    client.call("image", "PUT", f"/v2/images/{image['id']}/file", content=_IMAGE)
    return str(image["id"])


def make_flavor(client: Client, name: str, resource_class: str, vgpu_type: str, *, vcpus: int, memory_mb: int) -> str:
    """A flavor with one vGPU of a type; its id is its name. Returns the id."""
    client.call("compute", "POST", "/flavors", {"flavor": {"id": name, "name": name, "vcpus": vcpus, "ram": memory_mb, "disk": 1}})
    specs = {f"resources:{resource_class}": "1", f"trait:{resources.type_trait(vgpu_type)}": "required"}
    client.call("compute", "POST", f"/flavors/{name}/os-extra_specs", {"extra_specs": specs})
    return name


def begin_server(client: Client, name: str, flavor: str, image: str, metadata: dict[str, str] | None = None) -> str:
    """Ask for a server without networks. Returns its id at once."""
    wanted = {"name": name, "flavorRef": flavor, "imageRef": image, "networks": "none", "metadata": metadata or {}}
    return str(client.call("compute", "POST", "/servers", {"server": wanted})["server"]["id"])


def act(client: Client, server_id: str, action: dict[str, Any]) -> None:
    client.call("compute", "POST", f"/servers/{server_id}/action", action)


def host_of(client: Client, server_id: str) -> str | None:
    """For administrators only."""
    host: str | None = client.call("compute", "GET", f"/servers/{server_id}")["server"]["OS-EXT-SRV-ATTR:host"]
    return host


def wait_for(client: Client, server_id: str, status: str, *, seconds: float, pause: float) -> None:
    """Look every `pause` seconds until the server has `status` and nothing is being done to it.

    Raises `LaminaError` with the server's own fault where it comes to rest in ERROR instead, `Unavailable` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        server = client.call("compute", "GET", f"/servers/{server_id}")["server"]
        busy = server.get("OS-EXT-STS:task_state")
        if server["status"] == status and busy is None:
            return
        if server["status"] == "ERROR" and busy is None:
            raise LaminaError(f"Server {server['name']} is in ERROR: {server.get('fault', {}).get('message', 'it does not say why')}")
        if time.monotonic() > deadline:
            raise Unavailable(f"Server {server['name']} is still {server['status']} and not {status} after {seconds:.0f} s.")
        time.sleep(pause)


def delete_server(client: Client, server_id: str, *, seconds: float, pause: float) -> None:
    """Delete, and wait until it is gone. Raises `Unavailable` after `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        client.call("compute", "DELETE", f"/servers/{server_id}")
        while time.monotonic() < deadline:
            client.call("compute", "GET", f"/servers/{server_id}")
            time.sleep(pause)
    except NotFound:
        return
    raise Unavailable(f"Server {server_id} is still there {seconds:.0f} s after its deletion.")
