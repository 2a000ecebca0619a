"""Tokens and passwords stood in logs (CVE-2017-7214, CVE-2015-9543, CVE-2014-7230), and a fault's message told of the inside of the
hypervisor's host (CVE-2019-14433).

Here passwords, tokens and secrets of application credentials are canaries: they are sent in right and wrong requests, an error is
raised with one in its text, and then they are looked for in the log, in the database's every byte and in the answers.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
import structlog

from lamina.hosts.directory import Hosts
from lamina.model import decoding
from lamina.store import tokens
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import PASSWORDS, Cloud, Stage

CANARY = "canary-inside-an-error-5be1"


def log_in(cloud: Cloud, user: str, password: str) -> Any:
    proof = {"name": user, "domain": {"id": "default"}, "password": password}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": proof}},
            "scope": {"project": {"name": user, "domain": {"id": "default"}}},
        }
    }
    return cloud.ask("POST", "/identity/v3/auth/tokens", body, user=None)


def check(stage: Stage) -> None:
    log = io.StringIO()
    kept = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
    try:
        with stage.cloud() as cloud:
            secrets, answers = used(cloud)
            with stage.desk.raw() as connection:
                database = "\n".join(connection.iterdump())
    finally:
        structlog.configure(**kept)
    assert "refused" in log.getvalue(), "the log was read"
    assert len(database) > 10_000, "the database was read"
    for name, secret in secrets.items():
        for where, text in (("the log", log.getvalue()), ("the database", database), ("an answer", "\n".join(answers))):
            assert secret not in text, f"{name} stands in {where}"


def used(cloud: Cloud) -> tuple[dict[str, str], list[str]]:
    """What must not be seen again, and every answer but those whose business it is to tell one."""
    secrets = {"the administrator's password": PASSWORDS["admin"], "a user's password": PASSWORDS["demo"]}
    answers = []
    right = log_in(cloud, "demo", PASSWORDS["demo"])
    assert right.status_code == 201, right.text
    secrets["a token"] = token = right.headers["X-Subject-Token"]
    answers.append(right.text)
    wrong = "canary-mistyped-2c77"
    secrets["a mistyped password"] = wrong
    answers.append(log_in(cloud, "demo", wrong).text)
    answers.append(log_in(cloud, "nobody", wrong).text)
    me = right.json()["token"]["user"]["id"]
    sent = {"X-Auth-Token": token}
    made = cloud.ask(
        "POST", f"/identity/v3/users/{me}/application_credentials", {"application_credential": {"name": "c"}}, user=None, headers=sent
    )
    assert made.status_code == 201, made.text
    secrets["an application credential's secret"] = made.json()["application_credential"]["secret"]
    fresh = "canary-new-password-88aa"
    secrets["a new password"] = fresh
    torn = ({"original_password": PASSWORDS["demo"], "password": [fresh]}, {"password": fresh, "oops": fresh})
    answers += [cloud.ask("POST", f"/identity/v3/users/{me}/password", {"user": b}, user=None, headers=sent).text for b in torn]
    secrets["an administrator's password of a server"] = "canary-guest-41d0"
    asked = {"name": "s", "flavorRef": "no such flavor", "imageRef": "", "adminPass": "canary-guest-41d0"}
    answers.append(cloud.ask("POST", "/compute/v2.1/servers", {"server": asked}).text)
    answers.append(cloud.ask("GET", f"/compute/v2.1/servers?name={'x' * 20}", user=None, headers={"X-Auth-Token": token + "x"}).text)
    answers += unexpected(cloud)
    return secrets, answers


def unexpected(cloud: Cloud) -> list[str]:
    """An error that nobody foresaw: the log has it, and the answer has nothing of it."""
    server_id = cloud.boot()

    def torn(self: Hosts, name: str) -> Any:
        raise RuntimeError(f"{CANARY} at 10.0.0.7:/var/lib/lamina")

    with mock.patch.object(Hosts, "of", torn), mock.patch.object(cloud.client._transport, "raise_server_exceptions", False, create=True):
        answer = cloud.ask("POST", f"/compute/v2.1/servers/{server_id}/action", {"os-getConsoleOutput": {}})
    assert answer.status_code == 500
    assert CANARY not in answer.text, "an answer tells the inside of an unexpected error"
    assert "10.0.0.7" not in answer.text
    assert decoding.from_json(answer.content, dict), "it is a fault as every other"
    return [answer.text]


def broken() -> AbstractContextManager[Any]:
    """tokens are kept as they are"""
    return mock.patch.object(tokens, "token_hash", lambda token: token)


ROW = Row(
    16,
    ("CVE-2017-7214", "CVE-2015-9543", "CVE-2014-7230", "CVE-2019-14433"),
    664,
    "secrets in logs, and internals in messages",
    check,
    broken,
)


@pytest.mark.weakness(532)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
