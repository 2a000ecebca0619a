"""The Compute API in process, before two simulated hosts that move only when told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx
import pytest
from starlette.testclient import TestClient
from tests.faults.desk import Desk
from tests.faults.world import World

from lamina.api import compute
from lamina.api.application import application
from lamina.model.flavors import Flavor
from lamina.operations.control_plane import ControlPlane
from lamina.store import flavors, images
from lamina.store.bootstrap import bootstrap

IMAGE = "44444444-4444-4444-8444-444444444441"
MISSING = "55555555-5555-4555-8555-555555555551"
ROOMS = (compute.ROOM, compute.VERSIONS)


class Call(Protocol):
    def __call__(
        self, method: str, path: str, body: Any = None, *, user: str = "demo", version: str = "2.96", **more: Any
    ) -> httpx.Response: ...


@pytest.fixture
def world(desk: Desk) -> World:
    """Users, an image and three flavors: ``small``, ``vgpu`` (one vGPU) and ``huge``, which fits no host."""
    world = World.on(desk, "mdev")
    now = world.clock.now()
    with world.plane.db.write() as tx:
        bootstrap(tx, "admin's secret", "demo's secret", now)
        content = images.Image(IMAGE, "nobody", now, now, visibility="public", status="active", disk_format="raw", size=1, sha512="ab" * 64)
        images.add(tx, content)
        for name, vcpus, specs in (("small", 1, {}), ("vgpu", 1, {"resources:VGPU": "1"}), ("huge", 1000, {})):
            flavors.create(tx, Flavor(id=name, name=name, vcpus=vcpus, memory_mb=64, disk_gb=1, extra_specs=specs))
    return world


@pytest.fixture
def cloud(world: World) -> ControlPlane:
    return world.plane


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(cloud, ROOMS)) as client:
        yield client


@pytest.fixture
def call(client: TestClient, headers: Callable[..., dict[str, str]]) -> Call:
    """``call("GET", "/servers", user="admin", version="2.1")``."""

    def asked(
        method: str, path: str, body: Any = None, *, user: str = "demo", version: str = "2.96", **more: Any
    ) -> httpx.Response:
        sent = headers(user) | {"OpenStack-API-Version": f"compute {version}"}
        if body is not None:
            more["json"] = body
        answer: httpx.Response = client.request(method, "/compute/v2.1" + path, headers=sent, **more)
        return answer

    return asked


def wanted(**more: Any) -> dict[str, Any]:
    """The body of POST /servers."""
    return {"server": {"name": "s", "flavorRef": "small", "imageRef": IMAGE, "networks": "none"} | more}


@pytest.fixture
def boot(call: Call, world: World) -> Callable[..., str]:
    """``boot(name="web", flavorRef="vgpu")``: the id of a server whose creation has come to its end."""

    def made(user: str = "demo", *, settled: bool = True, **more: Any) -> str:
        answer = call("POST", "/servers", wanted(**more), user=user)
        assert answer.status_code == 202, answer.text
        if settled:
            world.settle()
        server_id: str = answer.json()["server"]["id"]
        return server_id

    return made


def why(answer: httpx.Response) -> tuple[int, str]:
    """Status and sentence of a fault."""
    ((name, told),) = answer.json().items()
    names = {400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 406: "notAcceptable"}
    names |= {405: "badMethod", 409: "conflictingRequest", 413: "overLimit", 501: "notImplemented"}
    assert name == names[answer.status_code]
    assert told["code"] == answer.status_code
    assert isinstance(told["message"], str)
    assert told["message"]
    return answer.status_code, told["message"]
