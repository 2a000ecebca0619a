"""Guessing and floods at the door: whoever is named, and whether there is such a user or not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.api import identity
from lamina.api.application import application
from lamina.operations.control_plane import ControlPlane
from lamina.operations.login_limits import LoginLimits
from lamina.store import passwords

Body = Callable[..., dict[str, Any]]
TOKENS = "/identity/v3/auth/tokens"
FAILURES, WINDOW = 3, 30


@pytest.fixture
def cloud(cloud: ControlPlane) -> ControlPlane:
    return dataclasses.replace(cloud, logins=LoginLimits(failures=FAILURES, window=WINDOW, at_once=1))


def at(cloud: ControlPlane, address: str) -> TestClient:
    return TestClient(application(cloud, [identity.ROOM]), client=(address, 40000))


@pytest.mark.weakness(307)
def test_an_address_guesses_no_further_whomever_it_names(cloud: ControlPlane, log_in: Body) -> None:
    client = at(cloud, "192.0.2.1")
    guesses = [log_in("demo", password="wrong"), log_in("nobody"), log_in("somebody")]
    assert [client.post(TOKENS, json=body).status_code for body in guesses] == [401] * FAILURES
    answers = [client.post(TOKENS, json=body) for body in (*guesses, log_in("demo"))]
    assert {answer.status_code for answer in answers} == {429}
    assert {answer.text for answer in answers} == {answers[0].text}, "right or wrong, known or not"
    assert answers[0].headers["Retry-After"] == str(WINDOW // FAILURES)
    assert at(cloud, "192.0.2.2").post(TOKENS, json=log_in("demo")).status_code == 201
    cloud.clock.sleep(WINDOW / FAILURES)
    assert client.post(TOKENS, json=log_in("demo")).status_code == 201


@pytest.mark.weakness(348)
def test_no_header_makes_another_address_of_it(cloud: ControlPlane, log_in: Body) -> None:
    client = at(cloud, "192.0.2.1")
    claims = [{name: f"198.51.100.{n}"} for n, name in enumerate(("X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP"))]
    told = [client.post(TOKENS, json=log_in("nobody"), headers=claim).status_code for claim in claims]
    assert told == [401] * FAILURES + [429]


def test_addresses_of_one_network_are_one(cloud: ControlPlane, log_in: Body) -> None:
    told = [at(cloud, f"2001:db8::{n}").post(TOKENS, json=log_in("nobody")).status_code for n in range(FAILURES + 1)]
    assert told[-1] == 429


def test_secrets_of_credentials_are_guessed_no_further_either(cloud: ControlPlane, log_in: Body) -> None:
    client = at(cloud, "192.0.2.1")
    proof = {"id": "0" * 32, "secret": "guess"}
    body = {"auth": {"identity": {"methods": ["application_credential"], "application_credential": proof}}}
    assert [client.post(TOKENS, json=body).status_code for _ in range(FAILURES + 1)] == [401] * FAILURES + [429]
    assert client.post(TOKENS, json=log_in("demo")).status_code == 429


def test_who_is_locked_out_uses_up_the_address_too(cloud: ControlPlane, log_in: Body) -> None:
    generous = dataclasses.replace(cloud, logins=LoginLimits(failures=1000, window=1000, at_once=1))
    for _ in range(cloud.settings.login_failures):
        at(generous, "192.0.2.9").post(TOKENS, json=log_in("demo", password="wrong"))
    client = at(cloud, "192.0.2.1")
    assert [client.post(TOKENS, json=log_in("demo")).status_code for _ in range(FAILURES + 1)] == [401] * FAILURES + [429]


@pytest.mark.weakness(770)
def test_a_flood_is_told_to_come_back_before_anything_is_hashed(
    cloud: ControlPlane, log_in: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the one place is taken: whoever comes then is not queued, for each in line keeps a thread from other requests."""
    flood: list[Any] = []
    matches, other = passwords.matches, at(cloud, "192.0.2.2")

    def meanwhile(kept: str | None, password: str) -> bool:
        flood.extend(other.post(TOKENS, json=log_in(user)) for user in ("demo", "nobody"))
        return matches(kept, password)

    monkeypatch.setattr(passwords, "matches", meanwhile)
    assert at(cloud, "192.0.2.1").post(TOKENS, json=log_in("demo")).status_code == 201
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in flood] == [(429, "1")] * 2
    monkeypatch.setattr(passwords, "matches", matches)
    assert other.post(TOKENS, json=log_in("demo")).status_code == 201


def test_a_token_gets_a_token_all_the_while(cloud: ControlPlane, log_in: Body) -> None:
    client = at(cloud, "192.0.2.1")
    shown = client.post(TOKENS, json=log_in("demo")).headers["X-Subject-Token"]
    for _ in range(FAILURES):
        client.post(TOKENS, json=log_in("nobody"))
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": shown}}}}
    assert client.post(TOKENS, json=body).status_code == 201
