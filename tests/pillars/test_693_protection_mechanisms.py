"""CWE-693: protections that are there, hold against what callers claim of themselves, and whose absence keeps Lamina from starting.

TLS itself (expired, another host, another authority, old versions, rotation) is in `tests/contract/test_tls.py` and
`tests/contract/test_joining.py`, what slow and large requests cost in `tests/contract/test_connections.py`.
"""

from __future__ import annotations

import ast
import concurrent.futures
import dataclasses
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from lamina.api.application import application
from lamina.api.rooms import DOOR
from lamina.api.routing import Reply, Request, Room, Route
from lamina.hosts import certificates
from lamina.hosts.private_files import write_private
from lamina.model.clock import SystemClock
from lamina.model.rates import Rate
from tests.contract.dialled import control_plane
from tests.pillars.calls import Call, calls
from tests.pillars.identities import EXPIRED, MEMBER, NOBODY, OUTSIDER, READER, Identity
from tests.pillars.matrix import EVERY_ROOM, Door, opened
from tests.pillars.sources import calls as calls_of
from tests.pillars.sources import modules, nodes


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with structlog.testing.capture_logs(), opened() as door:
        yield door


# ------------------------------------------------------------------------------------------------ what callers claim

#: by which middleware in front of OpenStack's services tells who is asking, and proxies where from
CLAIMS = (
    *("X-Roles", "X-Role", "X-User-Id", "X-User", "X-User-Name", "X-User-Domain-Id", "X-User-Domain-Name", "X-Tenant", "X-Tenant-Id"),
    *("X-Tenant-Name", "X-Project-Id", "X-Project-Name", "X-Project-Domain-Id", "X-Project-Domain-Name", "X-Domain-Id", "X-Domain-Name"),
    *("X-Is-Admin-Project", "X-Identity-Status", "X-Service-Identity-Status", "X-Service-Roles", "X-Service-Token", "X-Service-User-Id"),
    *("X-Service-Project-Id", "X-Service-Catalog", "OpenStack-System-Scope", "X-Authorized-User", "X-Remote-User", "Remote-User"),
    *("X-Forwarded-For", "X-Forwarded-User", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip"),
    *("X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Subject-Id", "X-Trust-Id"),
    *("X-SSL-Client-Cert", "SSL-Client-Cert", "X-Client-Verify", "X-Client-Dn", "X-Delegated-By", "X-Auth-User", "X-Auth-Key", "X-Admin"),
    *("X-Storage-Token", "Authorization", "Cookie", "Proxy-Authorization", "X-Instance-Id", "X-Instance-Id-Signature"),
)
#: an administrator's words, and nonsense
WORDS = st.sampled_from(
    ("admin", "Confirmed", "True", "all", "127.0.0.1", "DELETE", "/fleet/v1/hosts", "service", "https", "Basic YTpi")
) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
CLAIMED = st.dictionaries(st.sampled_from(CLAIMS), WORDS, min_size=1, max_size=len(CLAIMS))
EVERY_CALL = [call for room in EVERY_ROOM for call in calls(room)]
#: what differs from answer to answer
_PASSING = re.compile(
    r"req-[0-9a-f-]{36}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z?|\b\d{10}\.\d+"
)


def things(door: Door, identity: Identity) -> dict[str, str]:
    """Another's, and of what is nobody's what there is."""
    return {**door.cloud.own(identity), **door.cloud.foreign(identity)}


def decision(door: Door, identity: Identity, call: Call) -> tuple[int, str]:
    answer = door.ask(identity, call, things(door, identity))
    # figures grow by being asked for, and a new token is another one
    body = "" if call.path == "/metrics" or answer.status_code == 201 else _PASSING.sub("", answer.text)
    return answer.status_code, body


@pytest.mark.weakness(290)
@pytest.mark.weakness(807)
@pytest.mark.weakness(348)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(EVERY_CALL), st.sampled_from((NOBODY, EXPIRED, READER, MEMBER, OUTSIDER)), CLAIMED)
def test_no_header_in_which_a_caller_claims_something_changes_a_decision(
    door: Door, call: Call, identity: Identity, claimed: dict[str, str]
) -> None:
    plain = decision(door, identity, call)
    # a value that begins with $ stands for something in the matrix
    claiming = dataclasses.replace(call, headers={**{name: value.lstrip("$") for name, value in claimed.items()}, **call.headers})
    assert decision(door, identity, claiming) == plain


@pytest.mark.weakness(290)
def test_all_of_them_at_once_make_nobody_anybody(door: Door) -> None:
    """An administrator's ids and roles in every header there is, on every call there is."""
    admin = dict.fromkeys(CLAIMS, "admin") | {"X-Project-Id": door.cloud.things["home"]["project"], "X-Identity-Status": "Confirmed"}
    let_in = []
    for call in EVERY_CALL:
        plain = door.ask(NOBODY, call, things(door, NOBODY)).status_code
        claiming = dataclasses.replace(call, headers={**admin, **call.headers})
        if door.ask(NOBODY, claiming, things(door, NOBODY)).status_code != plain:
            let_in.append(str(call))
    assert not let_in


@pytest.mark.weakness(290)
def test_the_code_reads_no_such_header() -> None:
    claims = {name.lower() for name in CLAIMS} | {name.lower().replace("-", "_") for name in CLAIMS if "-" in name}
    read = [
        (module.name, node.lineno, node.value)
        for module, node in nodes(ast.Constant)
        if isinstance(node.value, str) and node.value.lower().removeprefix("http_") in claims
    ]
    assert not read


@pytest.mark.weakness(598)
@pytest.mark.parametrize("word", ["token", "X-Auth-Token", "x-auth-token", "auth_token", "access_token", "X-Subject-Token"])
def test_a_token_counts_in_its_header_alone(door: Door, word: str) -> None:
    """Not in the URL, where logs and proxies keep it, and in no other header."""
    token = door.cloud.tokens["admin"]
    path = "/compute/v2.1/servers"
    assert door.client.get(path, headers={"X-Auth-Token": token}).status_code == 200
    assert door.client.get(f"{path}?{word}={token}").status_code == 401
    assert door.client.get(f"{path};{word}={token}").status_code == 401
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Cookie": f"{word}={token}"},
        {"X-Service-Token": token},
        {"X-Subject-Token": token},
    ):
        assert door.client.get(path, headers=headers).status_code == 401
    assert door.client.request("GET", path, content=f'{{"{word}": "{token}"}}').status_code == 401


# ------------------------------------------------------------------------------------------------ how often


@pytest.mark.weakness(307)
@pytest.mark.weakness(770)
def test_however_many_ask_at_once_no_more_than_the_burst_pass(door: Door) -> None:
    rate = Rate(per_second=1, burst=30)
    plane = dataclasses.replace(door.cloud.plane, settings=dataclasses.replace(door.cloud.plane.settings, rate_limit=rate))
    token = {"X-Auth-Token": door.cloud.tokens["mel"]}
    with TestClient(application(plane, EVERY_ROOM)) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: client.get("/image/v2/images", headers=token).status_code, range(100)))
    assert (codes.count(200), codes.count(429)) == (30, 70)


# ------------------------------------------------------------------------------------------------ protections removed


@dataclasses.dataclass
class Place:
    """Where a Lamina is to start, and what is given to it beside."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def file(self, name: str, content: bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        write_private(path, content)
        path.chmod(mode)
        return str(path)

    def certificate(self, *, since: float = 0.0, mode: int = 0o600, of_another: bool = False) -> list[str]:
        now = SystemClock().now() + since
        ca = certificates.authority(now)
        pair, other = (certificates.server(ca, ("127.0.0.1",), now) for _ in range(2))
        key = (other if of_another else pair).key
        return ["--tls-cert", self.file("cert.pem", pair.certificate), "--tls-key", self.file("key.pem", key, mode)]

    def policy(self, text: str) -> list[str]:
        return ["--policy-file", self.file("policy.yaml", text.encode())]

    def keystone(self, mode: int, url: str = "https://keystone.example.org/v3") -> list[str]:
        text = f'auth_url = "{url}"\nusername = "lamina"\npassword = "secret"\n'
        return ["--keystone", self.file("keystone.toml", text.encode(), mode)]

    def open_state(self, mode: int) -> list[str]:
        self.state.mkdir(mode=0o700)
        (self.state / "passwords.json").write_text("{}")
        self.state.chmod(mode)
        return []

    def up(self, options: list[str]) -> subprocess.CompletedProcess[str]:
        listen = [] if "--listen" in options else ["--listen", "127.0.0.1:0"]
        command = [sys.executable, "-m", "lamina.cli.main", "up", "--fleet", "demo", "--state", str(self.state), *listen, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


#: what is removed -> the options that remove it, and what the refusal says of it
REMOVED: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "TLS on every address": (lambda _: ["--listen", "0.0.0.0:0"], "passwords would travel there in clear"),
    "TLS on every address of IPv6": (lambda _: ["--listen", "[::]:0"], "passwords would travel there in clear"),
    "a certificate's key": (lambda place: place.certificate()[:2], "a certificate and its key go together"),
    "the key that is the certificate's": (lambda place: place.certificate(of_another=True), "are no certificate and its key"),
    "the secrecy of the key": (lambda place: place.certificate(mode=0o644), "can be read by others"),
    "the validity of the certificate": (lambda place: place.certificate(since=-certificates.SERVER_LIFE - 1e5), "is good from"),
    "one of two ways to speak": (lambda _: ["--own-certificate", "--plain-http"], "choose one"),
    "the limit of requests, by a mistake": (lambda _: ["--rate-limit", "0"], "--rate-limit"),
    "the sense of a policy file": (lambda place: place.policy("nonsense: ["), "--policy-file"),
    "a rule that there is": (lambda place: place.policy('"no:such:rule": "role:admin"'), "nothing asks for the rule"),
    "a check that can be understood": (
        lambda place: place.policy('"os_compute_api:servers:create": "role admin or"'),
        "cannot be understood",
    ),
    "a rule that another refers to": (lambda place: place.policy('"os_compute_api:servers:create": "rule:gone"'), "--policy-file"),
    "the secrecy of Keystone's password": (lambda place: place.keystone(0o640), "can be read by others"),
    "TLS to Keystone": (lambda place: place.keystone(0o600, "http://keystone.example.org/v3"), "in clear"),
    "the secrecy of the state directory": (lambda place: place.open_state(0o755), "say chmod 700"),
    "the secrecy of it from a group": (lambda place: place.open_state(0o750), "say chmod 700"),
    "the secrecy of the database's password": (lambda _: ["--database", "postgresql://lamina:word@db/lamina"], "list of processes"),
}


@pytest.mark.parametrize("what", REMOVED)
@pytest.mark.weakness(636)
@pytest.mark.weakness(319)
@pytest.mark.weakness(732)
def test_without_a_protection_nothing_starts(tmp_path: Path, what: str) -> None:
    remove, told = REMOVED[what]
    place = Place(tmp_path)
    options = remove(place)
    before = sorted(place.state.iterdir()) if place.state.exists() else None
    said = place.up(options)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert (sorted(place.state.iterdir()) if place.state.exists() else None) == before, "nothing is begun"


def answered(_request: Request) -> Reply:
    return Reply(200, {})


@pytest.mark.weakness(862)
def test_a_route_without_a_rule_and_a_rule_with_two_checks_are_not_served(door: Door) -> None:
    def room(*routes: Route) -> Room:
        return Room("bare", "/bare", routes, DOOR.fault)

    with pytest.raises(ValueError, match="has no policy rule"):
        application(door.cloud.plane, [room(Route("GET", "", answered, ""))])
    with pytest.raises(ValueError, match="has two defaults"):
        application(door.cloud.plane, [room(Route("GET", "", answered, "r", "role:admin"), Route("GET", "/a", answered, "r", "@"))])


@pytest.mark.weakness(306)
def test_a_room_that_says_nothing_of_authentication_asks_for_a_token(door: Door) -> None:
    silent = Room("silent", "/silent", (Route("GET", "", answered, "silent:get", "@"),), DOOR.fault)
    with TestClient(application(door.cloud.plane, [silent])) as client:
        assert client.get("/silent").status_code == 401
        assert client.get("/silent", headers={"X-Auth-Token": door.cloud.tokens["mel"]}).status_code == 200


@pytest.mark.weakness(209)
@pytest.mark.weakness(489)
def test_a_defect_shows_nothing_of_the_inside(door: Door) -> None:
    def broken(_request: Request) -> Reply:
        raise RuntimeError("canary-inside")

    room = Room("broken", "/broken", (Route("GET", "", broken, "broken:get", "@", public=True),), DOOR.fault)
    with TestClient(application(door.cloud.plane, [room])) as client:
        answer = client.get("/broken")
    assert answer.status_code == 500
    assert "canary" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["X-Openstack-Request-Id"] in answer.text


@pytest.mark.weakness(327)
def test_where_hosts_dial_in_nothing_older_than_tls_1_3_is_spoken(tmp_path: Path) -> None:
    with control_plane(tmp_path) as plane:
        address = httpx.URL(plane.settings.agents_url or "")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for most, good in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
            context.maximum_version = most
            with socket.create_connection((address.host, address.port or 0)) as plain:
                if good:
                    with context.wrap_socket(plain) as secure:
                        assert secure.version() == "TLSv1.3"
                else:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(plain)


# ------------------------------------------------------------------------------------------------ what is drawn

#: modules that draw by a generator whose next number can be told: what they draw is no secret
PLAYS = {"hosts/dialing.py": "jitter", "cli/placement_bench/measuring.py": "load", "cli/simulation/replay.py": "order of a replayed trace"}
_WEAK = {"random", "numpy.random", "uuid1", "uuid3", "getnode"}


@pytest.mark.weakness(330)
@pytest.mark.weakness(338)
def test_secrets_are_drawn_by_the_systems_generator() -> None:
    drawing = set()
    for module in modules():
        for node in ast.walk(module.tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Attribute):
                names = [node.attr] if node.attr in ("uuid1", "uuid3", "getnode", "default_rng", "RandomState") else []
            if set(names) & _WEAK or {"default_rng", "RandomState"} & set(names):
                drawing.add(module.name)
    assert drawing == set(PLAYS)
    drawn = {module.name for module, _ in calls_of("token_urlsafe", "token_hex", "token_bytes")}
    assert {"cli/state_directory.py", "store/tokens.py", "hosts/join_tokens.py", "api/identity/application_credentials.py"} <= drawn


@pytest.mark.weakness(331)
def test_tokens_are_long_and_never_the_same(door: Door) -> None:
    (log_in,) = (call for call in calls(_room("identity")) if f"{call.method} {call.path}" == "POST /identity/v3/auth/tokens")
    seen: list[Any] = [door.ask(MEMBER, log_in, door.cloud.own(MEMBER)).headers["X-Subject-Token"] for _ in range(20)]
    assert len(set(seen)) == 20
    assert all(len(token) >= 43 for token in seen), "256 bits, as base64 has them"
    columns = list(zip(*(token[-43:] for token in seen), strict=True))
    assert all(len(set(column)) > 3 for column in columns[:42]), "no place of a token stays as it is"


def _room(name: str) -> Room:
    return next(room for room in EVERY_ROOM if room.name == name)
