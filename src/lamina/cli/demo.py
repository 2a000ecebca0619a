"""`lamina demo`: the main job of Lamina from end to end, each step held against what the hosts really have.

It speaks to a running Lamina, or to one of its own where none answers, and takes away what it has made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lamina.cli.demo_checks import came_back, disagreement
from lamina.cli.demo_plan import DemoPlan, plan
from lamina.cli.state import default_state
from lamina.model.errors import LaminaError, NotFound, Unavailable

if TYPE_CHECKING:
    from rich.console import Console

    from lamina.cli.client import Client

#: everything the demo makes is named so, and what an interrupted demo has left is known by it
PREFIX = "lamina-demo"
SECONDS, PAUSE = 30.0, 0.02


@click.command("demo", help="Show the main job: discover, create, resize, revert, confirm, reboot, delete.")
@click.option("--state", type=click.Path(path_type=Path), help="State directory.  [default: the user's XDG state folder]")
def command(state: Path | None) -> None:
    from lamina.cli.console import console

    out = console()
    with _some_lamina(state or default_state(), out) as client:
        Demo(client, out).run()


@contextlib.contextmanager
def _some_lamina(state: Path, out: Console) -> Iterator[Client]:
    """The Lamina of `state`, or a temporary one where none answers."""
    from lamina.cli.client import Client
    from lamina.cli.instance import temporary_instance

    with contextlib.ExitStack() as stack:
        try:
            client = Client.connect(state)
        except Unavailable:
            out.print("No Lamina is running; the demo starts one of its own with simulated hosts.")
            instance = stack.enter_context(temporary_instance())
            client = Client.connect(instance.state)
        yield stack.enter_context(client)


class Demo:
    """One run. Every step prints what the GPUs hold afterwards; the first thing that is not as it should be raises."""

    def __init__(self, client: Client, out: Console) -> None:
        self._client = client
        self._out = out
        #: server id -> name
        self._servers: dict[str, str] = {}
        self._step = 0
        #: (host, address) of every GPU that has held a vGPU of the demo's
        self._touched: set[tuple[str, str]] = set()

    def run(self) -> None:
        """Raises `LaminaError` where something is not true; the demo's things are gone either way."""
        started = time.monotonic()
        self._sweep()
        try:
            self._tour()
        except BaseException:
            with contextlib.suppress(LaminaError):  # what went wrong first is what has to be told
                self._sweep()
            raise
        self._sweep()
        self._out.print(f"\n[bold green]Every check held[/], in {time.monotonic() - started:.1f} s.")

    def _tour(self) -> None:
        from lamina.cli import servers

        gpus = self._gpus()
        chosen = plan(gpus)
        self._discovered(gpus)
        image = servers.make_image(self._client, f"{PREFIX}-image")
        small, large = f"{PREFIX}-small", f"{PREFIX}-large"
        servers.make_flavor(self._client, small, chosen.resource_class, chosen.small, vcpus=1, memory_mb=512)
        servers.make_flavor(self._client, large, chosen.resource_class, chosen.large, vcpus=2, memory_mb=1024)

        for name in ("one", "two"):
            server = servers.begin_server(self._client, f"{PREFIX}-{name}", small, image, {PREFIX: "yes"})
            self._servers[server] = f"{PREFIX}-{name}"
        first, _second = self._servers
        for server in self._servers:
            self._wait(server, "ACTIVE")
        self._check(f"Two servers with one vGPU of {chosen.small} each", {chosen.small: 2})

        self._resize(first, large, chosen)
        servers.act(self._client, first, {"revertResize": None})
        self._wait(first, "ACTIVE")
        self._check("Reverted: the new vGPU is gone, the old one is the server's again", {chosen.small: 2})
        self._resize(first, large, chosen)
        servers.act(self._client, first, {"confirmResize": None})
        self._wait(first, "ACTIVE")
        self._check("Confirmed: the old vGPU is gone", chosen.held(small=1, large=1))

        self._reboot(first, chosen)
        for server in list(self._servers):
            servers.delete_server(self._client, server, seconds=SECONDS, pause=PAUSE)
        self._check("Both servers deleted: nothing is left of them", {})

    # ------------------------------------------------------------------------------------------------ steps

    def _discovered(self, gpus: list[dict[str, Any]]) -> None:
        from lamina.cli.pictures import capacity

        hosts = self._client.call("fleet", "GET", "/hosts")["hosts"]
        self._say(f"Discovered {len(hosts)} hosts with {len(gpus)} GPUs")
        for host in hosts[:10]:
            mine = [g for g in gpus if g["host"] == host["name"]]
            models = ", ".join(sorted({f"{g['model']} ({g['framework']})" for g in mine})) or "no GPU"
            self._out.print(f"   {host['name']}, {host['state']}: {models}; {capacity(mine)}", markup=False)
        if len(hosts) > 10:
            self._out.print(f"   and {len(hosts) - 10} more hosts")

    def _resize(self, server: str, flavor: str, chosen: DemoPlan) -> None:
        from lamina.cli import servers

        servers.act(self._client, server, {"resize": {"flavorRef": flavor}})
        self._wait(server, "VERIFY_RESIZE")
        self._check(f"Resized to {chosen.large}: both sides are held until a word is said", chosen.held(small=2, large=1))

    def _reboot(self, server: str, chosen: DemoPlan) -> None:
        before = self._vgpus()
        host = next(v["host"] for v in before if v["server_id"] == server)
        self._client.call("fleet", "POST", f"/hosts/{host}/reboot")
        self._until(
            lambda: came_back(before, self._vgpus()) and not self._under_way(),
            lambda: f"after the reboot of {host} its servers have not come back with the same vGPUs",
        )
        for one in self._servers:
            self._wait(one, "ACTIVE")
        self._check(f"Host {host} rebooted: the same vGPUs are back, by uuid", chosen.held(small=1, large=1))

    def _under_way(self) -> bool:
        operations = self._client.call("fleet", "GET", "/operations")["operations"]
        return any(o["server_id"] in self._servers for o in operations)

    def _wait(self, server: str, status: str) -> None:
        from lamina.cli.servers import wait_for

        wait_for(self._client, server, status, seconds=SECONDS, pause=PAUSE)

    # ------------------------------------------------------------------------------------------------ checks

    def _check(self, told: str, expected: dict[str, int]) -> None:
        """Say what was done, draw what the GPUs hold, and hold records, devices and Placement against `expected`."""
        self._until(lambda: self._disagreement(expected) is None, lambda: self._disagreement(expected) or "the fleet did not settle")
        self._say(told)
        self._draw()

    def _disagreement(self, expected: dict[str, int]) -> str | None:
        vgpus = self._vgpus()
        self._touched |= {(v["host"], v["gpu"]) for v in vgpus}
        gpus = self._touched_gpus()
        paid = {}
        for gpu in gpus:
            usages = self._client.call("placement", "GET", f"/resource_providers/{gpu['provider_id']}/usages")["usages"]
            paid[gpu["provider_id"]] = usages.get(gpu["resource_class"], 0)
        return disagreement(expected, vgpus, gpus, paid)

    def _until(self, true: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        """Other users may be at work on the same GPUs between two answers, so a check is given a moment to come true."""
        deadline = time.monotonic() + SECONDS / 3
        while not true():
            if time.monotonic() > deadline:
                raise LaminaError(f"The demo found something that must not be: {otherwise()}.")
            time.sleep(PAUSE)

    def _vgpus(self) -> list[dict[str, Any]]:
        return [v for v in self._client.call("fleet", "GET", "/vgpus")["vgpus"] if v["server_id"] in self._servers]

    def _gpus(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call("fleet", "GET", "/gpus")["gpus"]
        return found

    def _touched_gpus(self) -> list[dict[str, Any]]:
        return [g for g in self._gpus() if (g["host"], g["address"]) in self._touched]

    # ------------------------------------------------------------------------------------------------ telling

    def _say(self, told: str) -> None:
        self._step += 1
        self._out.print(f"\n{self._step}. {told}", style="bold", markup=False)

    def _draw(self) -> None:
        from lamina.cli import pictures

        width = max(16, min(pictures.WIDTH, self._out.width - 40))
        self._out.print(pictures.picture(self._touched_gpus(), names=self._servers, width=width))

    # ------------------------------------------------------------------------------------------------ clearing away

    def _sweep(self) -> None:
        """Remove everything that a demo has made, this one or an interrupted one."""
        from lamina.cli.servers import delete_server

        listed = self._client.call("compute", "GET", f"/servers/detail?name={PREFIX}")["servers"]
        for server in [s for s in listed if PREFIX in s["metadata"]]:
            delete_server(self._client, server["id"], seconds=SECONDS, pause=PAUSE)
        for flavor in (f"{PREFIX}-small", f"{PREFIX}-large"):
            with contextlib.suppress(NotFound):
                self._client.call("compute", "DELETE", f"/flavors/{flavor}")
        for image in self._client.call("image", "GET", f"/v2/images?name={PREFIX}-image")["images"]:
            self._client.call("image", "DELETE", f"/v2/images/{image['id']}")
