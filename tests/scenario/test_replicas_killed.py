"""Two control planes under load, one of them killed or restarted every few seconds: nothing that was accepted is lost or done twice.

``LAMINA_KILL_SECONDS`` says for how long; `make kills` runs two minutes of each.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lamina.cli.own_postgres import own_postgres
from tests.scenario.agents import ControlPlane
from tests.scenario.cloud import gpu, host, running

HOSTS = ("one", "two", "three")
SECONDS = float(os.environ.get("LAMINA_KILL_SECONDS", "15"))
EVERY = 5.0
CLIENTS = 4
#: seconds in which an operation ends, whoever died meanwhile
PATIENCE = 60.0


@dataclasses.dataclass
class Seen:
    """What clients were answered."""

    statuses: Counter[int] = dataclasses.field(default_factory=Counter)
    #: connections that nobody took, and those that broke later
    refused: int = 0
    broken: int = 0
    made: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    stops: int = 0


class Client:
    """Asks either control plane, another one when a connection breaks."""

    def __init__(self, clouds: list[ControlPlane], token: str, seen: Seen) -> None:
        self._clouds = clouds
        self._seen = seen
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.96"}
        # a connection for each request, as a load balancer opens them: one that is kept may be closed just when it is used again
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(headers=headers, limits=limits, timeout=30.0, trust_env=False)

    def _note(self, error: httpx.TransportError) -> None:
        if isinstance(error, httpx.ConnectError):
            self._seen.refused += 1
        else:
            self._seen.broken += 1

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        end = time.monotonic() + PATIENCE
        while True:
            cloud = random.choice(self._clouds)  # noqa: S311
            try:
                answer = self._http.request(method, cloud.url + path, **more)
            except httpx.TransportError as error:
                # the one that was stopped, or that is starting; whether it had the request nobody knows
                self._note(error)
                assert time.monotonic() < end, "no control plane answers"
                time.sleep(0.05)
                continue
            self._seen.statuses[answer.status_code] += 1
            return answer

    def life(self, name: str, body: dict[str, Any]) -> None:
        """One server, from its making to its end."""
        server_id = self._made(name, body)
        state = self._until(server_id, lambda s: s.get("status") != "BUILD")
        if state.get("status") != "ACTIVE":
            self._seen.failed.append(f"{name}: {state.get('status')} {state.get('fault')}")
        self._seen.made += 1
        # asked for again where the answer was lost: it is gone already then
        assert self.ask("DELETE", f"/compute/v2.1/servers/{server_id}").status_code in (204, 404)
        self._until(server_id, lambda s: not s)

    def _made(self, name: str, body: dict[str, Any]) -> str:
        """Asked for once; where the answer was lost, it is looked for by its name."""
        end = time.monotonic() + PATIENCE
        while True:
            cloud = random.choice(self._clouds)  # noqa: S311
            try:
                answer = self._http.post(cloud.url + "/compute/v2.1/servers", json={"server": body | {"name": name}})
                self._seen.statuses[answer.status_code] += 1
                assert answer.status_code == 202, answer.text
                return str(answer.json()["server"]["id"])
            except httpx.TransportError as error:
                self._note(error)
            found = self.ask("GET", f"/compute/v2.1/servers?name=^{name}$").json()["servers"]
            if found:
                return str(found[0]["id"])
            assert time.monotonic() < end
            time.sleep(0.05)

    def _until(self, server_id: str, done: Any) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while True:
            answer = self.ask("GET", f"/compute/v2.1/servers/{server_id}")
            state: dict[str, Any] = answer.json()["server"] if answer.status_code == 200 else {}
            if done(state):
                return state
            assert time.monotonic() < end, f"still {state}"
            time.sleep(0.1)


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[list[ControlPlane]]:
    hosts = [host(name, gpu("0000:81:00.0", "mdev")) for name in HOSTS]
    with ExitStack() as stack:
        options = ("--database", stack.enter_context(own_postgres()), "--shared", str(tmp_path / "shared"))
        first, second = (ControlPlane(tmp_path / name, hosts, *options) for name in ("first", "second"))
        stack.enter_context(running(first))
        for name in HOSTS:
            stack.enter_context(first.host(name))
        first.until(first.connect(), **dict.fromkeys(HOSTS, "up"))
        stack.enter_context(running(second))
        yield [first, second]


def under_load(clouds: list[ControlPlane], how: signal.Signals) -> Seen:
    """Stop one after the other and start it again, while clients make and delete servers. What they were answered."""
    conn = clouds[0].connect()
    flavor, image = clouds[0].flavor(conn, "small", resources__VGPU="1"), clouds[0].image(conn)
    body = {"flavorRef": flavor.id, "imageRef": image.id, "networks": "none"}
    token, seen = str(conn.session.get_token()), Seen()
    end = time.monotonic() + SECONDS

    def load(number: int) -> None:
        client, count = Client(clouds, token, seen), 0
        while time.monotonic() < end:
            count += 1
            client.life(f"s{number}-{count}", body)

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        loads = [pool.submit(load, number) for number in range(CLIENTS)]
        while time.monotonic() < end - EVERY / 2:
            threading.Event().wait(EVERY)
            victim = clouds[seen.stops % 2]
            victim.stop(how)
            victim.start()
            seen.stops += 1
        for one in loads:
            one.result()
    print(
        f"{SECONDS:.0f} s, {seen.stops} times {how.name}, {seen.made} servers made and deleted, {sum(seen.statuses.values())} answers "
        f"{dict(sorted(seen.statuses.items()))}, {seen.refused} connections refused and {seen.broken} broken, {len(seen.failed)} failed"
    )
    return seen


def nothing_is_lost(clouds: list[ControlPlane], seen: Seen) -> None:
    assert not [status for status in seen.statuses if status >= 500]
    assert seen.failed == []
    assert seen.made >= CLIENTS
    conn = clouds[0].connect()
    assert [s.id for s in conn.compute.servers(details=False)] == []
    assert [clouds[0].counts(conn, name) for name in HOSTS] == [0, 0, 0]
    assert clouds[0].fleet(conn, "/operations")["operations"] == []


def test_one_is_killed_every_few_seconds(clouds: list[ControlPlane]) -> None:
    nothing_is_lost(clouds, under_load(clouds, signal.SIGKILL))


def test_one_is_restarted_every_few_seconds(clouds: list[ControlPlane]) -> None:
    """Whatever request one has begun with it answers before it goes."""
    seen = under_load(clouds, signal.SIGTERM)
    nothing_is_lost(clouds, seen)
    assert seen.broken == 0
