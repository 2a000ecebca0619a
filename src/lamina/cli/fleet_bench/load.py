"""Load on the control planes of a fleet: servers made by many clients at once, and a control plane killed with its hands full."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lamina.cli import servers
from lamina.cli.client import Client
from lamina.cli.fleet_bench import VGPU_TYPE
from lamina.cli.instance import Instance
from lamina.model import resources
from lamina.model.errors import LaminaError, Unavailable

#: seconds between two looks at how far it has come, which cost the control planes something, and at whose operations there are
LOOK, GLANCE = 0.5, 0.1
#: seconds in which a load has to come to its end
PATIENCE = 600.0
#: most servers asked for in one request
AT_ONCE = 250


class Load:
    """Of servers with one vGPU each on a fleet, put on its control planes in turn."""

    def __init__(self, replicas: Sequence[Instance], clients: int, tell: Callable[[str], None]) -> None:
        self._replicas = list(replicas)
        self._clients = clients
        self._tell = tell
        with Client.connect(replicas[0].state) as client:
            self._image = servers.make_image(client, "bench")
            self._flavor = servers.make_flavor(client, "bench", resources.VGPU, VGPU_TYPE, vcpus=1, memory_mb=512)

    def creations(self, count: int) -> float:
        """Servers that became ACTIVE a second, asked for one by one by all clients at once. Raises `LaminaError` where one does not."""
        turns = itertools.count()

        def one_client(instance: Instance) -> None:
            with Client.connect(instance.state) as client:
                while (number := next(turns)) < count:
                    servers.begin_server(client, f"bench-{number}", self._flavor, self._image)

        began = time.perf_counter()
        with ThreadPoolExecutor(self._clients) as pool:
            for asked in [pool.submit(one_client, i) for i in itertools.islice(itertools.cycle(self._replicas), self._clients)]:
                asked.result()
            self._until_at_rest(self._replicas[0], f"of {count} servers are being made")
        spent = time.perf_counter() - began
        self._must_be(count)
        return count / spent

    def delete_all(self) -> float:
        """Servers deleted a second."""
        with Client.connect(self._replicas[0].state) as client:
            there = [one["id"] for one in _servers(client)]
        left = iter(there)
        turn = threading.Lock()

        def one_client(instance: Instance) -> None:
            with Client.connect(instance.state) as client:
                while True:
                    with turn:
                        server_id = next(left, None)
                    if server_id is None:
                        return
                    client.call("compute", "DELETE", f"/servers/{server_id}")

        began = time.perf_counter()
        with ThreadPoolExecutor(self._clients) as pool:
            for asked in [pool.submit(one_client, i) for i in itertools.islice(itertools.cycle(self._replicas), self._clients)]:
                asked.result()
        self._until_at_rest(self._replicas[0], f"of {len(there)} servers are being deleted")
        return len(there) / (time.perf_counter() - began)

    def burst(self, count: int) -> float:
        """Seconds until all are ACTIVE that were asked for in as few requests as can be. Raises `LaminaError` where one is not."""
        began = time.perf_counter()
        self._ask_at_once(count)
        self._until_at_rest(self._replicas[0], f"of {count} servers are being made")
        spent = time.perf_counter() - began
        self._must_be(count)
        return spent

    def killed(self, count: int) -> tuple[int, float, float]:
        """Kill the last control plane with its hands full.

        Returns how many operations were in flight, the seconds until each has a living owner, and until all had come to
        their end. Raises `LaminaError` where a server is lost.
        """
        self._ask_at_once(count)
        survivor, victim = self._replicas[0], self._replicas.pop()
        with Client.connect(survivor.state) as client, Client.connect(victim.state) as doomed:
            owner = next(one["id"] for one in doomed.call("fleet", "GET", "/replicas")["replicas"] if one["this"])
            in_flight = len(client.call("fleet", "GET", "/operations?events=false")["operations"])
            os.kill(victim.pid, signal.SIGKILL)
            began = time.perf_counter()
            for left in self._operations(client, GLANCE):
                if not any(one["owner"] == owner for one in left):
                    break
            taken_over = time.perf_counter() - began
        self._until_at_rest(survivor, f"of {count} servers are being made")
        ended = time.perf_counter() - began
        self._must_be(count)
        return in_flight, taken_over, ended

    # ------------------------------------------------------------------------------------------------ looking

    def _ask_at_once(self, count: int) -> None:
        def ask(instance: Instance, first: int) -> None:
            many = min(AT_ONCE, count - first)
            wanted = {"name": f"burst-{first}", "flavorRef": self._flavor, "imageRef": self._image, "networks": "none"}
            with Client.connect(instance.state) as client:
                client.call("compute", "POST", "/servers", {"server": wanted | {"min_count": many, "max_count": many}})

        with ThreadPoolExecutor(self._clients) as pool:
            for asked in [pool.submit(ask, *one) for one in zip(itertools.cycle(self._replicas), range(0, count, AT_ONCE), strict=False)]:
                asked.result()

    def _operations(self, client: Client, every: float = LOOK) -> Iterator[list[dict[str, Any]]]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            yield client.call("fleet", "GET", "/operations?events=false")["operations"]
            time.sleep(every)
        raise Unavailable(f"Operations are still under way after {PATIENCE:.0f} s.")

    def _until_at_rest(self, replica: Instance, what: str) -> None:
        with Client.connect(replica.state) as client:
            for left in self._operations(client):
                if not left:
                    return
                self._tell(f"{len(left)} {what}")

    def _must_be(self, count: int) -> None:
        with Client.connect(self._replicas[0].state) as client:
            states = collections.Counter(one["status"] for one in _servers(client))
            failed = next((one for one in _servers(client) if one["status"] != "ACTIVE"), None)
        if states != {"ACTIVE": count}:
            raise LaminaError(f"Of {count} servers there are {dict(states)}; one says: {failed and failed.get('fault', {}).get('message')}")


def _servers(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        marker = f"&marker={found[-1]['id']}" if found else ""
        page = client.call("compute", "GET", f"/servers/detail?all_tenants=1&limit=1000{marker}")["servers"]
        if not page:
            return found
        found += page

