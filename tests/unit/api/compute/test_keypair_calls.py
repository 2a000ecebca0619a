"""Keypairs over HTTP: imported, checked to the last field, and one user's own."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.unit.api.compute.conftest import Call, why

#: made with ssh-keygen; the fingerprints are those of ``ssh-keygen -l -E md5``
KEYS = {
    "ed25519": (
        "ssh-ed25519 "
        "AAAAC3NzaC1lZDI1NTE5AAAAICzAO4yXrETmdVqy+FvSR7AWMsBA3CmQpSgYw6rNkC+j"
        " me@here",
        "3d:70:13:91:c3:8e:25:b3:2f:f5:d4:56:37:65:00:e3",
    ),
    "rsa": (
        "ssh-rsa "
        "AAAAB3NzaC1yc2EAAAADAQABAAAAgQDWy54lJdbIJ4YIS7M8+SxPjFcgrGy3zmT5nkzrEKNtLIswhWdHX8N5X7+WhDzzMSeGXh+x"
        "OJFioKMfRq3jpjtnHaO2GLpvVJIJrynesUGJELwgCrLStxjQkdw0TlcqKHlovQbDitUFCQEbPCcm7GP7CVYaQ2LoxLfvg7yucnFK"
        "DQ=="
        " me@here",
        "b4:81:e6:00:3a:96:e8:2b:95:92:23:f0:79:1b:e5:86",
    ),
    "ecdsa": (
        "ecdsa-sha2-nistp384 "
        "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBBWzTVdV1UOT6D8BAheJouUbTG+AMzaxgjWgflyR3VQ7utCq"
        "Vtcyf7Vi7NOXAwU9IfP+Og791mga8DM1MbTeebtHt9bHwrdnJE93vQ45Cp+Q+XRbQKEPg/8vgnjpHyR7lg=="
        " me@here",
        "34:2f:f9:2c:ad:04:cb:ae:e8:80:14:f2:fc:1b:39:b8",
    ),
}
ED25519 = KEYS["ed25519"][0]
PATH = "/os-keypairs"


def add(call: Call, name: str = "k", key: str | None = ED25519, **more: Any) -> Any:
    asked = {name: more.pop(name) for name in ("user", "version") if name in more}
    body: dict[str, Any] = {"name": name} | ({} if key is None else {"public_key": key}) | more
    return call("POST", PATH, {"keypair": body}, **asked)


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_key_is_imported_with_its_fingerprint(call: Call, kind: str) -> None:
    key, fingerprint = KEYS[kind]
    answer = add(call, key=key)
    assert answer.status_code == 201
    made = answer.json()["keypair"]
    assert made | {"user_id": None} == {"name": "k", "type": "ssh", "public_key": key, "fingerprint": fingerprint, "user_id": None}
    shown = call("GET", f"{PATH}/k").json()["keypair"]
    assert shown["fingerprint"] == fingerprint
    assert shown["created_at"].count(":") == 2
    assert call("GET", PATH).json() == {
        "keypairs": [{"keypair": {"name": "k", "type": "ssh", "public_key": key, "fingerprint": fingerprint}}]
    }


def lines(*fields: bytes) -> str:
    """A key of these fields, named as the first one says."""
    return f"{fields[0].decode()} " + base64.b64encode(b"".join(len(f).to_bytes(4, "big") + f for f in fields)).decode()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ssh-ed25519",
        "nonsense",
        "ssh-ed25519 ÄÖÜ",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 AAA",
        "ssh-rsa " + ED25519.split()[1],
        ED25519[:40],
        ED25519 + "\n" + ED25519,
        ED25519 + " a\x7fb",
        lines(b"ssh-ed25519"),
        lines(b"ssh-ed25519", b""),
        lines(b"ssh-ed25519", b"x" * 32, b"more"),
        lines(b"ssh-rsa", b"e"),
        lines(b"ssh-secret", b"x"),
        "ssh-ed25519 " + base64.b64encode(b"\xff\xff\xff\xffssh-ed25519").decode(),
        "-----BEGIN PUBLIC KEY----- AAAA -----END PUBLIC KEY-----",
        ED25519 + " " + "x" * 16384,
    ],
    ids=lambda key: repr(key)[:40],
)
def test_what_is_no_key_is_refused(call: Call, key: str) -> None:
    status, message = why(add(call, key=key))
    assert status == 400
    assert "public_key" in message
    assert call("GET", PATH).json() == {"keypairs": []}


def test_no_private_key_is_made(call: Call) -> None:
    for version in ("2.1", "2.91", "2.92"):
        status, message = why(add(call, key=None, version=version))
        assert (status, message.split(":")[0]) == (400, "public_key")


@pytest.mark.parametrize("name", ["", " a", "a ", "x" * 256, "a/b", "a\nb", "a\x00b", "ä"])
def test_a_name_is_refused(call: Call, name: str) -> None:
    status, message = why(add(call, name))
    assert status == 400
    assert "name" in message


def test_each_version_has_its_own_words(call: Call) -> None:
    assert why(add(call, type="x509"))[0] == 400
    assert why(add(call, type="ssh", version="2.1")) == (400, "type: keypairs have it from version 2.2 on")
    assert why(add(call, user_id="u", version="2.9")) == (400, "user_id: keypairs have it from version 2.10 on")
    old = add(call, version="2.1")
    assert old.status_code == 200
    assert "type" not in old.json()["keypair"]
    assert call("DELETE", f"{PATH}/k", version="2.1").status_code == 202
    assert add(call, type="ssh").status_code == 201
    assert call("DELETE", f"{PATH}/k").status_code == 204


def test_a_name_is_given_once(call: Call) -> None:
    assert add(call).status_code == 201
    assert why(add(call)) == (409, "Key pair 'k' already exists.")


def test_what_is_not_there_is_not_found(call: Call) -> None:
    assert why(call("GET", f"{PATH}/none"))[0] == 404
    assert why(call("DELETE", f"{PATH}/none"))[0] == 404


def test_keys_are_their_users_own(call: Call, user_ids: dict[str, str]) -> None:
    assert add(call).status_code == 201
    assert call("GET", PATH, user="admin").json() == {"keypairs": []}
    assert why(call("GET", f"{PATH}/k", user="admin"))[0] == 404
    demos = f"user_id={user_ids['demo']}"
    assert len(call("GET", f"{PATH}?{demos}", user="admin").json()["keypairs"]) == 1
    assert call("GET", f"{PATH}/k?{demos}", user="admin").status_code == 200
    assert why(call("GET", f"{PATH}?user_id={user_ids['admin']}"))[0] == 403
    assert why(call("DELETE", f"{PATH}/k?user_id={user_ids['admin']}"))[0] == 403
    assert why(add(call, "other", user_id=user_ids["admin"]))[0] == 403
    made = add(call, "for-demo", user="admin", user_id=user_ids["demo"]).json()["keypair"]
    assert made["user_id"] == user_ids["demo"]
    assert call("GET", f"{PATH}/for-demo").status_code == 200
    assert call("DELETE", f"{PATH}/k?{demos}", user="admin").status_code == 204


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
def test_pages_have_every_key_once_in_order(call: Call, limit: int) -> None:
    for name in "badce":
        assert add(call, name).status_code == 201
    found: list[str] = []
    query = f"?limit={limit}"
    while query:
        page = call("GET", PATH + query).json()
        found += [k["keypair"]["name"] for k in page["keypairs"]]
        links = page.get("keypairs_links")
        query = "?" + links[0]["href"].partition("?")[2] if links else ""
        assert len(found) < 20
    assert "".join(found) == "abcde"
    assert why(call("GET", f"{PATH}?marker=none"))[0] == 400
