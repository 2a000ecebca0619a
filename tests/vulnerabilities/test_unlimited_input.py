"""Whatever may be as long or as many as one likes fills a disk or a queue: names, scheduler hints, rules and fixed addresses had no bounds
in Nova.

Here everything that a caller sends has one: the body, names, metadata, tags, hints, keys, user data, the depth of JSON, the number of
servers at once. What is over it is refused with a 4xx whose message is short, and nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import application
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Cloud, Stage

LONG = "x" * 300
SERVERS = "/compute/v2.1/servers"
#: as long as a message may be that answers any of these, in characters
MOST_TOLD = 2000


def server(**more: Any) -> dict[str, Any]:
    return {"name": "s", "flavorRef": "small", "imageRef": "", "networks": "none"} | more


def oversized(server_id: str) -> dict[str, tuple[str, str, Any]]:
    many = {f"k{n}": "v" for n in range(1000)}
    tags = [f"t{n}" for n in range(51)]
    return {
        "a server's name": ("POST", SERVERS, {"server": server(name=LONG)}),
        "a server's description": ("POST", SERVERS, {"server": server(description=LONG)}),
        "metadata by number": ("POST", SERVERS, {"server": server(metadata=many)}),
        "metadata by length": ("POST", SERVERS, {"server": server(metadata={"k": LONG})}),
        "keys of metadata by length": ("POST", SERVERS, {"server": server(metadata={LONG: "v"})}),
        "user data": ("POST", SERVERS, {"server": server(user_data="QUFB" * 20_000)}),
        "tags by number": ("POST", SERVERS, {"server": server(tags=tags)}),
        "tags by length": ("POST", SERVERS, {"server": server(tags=[LONG])}),
        "servers at once": ("POST", SERVERS, {"server": server(min_count=10**9, max_count=10**9)}),
        "a hint": ("POST", SERVERS, {"server": server(), "os:scheduler_hints": {"group": LONG}}),
        "tags of one that runs": ("PUT", f"{SERVERS}/{server_id}/tags", {"tags": tags}),
        "metadata of one that runs": ("POST", f"{SERVERS}/{server_id}/metadata", {"metadata": many}),
        "a key pair's name": (
            "POST",
            "/compute/v2.1/os-keypairs",
            {"keypair": {"name": LONG, "public_key": "ssh-rsa AAAA", "type": "ssh"}},
        ),
        "a key": ("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "k", "public_key": "ssh-rsa " + "A" * 100_000, "type": "ssh"}}),
        "a group's name": ("POST", "/compute/v2.1/os-server-groups", {"server_group": {"name": LONG, "policy": "affinity"}}),
        "an image's name": ("POST", "/image/v2/images", {"name": LONG, "disk_format": "raw", "container_format": "bare"}),
        "a limit": ("GET", f"{SERVERS}?limit={10**30}", None),
        "a marker": ("GET", f"{SERVERS}?marker={LONG}", None),
        "a page that begins nowhere": ("GET", f"{SERVERS}/{LONG}", None),
    }


def check(stage: Stage) -> None:
    with stage.cloud() as cloud:
        server_id = cloud.boot()
        before = cloud.ask("GET", f"{SERVERS}/detail").text
        for what, (method, path, body) in oversized(server_id).items():
            answer = cloud.ask(method, path, body)
            assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code}"
            assert len(answer.text) < MOST_TOLD, f"{what}: the message is {len(answer.text)} characters long"
        bodies(cloud)
        cloud.world.settle()
        assert cloud.ask("GET", f"{SERVERS}/detail").text == before, "something of it was kept"


def bodies(cloud: Cloud) -> None:
    most = cloud.world.plane.settings.max_body
    for path in (SERVERS, "/identity/v3/auth/tokens", "/placement/resource_providers"):
        answer = cloud.ask(
            "POST",
            path,
            content=b'{"server": {"name": "' + b"x" * most + b'"}}',
            user="admin",
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 413, f"{path}: a body of {most} bytes and more is answered {answer.status_code}"
        deep = cloud.ask("POST", path, content=b'{"a":' * 100_000, user="admin", headers={"Content-Type": "application/json"})
        assert deep.status_code == 400
        assert len(deep.text) < MOST_TOLD


def broken() -> AbstractContextManager[Any]:
    """a body may be as long as it likes"""
    return mock.patch.object(application, "_limit", return_value=1 << 40)


ROW = Row(
    17,
    ("CVE-2012-1585", "CVE-2012-3371", "CVE-2012-2101", "CVE-2013-1838"),
    664,
    "names, lists and bodies without bounds",
    check,
    broken,
)


@pytest.mark.weakness(770)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
