"""Cyborg shipped a policy whose default let every holder of a token use its device, deployable and attribute calls, programming of
FPGAs among them.

Here a route without a rule is not served at all, and a user whose only role means nothing is refused by every route but those
written down below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import policy
from lamina.api.application import application
from lamina.api.rooms import DOOR, ROOMS
from lamina.api.routing import ANY_USER, Route
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import MISSING, Stage, version_of

_DEFAULTS = policy.defaults

#: what anybody may ask who has proved to be somebody: about himself, his limits, and the catalog. The prefix is the Identity API's
OF_ONESELF = {
    ("GET", "/auth/catalog"),
    ("GET", "/auth/domains"),
    ("GET", "/auth/projects"),
    ("GET", "/auth/system"),
    ("GET", "/auth/tokens"),
    ("HEAD", "/auth/tokens"),
    ("DELETE", "/auth/tokens"),
    ("GET", "/projects/{project_id}"),
    ("GET", "/regions"),
    ("GET", "/regions/{id}"),
    ("GET", "/users/{user_id}"),
    ("GET", "/users/{user_id}/projects"),
    ("GET", "/users/{user_id}/groups"),
    ("GET", "/registered_limits"),
    ("GET", "/registered_limits/{limit_id}"),
    ("GET", "/limits/model"),
    ("GET", "/limits"),
    ("GET", "/limits/{limit_id}"),
    ("POST", "/users/{user_id}/password"),
    ("GET", "/users/{user_id}/application_credentials"),
    ("POST", "/users/{user_id}/application_credentials"),
    ("GET", "/users/{user_id}/application_credentials/{credential_id}"),
    ("DELETE", "/users/{user_id}/application_credentials/{credential_id}"),
}


def check(stage: Stage) -> None:
    asked = 0
    with stage.cloud() as cloud:
        cloud.join("onlooker", "onlooker")
        for room in ROOMS:
            for route in room.routes:
                if route.public or (room.name == "identity" and (route.method, route.path) in OF_ONESELF):
                    continue
                path = "/".join(MISSING if part.startswith("{") else part for part in (room.prefix + route.path).split("/"))
                answer = cloud.ask(route.method, path, user="onlooker", version=version_of(room, route))
                assert answer.status_code == 403, f"{route.method} {room.prefix}{route.path} answers {answer.status_code} to anybody"
                asked += 1
        assert asked > 150
        with pytest.raises(ValueError, match="no policy rule"):
            application(cloud.world.plane, [dataclasses.replace(DOOR, routes=(Route("GET", "/bare", DOOR.routes[0].handler, ""),))])


def broken() -> AbstractContextManager[Any]:
    """every rule has the default that any user passes"""
    return mock.patch.object(policy, "defaults", lambda routes: dict.fromkeys(_DEFAULTS(routes), ANY_USER))


ROW = Row(1, ("CVE-2026-40213", "OSSA-2026-011"), 284, "a default policy that allows everybody", check, broken)


@pytest.mark.weakness(276)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
