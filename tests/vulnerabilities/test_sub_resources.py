"""Neutron checked who may change a network, and not who may change its tags, which hang below it.

Here the rules hang on the route table, so that a sub-resource cannot be without one: whoever may only read can change nothing of
his own project's server, image or group, neither the thing nor its metadata, tags, interfaces, members nor by any action.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import compute, image
from lamina.api.compute.server_actions import ACTIONS
from lamina.api.policy import Policy
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import IMAGE, MISSING, Stage, version_of

_ENFORCE = Policy.enforce
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


def check(stage: Stage) -> None:
    below = 0
    with stage.cloud() as cloud:
        cloud.join("looker", "reader", "demo")
        server_id = cloud.boot()
        ids = {"{server}": server_id, "{image}": IMAGE, "{image_id}": IMAGE}
        for room in (compute.ROOM, image.ROOM):
            for route in room.routes:
                if route.method not in WRITES or "keypair" in route.rule:
                    continue
                path = "/".join(ids.get(part, MISSING if part.startswith("{") else part) for part in route.path.split("/"))
                bodies: list[Any] = [{name: None} for name in ACTIONS] if path.endswith("/action") else [{}]
                for body in bodies:
                    answer = cloud.ask(route.method, room.prefix + path, body, user="looker", version=version_of(room, route))
                    assert answer.status_code == 403, f"{route.method} {path} {body} answers {answer.status_code} to a reader"
                    below += route.path.count("/") > 2
        assert below > 20


def broken() -> AbstractContextManager[Any]:
    """rules of tags and metadata are not asked"""

    def enforce(self: Policy, rule: str, context: Any) -> None:
        if "metadata" not in rule and "tags" not in rule:
            _ENFORCE(self, rule, context)

    return mock.patch.object(Policy, "enforce", enforce)


ROW = Row(5, ("CVE-2024-53916",), 284, "a sub-resource that the policy forgot", check, broken)


@pytest.mark.weakness(862)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
