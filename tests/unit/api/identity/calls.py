"""What tests of the Identity API do again and again, each through the API."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.testclient import TestClient

V3 = "/identity/v3"


@dataclasses.dataclass
class Caller:
    """Somebody with a token."""

    client: TestClient
    headers: dict[str, str]

    def call(self, method: str, path: str, status: int, body: Any = None) -> Any:
        """The answer's body, which is None where there is none."""
        answer = self.client.request(method, V3 + path, headers=self.headers, json=body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make(self, noun: str, status: int = 201, **facts: Any) -> Any:
        """What was made, as the answer has it."""
        answer = self.call("POST", f"/{noun}s", status, {noun: facts})
        return answer[noun] if status == 201 else answer

    def change(self, noun: str, id_: str, status: int = 200, **facts: Any) -> Any:
        answer = self.call("PATCH", f"/{noun}s/{id_}", status, {noun: facts})
        return answer[noun] if status == 200 else answer

    def names(self, path: str) -> list[str]:
        collection = path.partition("?")[0].rpartition("/")[2]
        return [value["name"] for value in self.call("GET", path, 200)[collection]]


def log_in(client: TestClient, user: str, password: str, domain: str = "Default", scope: Any = None, *, status: int = 201) -> Caller:
    """By name and the name of the domain; without a scope that is said, unscoped."""
    proof = {"name": user, "domain": {"name": domain}, "password": password}
    auth = {"identity": {"methods": ["password"], "password": {"user": proof}}, "scope": scope or "unscoped"}
    answer = client.post(f"{V3}/auth/tokens", json={"auth": auth})
    assert answer.status_code == status, answer.text
    return Caller(client, {"X-Auth-Token": answer.headers.get("X-Subject-Token", "")})
