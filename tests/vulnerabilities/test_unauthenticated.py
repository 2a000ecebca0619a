"""Keystone had calls (for EC2 and S3 tokens) that could be reached without authentication and gave away an authorization.

Here every route answers 401 without a token, but for those written down below; a new one has to be written down too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import application
from lamina.api.authentication import by_token
from lamina.api.rooms import ROOMS
from lamina.api.routing import Context
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import MISSING, Stage, version_of

_BY_TOKEN = by_token

#: version documents, what the APIs are, health, and the way to a token
PUBLIC = {
    *(("GET", path) for path in ("/", "/healthz", "/openapi/{api}", "/placement", "/placement/")),
    *(("GET", prefix + path) for prefix in ("/identity", "/compute", "/image", "/network") for path in ("", "/")),
    *(("GET", prefix + path) for prefix in ("/identity/v3", "/compute/v2.1", "/image/v2") for path in ("", "/")),
    ("POST", "/identity/v3/auth/tokens"),
}


def check(stage: Stage) -> None:
    public = set()
    with stage.cloud() as cloud:
        for room in ROOMS:
            for route in room.routes:
                path = "/".join(MISSING if part.startswith("{") else part for part in (room.prefix + route.path).split("/"))
                if route.public:
                    public.add((route.method, room.prefix + route.path))
                    continue
                for shown in ({}, {"X-Auth-Token": ""}, {"X-Auth-Token": "gAAAAABnonsense"}, {"Authorization": "AWS4-HMAC-SHA256 x"}):
                    answer = cloud.ask(route.method, path, user=None, version=version_of(room, route), headers=shown)
                    assert answer.status_code == 401, f"{route.method} {path} answers {answer.status_code} to nobody"
    assert public <= PUBLIC, f"open to all, and not written down: {public - PUBLIC}"


def broken() -> AbstractContextManager[Any]:
    """whoever shows no token is taken for an administrator"""

    def anybody(plane: Any, shown: Any, request_id: str) -> Context:
        return _BY_TOKEN(plane, shown, request_id) if shown.token else Context(request_id, "nobody", roles=frozenset({"admin"}))

    return mock.patch.object(application, "by_token", anybody)


ROW = Row(4, ("CVE-2025-65073",), 284, "a call that needs no authentication", check, broken)


@pytest.mark.weakness(306)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
