"""Cyborg's accelerator requests belonged to no project: whoever had a token could list, change and delete those of others, also while
they were bound to servers.

Here every call about a server of another project is answered as one about a server that there is not, for every route below a
server and every action, and nothing happens to the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import compute
from lamina.api.compute.server_actions import ACTIONS
from lamina.store import servers
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import MISSING, Cloud, Stage, version_of

_GET = servers.get


def calls() -> Iterator[tuple[str, str, str, Any]]:
    """Method, path with ``{server}``, version, body."""
    for route in compute.ROOM.routes:
        if "{server}" not in route.path:
            continue
        path = "/".join(MISSING if part.startswith("{") and part != "{server}" else part for part in route.path.split("/"))
        bodies: list[Any] = [{name: None} for name in ACTIONS] if route.path.endswith("/action") else [None, {}]
        for body in bodies:
            yield route.method, compute.ROOM.prefix + path, version_of(compute.ROOM, route), body


def told(cloud: Cloud, server_id: str, call: tuple[str, str, str, Any]) -> tuple[int, str]:
    method, path, version, body = call
    answer = cloud.ask(method, path.replace("{server}", server_id), body, user="eve", version=version)
    return answer.status_code, answer.text.replace(server_id, "ID")


def check(stage: Stage) -> None:
    with stage.cloud() as cloud:
        cloud.join("eve", "member")
        server_id = cloud.boot()
        before, devices = cloud.world.server(server_id), cloud.world.vgpus(server_id)
        hidden = 0
        for call in calls():
            foreign, missing = told(cloud, server_id, call), told(cloud, MISSING, call)
            assert foreign == missing, f"{call} tells another's server from none: {foreign} {missing}"
            hidden += foreign[0] == 404
        assert hidden > 40
        listed = cloud.ask("GET", "/compute/v2.1/servers/detail", user="eve").json()["servers"]
        assert listed == []
        cloud.world.settle()
        assert (cloud.world.server(server_id), cloud.world.vgpus(server_id)) == (before, devices)


def broken() -> AbstractContextManager[Any]:
    """a server is found whichever project asks"""
    return mock.patch.object(servers, "get", lambda tx, server_id, project_id=None, **more: _GET(tx, server_id, **more))


ROW = Row(2, ("CVE-2026-40214", "OSSA-2026-011"), 284, "objects that belong to no project", check, broken)


@pytest.mark.weakness(639)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
