"""The Placement API in process, asked by an admin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx
import pytest
from starlette.testclient import TestClient

from lamina.api import placement
from lamina.api.application import application
from lamina.operations.control_plane import ControlPlane

#: ids of the providers that `tree` makes
HOST = "11111111-1111-4111-8111-111111111111"
GPU1 = "22222222-2222-4222-8222-222222222221"
GPU2 = "22222222-2222-4222-8222-222222222222"
CONSUMER = "33333333-3333-4333-8333-333333333331"
OTHER = "33333333-3333-4333-8333-333333333332"


class Call(Protocol):
    def __call__(self, method: str, path: str, body: Any = None, *, version: str = "1.39", **more: Any) -> httpx.Response: ...


@pytest.fixture
def call(cloud: ControlPlane, headers: Callable[..., dict[str, str]]) -> Iterator[Call]:
    """``call("PUT", "/traits/CUSTOM_A", version="1.6")``."""
    with TestClient(application(cloud, (placement.ROOM,))) as client:

        def asked(method: str, path: str, body: Any = None, *, version: str = "1.39", **more: Any) -> httpx.Response:
            sent = headers("admin") | {"OpenStack-API-Version": f"placement {version}"} | more.pop("headers", {})
            if body is not None:
                more["json"] = body
            answer: httpx.Response = client.request(method, "/placement" + path, headers=sent, **more)
            return answer

        yield asked


@pytest.fixture
def tree(call: Call) -> Call:
    """A host with two GPUs of two vGPUs each."""
    for provider_id, name, parent, stock in (
        (HOST, "host", None, {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 4096}}),
        (GPU1, "gpu1", HOST, {"VGPU": {"total": 2}}),
        (GPU2, "gpu2", HOST, {"VGPU": {"total": 2}}),
    ):
        made = call("POST", "/resource_providers", {"name": name, "uuid": provider_id, "parent_provider_uuid": parent})
        assert made.status_code == 200
        path = f"/resource_providers/{provider_id}/inventories"
        assert call("PUT", path, {"resource_provider_generation": 0, "inventories": stock}).status_code == 200
    return call


def holding(wanted: dict[str, dict[str, int]], generation: int | None = None, **more: Any) -> dict[str, Any]:
    """The body of PUT /allocations/{consumer} at 1.38."""
    allocations = {provider_id: {"resources": amounts} for provider_id, amounts in wanted.items()}
    owner = {"project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}
    return {"allocations": allocations, "consumer_generation": generation, **owner, **more}


def why(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and sentence of an error."""
    (told,) = response.json()["errors"]
    assert told["status"] == response.status_code
    assert told["request_id"].startswith("req-")
    return response.status_code, told["code"], told["detail"]
