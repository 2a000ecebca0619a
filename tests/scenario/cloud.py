"""A Lamina of one's own for a scenario: a fleet file, a process, and a user with openstacksdk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import yaml
from openstack.connection import Connection

START_SECONDS = 30
TYPES = [
    {"name": "nvidia-11", "max_instances": 16, "framebuffer_mb": 512},
    {"name": "nvidia-12", "max_instances": 8, "framebuffer_mb": 1024},
]


def gpu(
    address: str, framework: str, *, enabled: list[str] | None = None, types: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    """One GPU of a fleet file, a card given by hand."""
    return {"address": address, "framework": framework, "types": types or TYPES, "enabled_types": enabled or ["nvidia-11"], **more}


def host(name: str, *gpus: dict[str, Any], networks: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    size = {"vcpus": 32, "memory_mb": 131072, "disk_gb": 2000}
    return {"name": name, **size, "gpus": list(gpus), "networks": list(networks), **more}


class Cloud:
    """A running Lamina, and what a user and an operator do with it."""

    #: seconds that anything may take
    patience = 20.0

    def __init__(self, directory: Path, hosts: list[dict[str, Any]], *options: str) -> None:
        self.state = directory / "state"
        self.log = directory / "log"
        self.fleet_file = directory / "fleet.yaml"
        self.fleet_file.write_text(yaml.safe_dump({"hosts": hosts}))
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    # ------------------------------------------------------------------------------------------------ the process

    def verb(self) -> list[str]:
        """What is run, without where it keeps its state and where it listens."""
        return ["up", "--fleet", str(self.fleet_file), *self.options]

    def start(self) -> None:
        command = [sys.executable, "-m", "lamina.cli.main", *self.verb(), "--state", str(self.state)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"lamina said {line!r}:\n{self.log.read_text()}"
        self.url = line.split()[1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(START_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def restart(self, how: signal.Signals) -> None:
        self.stop(how)
        self.start()

    def connect(self, name: str = "lamina") -> Connection:
        loader = openstack.config.OpenStackConfig(config_files=[str(self.state / "clouds.yaml")])
        return Connection(config=loader.get_one(name))

    # ------------------------------------------------------------------------------------------------ what a user does

    def flavor(self, conn: Connection, name: str, **extra_specs: str) -> Any:
        flavor = conn.compute.create_flavor(name=name, vcpus=1, ram=512, disk=1)
        if extra_specs:
            conn.compute.create_flavor_extra_specs(flavor, {key.replace("__", ":"): value for key, value in extra_specs.items()})
        return flavor

    def image(self, conn: Connection) -> Any:
        found = conn.image.find_image("img")
        return found or conn.image.create_image(
            name="img", disk_format="raw", container_format="bare", data=b"\0" * 4096, validate_checksum=False
        )

    def server(self, conn: Connection, name: str, flavor: Any, *, wait: bool = True, **more: Any) -> Any:
        wanted = {"networks": "none"} | more
        made = conn.compute.create_server(name=name, flavor_id=flavor.id, image_id=self.image(conn).id, **wanted)
        return self.settled(conn, made.id) if wait else made

    def settled(self, conn: Connection, server_id: str, status: str | None = None) -> Any:
        """The server once nothing is being done to it; with a status, once it has that."""

        def done(server: Any) -> bool:
            if status is not None:
                return bool(server.status == status)
            return server.task_state is None and server.status != "BUILD"

        return eventually(lambda: conn.compute.get_server(server_id), done, self.patience)

    def delete(self, conn: Connection, server_id: str) -> None:
        conn.compute.delete_server(server_id)
        eventually(lambda: [s.id for s in conn.compute.servers(details=False)], lambda ids: server_id not in ids, self.patience)

    def resize(self, conn: Connection, server_id: str, flavor: Any) -> Any:
        conn.compute.resize_server(server_id, flavor.id)
        return self.settled(conn, server_id)

    # ------------------------------------------------------------------------------------------------ what an operator sees

    def fleet(self, conn: Connection, path: str) -> Any:
        return conn.session.get(f"{self.url}/fleet/v1{path}").json()

    def devices(self, conn: Connection, host_name: str) -> list[dict[str, Any]]:
        """The vGPUs that the host really has, as its compute service reads them from the kernel's files."""
        return [v for v in self.fleet(conn, f"/vgpus?host={host_name}")["vgpus"] if v["on_host"]]

    def placement(self, conn: Connection, path: str) -> Any:
        answer = conn.session.get(f"{self.url}/placement{path}", headers={"OpenStack-API-Version": "placement 1.39"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def providers(self, conn: Connection, host_name: str) -> dict[str, str]:
        """Name -> uuid of the GPU providers of a host."""
        found = self.placement(conn, "/resource_providers")["resource_providers"]
        return {p["name"]: p["uuid"] for p in found if p["name"].startswith(f"{host_name}_pci_")}

    def usage(self, conn: Connection, host_name: str, resource_class: str = "VGPU") -> int:
        """How much of a class Placement says is used on a host's GPUs."""
        usages = (self.placement(conn, f"/resource_providers/{uuid}/usages")["usages"] for uuid in self.providers(conn, host_name).values())
        return sum(usage.get(resource_class, 0) for usage in usages)

    def inventory(self, conn: Connection, provider_id: str, resource_class: str = "VGPU") -> Any:
        return self.placement(conn, f"/resource_providers/{provider_id}/inventories")["inventories"].get(resource_class)

    def counts(self, conn: Connection, host_name: str, resource_class: str = "VGPU") -> int:
        """How many vGPUs a host has: Placement's usage, the devices and the records must all agree."""
        used, devices = self.usage(conn, host_name, resource_class), self.devices(conn, host_name)
        of_class = [d for d in devices if d["gpu"] in self._gpus_of_class(conn, host_name, resource_class)]
        assert used == len(of_class), f"Placement says {used}, the host has {of_class}"
        recorded = self.fleet(conn, f"/vgpus?host={host_name}")["vgpus"]
        assert all(v["on_host"] and v["state"] in ("present", "attached") for v in recorded), recorded
        return used

    def _gpus_of_class(self, conn: Connection, host_name: str, resource_class: str) -> set[str]:
        gpus = self.fleet(conn, f"/gpus?host={host_name}")["gpus"]
        return {g["address"] for g in gpus if g["resource_class"] == resource_class}


def eventually(look: Any, done: Any, seconds: float = 20.0) -> Any:
    """What `look` returns once `done` says so of it."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if done(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.02)


@contextlib.contextmanager
def running(cloud: Cloud) -> Iterator[Cloud]:
    """The cloud while it runs; it has to stop cleanly."""
    cloud.start()
    try:
        yield cloud
    finally:
        if cloud.process is not None:
            assert cloud.stop() == 0, "lamina did not stop cleanly"


@contextlib.contextmanager
def cloud_of(directory: Path, hosts: list[dict[str, Any]], *options: str) -> Iterator[Cloud]:
    with running(Cloud(directory, hosts, *options)) as cloud:
        yield cloud


# a developer's own cloud must not be what the scenarios talk to
for _name in [name for name in os.environ if name.startswith("OS_")]:
    del os.environ[_name]
