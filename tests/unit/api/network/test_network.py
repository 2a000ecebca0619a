"""The Network API where no host has a network; tests of the Compute API have hosts with one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from lamina.api.network import NOUNS, QUOTAS, WHY

V2 = "/network/v2.0"
Headers = Callable[..., dict[str, str]]


def test_the_version_document(client: TestClient) -> None:
    links = [{"rel": "self", "href": "http://127.0.0.1:8774/network/v2.0/"}]
    assert client.get("/network").json() == {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}
    assert client.get("/network/").json() == client.get("/network").json()


@pytest.mark.parametrize(("noun", "singular"), NOUNS.items())
def test_there_is_nothing_and_nothing_can_be_made(client: TestClient, headers: Headers, noun: str, singular: str) -> None:
    demo = headers("demo")
    assert client.get(f"{V2}/{noun}?name=x", headers=demo).json() == {noun.replace("-", "_"): []}
    for call in (client.get, client.put, client.delete):
        answer = call(f"{V2}/{noun}/x", headers=demo)
        assert answer.status_code == 404
        told = f"{singular.capitalize()} x could not be found."
        assert answer.json() == {"NeutronError": {"type": "NotFound", "message": told, "detail": ""}}
    made = client.post(f"{V2}/{noun}", headers=demo, json={singular: {}})
    assert made.status_code == 501
    assert made.json()["NeutronError"]["message"] == f"A {singular} cannot be made here: {WHY}."


def test_a_reader_writes_nothing(client: TestClient, headers: Headers, stranger: Callable[..., str]) -> None:
    stranger("eve", "reader")
    assert client.get(f"{V2}/networks", headers=headers("eve")).status_code == 200
    assert client.post(f"{V2}/networks", headers=headers("eve"), json={}).status_code == 403


def test_quotas_limit_nothing_but_what_cannot_be_made(client: TestClient, headers: Headers, project_ids: dict[str, str]) -> None:
    own, foreign = project_ids["demo"], project_ids["admin"]
    demo, admin = headers("demo"), headers("admin")
    assert client.get(f"{V2}/quotas", headers=demo).json() == {"quotas": []}
    assert client.get(f"{V2}/quotas/{own}", headers=demo).json() == {"quota": QUOTAS}
    details = client.get(f"{V2}/quotas/{own}/details.json", headers=demo).json()["quota"]
    assert details["port"] == {"limit": -1, "used": 0, "reserved": 0}
    assert details["network"] == {"limit": 0, "used": 0, "reserved": 0}
    assert client.get(f"{V2}/quotas/{foreign}", headers=demo).status_code == 403
    assert client.get(f"{V2}/quotas/{own}", headers=admin).status_code == 200
    assert client.put(f"{V2}/quotas/{own}", headers=admin, json={}).status_code == 501


def test_the_collections_are_named(client: TestClient, headers: Headers) -> None:
    listed = client.get(f"{V2}/", headers=headers("demo")).json()["resources"]
    assert {resource["collection"] for resource in listed} == set(NOUNS)
