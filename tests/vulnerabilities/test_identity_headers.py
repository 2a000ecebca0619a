"""keystonemiddleware left identity headers that a client had sent by itself where an application looks for those that the middleware
sets: X-Roles, X-User-Id, X-Is-Admin-Project.

Here nothing but the token says who asks: any set of such headers leaves every answer as it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.api import application
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

_ADMITTED = application._admitted

SPOOFED = {
    "X-Roles": "admin",
    "X-Role": "admin",
    "X-User-Id": "0" * 32,
    "X-User-Name": "admin",
    "X-User": "admin",
    "X-Project-Id": "0" * 32,
    "X-Tenant-Id": "0" * 32,
    "X-Is-Admin-Project": "True",
    "X-Identity-Status": "Confirmed",
    "X-Service-Roles": "service",
    "X-Service-Identity-Status": "Confirmed",
    "X-Domain-Id": "default",
    "X-System-Scope": "all",
    "OpenStack-System-Scope": "all",
    "X_Roles": "admin",
    "x-roles ": "admin",
    "Remote-User": "admin",
    "X-Forwarded-User": "admin",
}
CALLS = (
    ("GET", "/compute/v2.1/servers/detail?all_tenants=1"),
    ("GET", "/compute/v2.1/os-hypervisors"),
    ("GET", "/compute/v2.1/os-services"),
    ("GET", "/placement/resource_providers"),
    ("GET", "/identity/v3/users"),
    ("GET", "/image/v2/images"),
    ("GET", "/fleet/v1/hosts"),
    ("GET", "/network/v2.0/ports"),
)


def sets() -> list[dict[str, str]]:
    each = [{name.strip(): value} for name, value in SPOOFED.items()]
    pairs = [first | second for first, second in itertools.pairwise(each)]
    return [*each, *pairs, {name.strip(): value for name, value in SPOOFED.items()}]


def check(stage: Stage) -> None:
    with stage.cloud() as cloud:
        for user in ("demo", None):
            for method, path in CALLS:
                plain = cloud.ask(method, path, user=user)
                assert plain.status_code in ((200, 403, 400) if user else (401,))
                for spoofed in sets():
                    answer = cloud.ask(method, path, user=user, headers=spoofed)
                    assert _told(answer) == _told(plain), f"{path} for {user} with {spoofed}"


def _told(answer: Any) -> tuple[int, str]:
    return answer.status_code, re.sub(r"req-[0-9a-f-]{36}", "req", answer.text)


def _trusting(served: Any, room: Any, route: Any, http: Any, *more: Any) -> Any:
    roles = http.headers.get("x-roles")
    if roles is not None:
        known = served.tokens
        served = dataclasses.replace(served, tokens=lambda *given: dataclasses.replace(known(*given), roles=frozenset(roles.split(","))))
    return _ADMITTED(served, room, route, http, *more)


def broken() -> AbstractContextManager[Any]:
    """a role that a header names is believed"""
    return mock.patch.object(application, "_admitted", _trusting)


ROW = Row(3, ("CVE-2026-22797",), 693, "identity headers sent by the client", check, broken)


@pytest.mark.weakness(290)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
