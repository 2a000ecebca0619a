"""The two servers that are compared, each a process of its own on a free loopback port, with its state in a temporary folder."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

#: the microversion that has everything
NEWEST = "1.39"
ROLES = "admin,service,member,reader"


class Refused(Exception):
    """A call that had to succeed did not."""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: Any


@dataclasses.dataclass(frozen=True)
class Server:
    """A Placement API below ``url``, and the tokens of an administrator and of somebody without rights."""

    name: str
    url: str
    admin: str
    #: an administrator's of the system, not of a project
    system: str
    nobody: str

    def ask(self, method: str, path: str, body: Any = None, version: str = NEWEST) -> Answer:
        """Whatever the server says to an administrator."""
        to = urlsplit(self.url)
        headers = {"X-Auth-Token": self.admin, "X-Roles": ROLES, "Accept": "application/json"}
        headers["OpenStack-API-Version"] = f"placement {version}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body), "application/json"
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, to.path + path, data, headers)
            response = connection.getresponse()
            raw = response.read()
        return Answer(response.status, json.loads(raw) if raw else None)

    def must(self, method: str, path: str, body: Any = None, version: str = NEWEST) -> Any:
        """What a call that has to succeed answers. Raises `Refused`."""
        answer = self.ask(method, path, body, version)
        if answer.status >= 400:
            raise Refused(f"{self.name}: {method} {path} {json.dumps(body)} -> {answer.status} {answer.body}")
        return answer.body

    def clear(self) -> None:
        """Remove every provider, and what is held of it."""
        left = [one["uuid"] for one in self.must("GET", "/resource_providers")["resource_providers"]]
        for provider in left:
            for consumer in self.must("GET", f"/resource_providers/{provider}/allocations")["allocations"]:
                self.ask("DELETE", f"/allocations/{consumer}")
        while left:
            kept = [provider for provider in left if self.ask("DELETE", f"/resource_providers/{provider}").status != 204]
            if len(kept) == len(left):
                raise Refused(f"{self.name}: providers cannot be deleted: {kept[:3]}")
            left = kept

    def wipe(self) -> None:
        """Remove everything that a test has made."""
        self.clear()
        for trait in self.must("GET", "/traits?name=startswith:CUSTOM_")["traits"]:
            self.must("DELETE", f"/traits/{trait}")
        for one in self.must("GET", "/resource_classes")["resource_classes"]:
            if one["name"].startswith("CUSTOM_"):
                self.must("DELETE", f"/resource_classes/{one['name']}")


@contextlib.contextmanager
def lamina(command: str) -> Iterator[Server]:
    """A control plane without hosts, so that all there is comes over the API."""
    with tempfile.TemporaryDirectory(prefix="lamina-compat-") as folder:
        state = Path(folder) / "state"
        started = [command, "api", "--state", str(state), "--listen", "127.0.0.1:0", "--agents", "127.0.0.1:0", "--log-level", "error"]
        with _process(started) as base:
            clouds = yaml.safe_load((state / "clouds.yaml").read_text())["clouds"]
            admin, nobody = (_token(base, clouds[name]["auth"]) for name in ("lamina", "lamina-demo"))
            system = _token(base, clouds["lamina"]["auth"], {"system": {"all": True}})
            yield Server("Lamina", f"{base}/placement", admin, system, nobody)


@contextlib.contextmanager
def placement() -> Iterator[Server]:
    """OpenStack's, on SQLite, where the token is the user's name."""
    with (
        tempfile.TemporaryDirectory(prefix="placement-compat-") as folder,
        _process([sys.executable, "-m", "compat.openstack", str(Path(folder) / "placement.sqlite")]) as base,
    ):
        yield Server("Placement", base, "admin", "admin", "nobody")


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[str]:
    """The base URL that a server tells in its line ``ready URL``; stopped at the end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        word, _, url = process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise Refused(f"{command[0]} did not start")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _token(base: str, who: dict[str, str], scope: dict[str, Any] | None = None) -> str:
    domain = {"name": who["user_domain_name"]}
    user = {"name": who["username"], "password": who["password"], "domain": domain}
    scope = scope or {"project": {"name": who["project_name"], "domain": domain}}
    asked = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    to = urlsplit(base)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/identity/v3/auth/tokens", json.dumps(asked), {"Content-Type": "application/json"})
        token = connection.getresponse().getheader("X-Subject-Token")
    if token is None:
        raise Refused("Lamina gives no token")
    return token
