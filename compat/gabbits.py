"""The HTTP tests that OpenStack Placement ships (gabbi: YAML files, `placement/tests/functional/gabbits`), put to Lamina.

The tests expect the API at the root of a server and send the token ``admin``; on the way out the prefix is put in front
and the token exchanged for a real one, on the way back the prefix is taken off again. The fixtures write with
Placement's own objects to its database; here the same few helpers call the API. State is wiped before each file.

Left out are the files that test another set-up of the server than the default one: policy files and CORS.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import placement.tests.functional
import yaml
from gabbi import handlers, httpclient, suitemaker
from oslo_utils import uuidutils
from oslo_utils.fixture import uuidsentinel
from placement.tests.functional.fixtures import gabbits as fixtures

from compat.servers import Server

FOLDER = Path(placement.tests.functional.__file__).parent / "gabbits"
#: fixtures of other set-ups
OTHER_SETUPS = frozenset({"SecureRBACPolicyFixture", "OpenPolicyFixture", "CORSFixture"})
PREFIX = "/placement"


@dataclasses.dataclass(frozen=True)
class Failure:
    file: str
    test: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}: {self.test}"


@dataclasses.dataclass
class Outcome:
    files: int = 0
    passed: int = 0
    failures: list[Failure] = dataclasses.field(default_factory=list)


def run(server: Server, only: str = "*") -> Outcome:
    """Run every file that `only` matches; a test that could not run, because one before it failed, counts as failed."""
    outcome = Outcome()
    with _speaking_to(server):
        for path in sorted(FOLDER.glob(f"{only}.yaml")):
            suite = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
            if OTHER_SETUPS.isdisjoint(suite["fixtures"]):
                _run_file(server, path.name, suite, outcome)
    return outcome


def _run_file(server: Server, name: str, suite: dict[str, Any], outcome: Outcome) -> None:
    to = urlsplit(server.url)
    result = _Result()
    made = suitemaker.test_suite_from_dict(
        unittest.defaultTestLoader,
        f"gabbits_{name.removesuffix('.yaml')}",
        suite,
        str(FOLDER),
        to.hostname,
        to.port,
        fixtures,
        None,
        test_loader_name="gabbits",
        handlers=[handler() for handler in handlers.RESPONSE_HANDLERS],
    )
    made.run(result)
    failed = dict(result.failed)
    for test in suite["tests"]:
        title = test["name"]
        if title in result.passed:
            outcome.passed += 1
        else:
            outcome.failures.append(Failure(name, title, failed.get(title, "did not run")))
    outcome.files += 1


class _Result(unittest.TestResult):
    """Which tests passed, and the last line of why others did not."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()
        self.failed: list[tuple[str, str]] = []

    def addSuccess(self, test: Any) -> None:  # noqa: N802 - unittest's names
        self.passed.add(test.test_data["name"])

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self.passed.add(test.test_data["name"])

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self.failed.append((test.test_data["name"], str(err[1]).strip()))

    addError = addFailure  # noqa: N815


@contextlib.contextmanager
def _speaking_to(server: Server) -> Iterator[None]:
    """Let gabbi's client and the fixtures work against `server`."""
    client = httpclient.Http.request
    httpx = httpclient.httpx.Client
    stand_in = _Fixtures(server)

    def request(self: Any, uri: str, method: str, body: Any, headers: dict[str, str], redirect: Any, timeout: Any) -> Any:
        uri, headers = _outward(server, uri, headers)
        try:
            told, raw = client(self, uri, method, body, headers, redirect, timeout)
        except httpclient.httpx.LocalProtocolError:
            told, raw = _by_hand(uri, method, body, headers)
        if "location" in told:
            told["location"] = told["location"].replace(PREFIX, "", 1)
        return told, raw.replace(b'"' + PREFIX.encode() + b"/", b'"/')

    # a client that trusts nobody does not load the certificates of all the world for each test
    httpclient.httpx.Client = lambda **options: httpx(**(options | {"verify": False}))
    httpclient.Http.request = request
    fixtures.APIFixture.start_fixture = stand_in.start
    fixtures.APIFixture.stop_fixture = lambda _self: None
    fixtures.tb = stand_in
    fixtures.rc_obj = types.SimpleNamespace(ResourceClass=stand_in.resource_class)
    fixtures.user_obj = types.SimpleNamespace(User=_Owner)
    fixtures.project_obj = types.SimpleNamespace(Project=_Owner)
    try:
        yield
    finally:
        httpclient.Http.request = client
        httpclient.httpx.Client = httpx


def _outward(server: Server, uri: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    parts = urlsplit(uri)
    said = {key.lower(): value for key, value in headers.items()}
    token = said.get("x-auth-token")
    # as Placement's noauth2 has it: the roles are in a header, or the user's name tells
    roles = said["x-roles"].split(",") if "x-roles" in said else [(token or "").partition(":")[0]]
    admin = server.system if "openstack-system-scope" in said else server.admin
    real = admin if "admin" in roles else server.nobody
    sent = {key: real if key.lower() == "x-auth-token" else value for key, value in headers.items()}
    return urlunsplit(parts._replace(path=PREFIX + parts.path)), sent


def _by_hand(uri: str, method: str, body: Any, headers: dict[str, str]) -> Any:
    """Send a request that httpx finds too broken to send."""
    to = urlsplit(uri)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest(method, to.path + (f"?{to.query}" if to.query else ""))
        for key, value in headers.items():
            connection.putheader(key, value)
        connection.endheaders(body.encode() if isinstance(body, str) else body)
        response = connection.getresponse()
        told = httpclient.httpx.Headers(response.getheaders())
        raw = response.read()
    told.update({"status": str(response.status), "reason": response.reason, "http_protocol_version": "HTTP/1.1"})
    return told, raw


class _Owner:
    """A user or a project; there are no rows for them in Lamina."""

    def __init__(self, _context: Any = None, external_id: str = "", **_: Any) -> None:
        self.external_id = external_id

    def create(self) -> None:
        """There is nothing to make."""


@dataclasses.dataclass(frozen=True)
class _Provider:
    server: Server
    uuid: str
    name: str

    @property
    def generation(self) -> int:
        found: int = self.server.must("GET", f"/resource_providers/{self.uuid}")["generation"]
        return found

    def set_aggregates(self, aggregates: Any) -> None:
        # before 1.19 the generation stays, as it does with Placement's objects
        self.server.must("PUT", f"/resource_providers/{self.uuid}/aggregates", list(aggregates), version="1.18")


#: what the tests find in their environment
_UUIDS = (
    "RP_UUID", "RP_NAME", "RP_UUID1", "RP_NAME1", "RP_UUID2", "RP_NAME2", "PROJECT_ID", "ADMIN_PROJECT_ID",
    "SERVICE_PROJECT_ID", "USER_ID", "PROJECT_ID_ALT", "USER_ID_ALT", "INSTANCE_UUID", "MIGRATION_UUID",
    "CONSUMER_UUID", "PARENT_PROVIDER_UUID", "ALT_PARENT_PROVIDER_UUID",
)
_CLASSES = {"CUSTOM_RES_CLASS": "CUSTOM_IRON_NFV", "CUSTOM_RES_CLASS1": "CUSTOM_IRON_NFV1", "CUSTOM_RES_CLASS2": "CUSTOM_IRON_NFV2"}


class _Fixtures:
    """The helpers of `placement.tests.functional.db.test_base`, over the API."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def start(self) -> Any:
        server = self.server

        def start_fixture(fixture: Any) -> None:
            server.wipe()
            fixture.context = None
            fixture.conf_fixture = fixture.policy_fixture = _Ignored()
            os.environ.update({name: uuidutils.generate_uuid() for name in _UUIDS} | _CLASSES)

        return start_fixture

    def create_provider(self, _context: Any, name: str, *aggregates: str, **options: Any) -> _Provider:
        made = _Provider(self.server, options.get("uuid") or getattr(uuidsentinel, name), name)
        body = {"name": name, "uuid": made.uuid}
        if options.get("parent"):
            body["parent_provider_uuid"] = options["parent"]
        self.server.must("POST", "/resource_providers", body)
        if aggregates:
            made.set_aggregates(aggregates)
        return made

    def _ensure_class(self, name: str) -> None:
        if name.startswith("CUSTOM_"):
            self.server.must("PUT", f"/resource_classes/{name}")

    def resource_class(self, context: Any = None, name: str = "") -> Any:
        return types.SimpleNamespace(create=lambda: self._ensure_class(name))

    def add_inventory(self, provider: _Provider, name: str, total: int, **options: Any) -> None:
        self._ensure_class(name)
        body = {"max_unit": total, **options, "resource_class": name, "total": total}
        body["resource_provider_generation"] = provider.generation
        self.server.must("POST", f"/resource_providers/{provider.uuid}/inventories", body)

    def set_traits(self, provider: _Provider, *traits: str) -> None:
        for name in traits:
            if name.startswith("CUSTOM_"):
                self.server.must("PUT", f"/traits/{name}")
        body = {"resource_provider_generation": provider.generation, "traits": list(traits)}
        self.server.must("PUT", f"/resource_providers/{provider.uuid}/traits", body)

    def create_user_and_project(self, _context: Any, prefix: str = "fake") -> tuple[_Owner, _Owner]:
        return _Owner(external_id=f"{prefix}-user"), _Owner(external_id=f"{prefix}-project")

    def ensure_consumer(self, _context: Any, user: _Owner, project: _Owner, consumer_id: str | None = None) -> Any:
        return types.SimpleNamespace(uuid=consumer_id or uuidutils.generate_uuid(), user=user, project=project)

    def set_allocation(self, _context: Any, provider: _Provider, consumer: Any, used: dict[str, int]) -> None:
        body = {
            "allocations": {provider.uuid: {"resources": used}},
            "project_id": consumer.project.external_id,
            "user_id": consumer.user.external_id,
            "consumer_generation": None,
        }
        self.server.must("PUT", f"/allocations/{consumer.uuid}", body, version="1.28")


class _Ignored:
    """Settings of a server that is not in this process."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_options: None


