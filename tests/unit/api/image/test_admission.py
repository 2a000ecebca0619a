"""An upload that will not be kept is refused before a byte of it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.conftest import ROOMS

from lamina.api.application import application
from lamina.model.ids import new_uuid
from lamina.operations.control_plane import ControlPlane

Headers = Callable[..., dict[str, str]]


def status_without_body(cloud: ControlPlane, path: str, headers: dict[str, str]) -> int:
    """The status of a PUT whose body must not be asked for."""
    answers: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        answers.append(message)

    sent = {"content-type": "application/octet-stream", "content-length": "1000000000"} | headers
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(key.lower().encode(), value.encode()) for key, value in sent.items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(application(cloud, ROOMS)(scope, receive, send))
    return int(answers[0]["status"])


@pytest.mark.parametrize("state", ["missing", "another's", "active", "without a format"])
def test_refused_unread(cloud: ControlPlane, client: TestClient, headers: Headers, state: str) -> None:
    image_id, status = new_uuid(), 404
    if state != "missing":
        facts = {} if state == "without a format" else {"disk_format": "raw", "container_format": "bare"}
        owner = headers("admin") if state == "another's" else headers("demo")
        answer = client.post("/image/v2/images", headers=owner, json={"name": "i"} | facts)
        image_id = answer.json()["id"]
    if state == "active":
        typed = headers("demo") | {"Content-Type": "application/octet-stream"}
        assert client.put(f"/image/v2/images/{image_id}/file", headers=typed, content=b"\0" * 512).status_code == 204
        status = 409
    if state == "without a format":
        status = 400
    assert status_without_body(cloud, f"/image/v2/images/{image_id}/file", headers("demo")) == status
    assert not list(cloud.settings.images.glob("upload-*"))
