"""A control plane on the outer machine, with the lab's machine as its one host, which dials in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.machine import Machine, free_port
from lab.stages import say
from openstack.connection import Connection

from tests.scenario.cloud import Cloud

#: how the lab's machine reaches this one (QEMU's user networking)
OUTSIDE = "10.0.2.2"
#: the host's name, and the GPUs that its settings speak of
HOST = "lab"
MDEV, SECOND_MDEV, MDEV_ON_VF, SHARED, VFIO = "0000:00:05.0", "0000:00:06.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
#: a vGPU that somebody else has made, on the GPU of that name
FOREIGN = "f0000000-0000-4000-8000-00000000000f"

TYPES = """types = [
    {name = "NVIDIA LAB-0Q", max_instances = 4, framebuffer_mb = 512},
    {name = "NVIDIA LAB-1Q", max_instances = 2, framebuffer_mb = 1024},
]"""
SETTINGS = f"""
host = "{HOST}"
shutdown_grace = 1
[gpus."{MDEV_ON_VF}"]
resource_class = "CUSTOM_ON_VF"
enable_functions = true
[gpus."{SHARED}"]
resource_class = "CUSTOM_SHARED"
enable_functions = true
[gpus."{VFIO}"]
resource_class = "CUSTOM_VFIO"
enable_functions = true
{TYPES}
[networks.public]
bridge = "br0"
"""


class Plane(Cloud):
    """`lamina api`, and the agent in the lab's machine."""

    patience = 240.0

    def __init__(self, directory: Path, machine: Machine) -> None:
        super().__init__(directory, [])
        self.machine = machine
        self._agents = free_port()

    def verb(self) -> list[str]:
        agents = f"127.0.0.1:{self._agents}"
        return ["api", "--agents", agents, "--advertise", OUTSIDE, "--service-down", "20"]

    def lamina(self, *words: str) -> str:
        """A verb of the control plane's operator."""
        command = [sys.executable, "-m", "lamina.cli.main", *words, "--state", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def doctor(self) -> list[dict[str, Any]]:
        """What the doctor finds where the control plane runs; it exits with 1 where something is wrong."""
        command = [sys.executable, "-m", "lamina.cli.main", "doctor", "--json", "--state", str(self.state)]
        found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        return found

    def enrol(self) -> None:
        """What an operator does on a new host: settings, the boot-time unit, joining, the agent."""
        begun = time.monotonic()
        self.machine.put("/etc/lamina/agent.toml", SETTINGS.encode())
        self.machine.sh("lamina restore-vgpus")
        token = next(word for word in self.lamina("fleet", "token", "create").split() if word.startswith("lamina-join-"))
        self.machine.run("lamina", "join", f"https://{OUTSIDE}:{self._agents}", "--name", HOST, stdin=token.encode())
        self.machine.sh("setsid /lab/start first >/dev/null 2>&1 </dev/null &")
        self.wait_until_up()
        say(f"lab: enrol    {time.monotonic() - begun:6.1f} s")

    def plant_foreign(self) -> None:
        self.machine.sh(f"echo {FOREIGN} >/sys/bus/pci/devices/{SHARED}/virtfn2/mdev_supported_types/nvidia-11/create")

    def wait_until_up(self) -> None:
        conn = self.connect()
        self.until(lambda: [s.state for s in conn.compute.services() if s.host == HOST] == ["up"], "the host is up")

    def settled(self, conn: Connection, server_id: str, status: str | None = None) -> Any:
        try:
            return super().settled(conn, server_id, status)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.troubles()}") from error

    def until(self, holds: Callable[[], bool], what: str, seconds: float | None = None) -> None:
        end = time.monotonic() + (seconds or self.patience)
        while not holds():
            assert time.monotonic() < end, f"not in time: {what}\n{self.troubles()}"
            time.sleep(0.5)

    def troubles(self) -> str:
        """What both sides have said of late."""
        _, inside = self.machine.do("tail", "-n", "30", "/var/log/lamina-agent.log")
        return f"--- agent\n{inside}\n--- control plane\n{self.log.read_text()[-3000:]}"

    # ------------------------------------------------------------------------------------------------ what the machine has

    def flavor(self, conn: Connection, name: str, **extra_specs: str) -> Any:
        flavor = conn.compute.create_flavor(name=name, vcpus=1, ram=64, disk=1)
        if extra_specs:
            conn.compute.create_flavor_extra_specs(flavor, {key.replace("__", ":"): value for key, value in extra_specs.items()})
        return flavor

    def mdevs(self) -> dict[str, str]:
        """uuid -> type id, as the kernel has them."""
        script = 'for d in /sys/bus/mdev/devices/*; do [ ! -e $d ] || echo "${d##*/} $(basename $(readlink $d/mdev_type))"; done'
        return dict(line.split() for line in self.machine.sh(script).split("\n") if line)

    def functions(self) -> dict[str, str]:
        """VF -> type id, of those that have one."""
        script = 'for f in /sys/bus/pci/devices/*/nvidia/current_vgpu_type; do echo "$(basename ${f%/nvidia/*}) $(cat $f)"; done'
        return {f: t for f, t in (line.split() for line in self.machine.sh(script).split("\n") if line) if t != "0"}

    def qemu(self, server_id: str) -> str:
        """The command line of a server's QEMU process, or nothing."""
        script = 'for p in $(pgrep qemu-system); do c=$(tr "\\0" " " </proc/$p/cmdline); case "$c" in *"$0"*) echo "$p $c";; esac; done'
        return self.machine.run("bash", "-uc", script, server_id).strip()

    def until_runs(self, server_id: str, *, runs: bool) -> None:
        self.until(lambda: bool(self.qemu(server_id)) == runs, f"{server_id} runs: {runs}")

    def left(self) -> dict[str, str]:
        """Everything of Lamina's that the machine has: devices, definitions, domains, disks. Empty where all is gone."""
        looks = {
            "mdevs": "ls /sys/bus/mdev/devices",
            "functions": "cat /sys/bus/pci/devices/*/nvidia/current_vgpu_type | grep -v '^0$' || true",
            "definitions": "find /etc/mdevctl.d -type f 2>/dev/null || true",
            "domains": "virsh list --all --name | grep . || true",
            "disks": "ls /var/lib/lamina/disks 2>/dev/null || true",
            "qemu": "pgrep -a qemu-system || true",
        }
        return {name: said for name, script in looks.items() if (said := self.machine.sh(script).strip())}
