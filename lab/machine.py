"""The lab's machine: QEMU's software emulation of a host with four kinds of GPU that are none.

Every run begins with a fresh disk over the built one; a reboot goes on with it, as a real machine does with its own. Only loopback ports
are opened, and only processes that were started here are ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shlex
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab.stages import PROJECT, Lab, run, say

#: how long a boot may take, and any one command; software emulation on a busy machine is slow
BOOT_PATIENCE = 300.0
PATIENCE = 900.0
#: the port on which the guest takes commands
COMMANDS = 5555

#: QEMU devices that our module makes GPUs of: two without virtual functions, two with, and two whose functions have the vendor's own files
GPUS = (
    "-device edu,addr=0x5",
    "-device edu,addr=0x6",
    *(
        f"-device pcie-root-port,id=port{n},slot={n},chassis={n},addr={hex(0x10 + n)} -device nvme-subsys,id=subsys{n} "
        f"-device nvme,serial=lab{n},subsys=subsys{n},bus=port{n},sriov_max_vfs=6,sriov_vq_flexible=12,sriov_vi_flexible=6"
        for n in (1, 2, 3, 4)
    ),
)
#: the physical functions, in the order of `GPUS`
MDEV = ("0000:00:05.0", "0000:00:06.0")
MDEV_ON_VF = ("0000:01:00.0", "0000:02:00.0")
VFIO = ("0000:03:00.0", "0000:04:00.0")

class Failed(Exception):
    """A command ended with another exit code than 0, or the machine did not do what it should."""

@dataclasses.dataclass
class Machine:
    """One machine; `folder` has its disk, its console and its log."""

    lab: Lab
    folder: Path
    memory_mb: int = 3072
    _process: subprocess.Popen[bytes] | None = None
    _port: int = 0

    @property
    def disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def new_disk(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.disk.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self.lab.disk.resolve(), self.disk)

    def boot(self) -> None:
        """Switch it on and wait until it takes commands; once more where the emulation stood still meanwhile. Raises `Failed`."""
        try:
            self._boot()
        except Failed:
            if not self._says("soft lockup"):
                raise
            say("lab: a processor of the emulated machine stood still; it is switched on anew")
            self.cut()
            self._boot()

    def _boot(self) -> None:
        begun = time.monotonic()
        self.console.unlink(missing_ok=True)
        self._port = free_port()
        gpus = [word for gpu in GPUS for word in shlex.split(gpu)]
        kernel = f"console=ttyS0 quiet mitigations=off nokaslr audit=0 panic=1 lab.vendor_vfio={','.join(VFIO)}"
        argv = [
            *shlex.split("qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu Nehalem,+avx -smp 2"),
            *("-nodefaults", "-nographic", "-no-reboot", "-monitor", "none", "-serial", f"file:{self.console}"),
            *("-m", str(self.memory_mb), "-kernel", str(self.lab.kernel), "-initrd", str(self.lab.initrd), "-append", kernel),
            *("-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe"),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self._port}-:{COMMANDS}"),
            *gpus,
        ]
        log = (self.folder / "qemu.log").open("wb")
        with log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self._says("READY"):
            if self._process.poll() is not None:
                raise Failed(f"QEMU ended with {self._process.returncode}: {(self.folder / 'qemu.log').read_text()[-2000:]}")
            if time.monotonic() - begun > BOOT_PATIENCE:
                raise Failed(f"The machine did not come up: {self.console.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)
        self.run("true")
        say(f"lab: {'boot':<8} {time.monotonic() - begun:6.1f} s")

    def _says(self, word: str) -> bool:
        return self.console.exists() and word in self.console.read_text(errors="replace")

    def do(self, *argv: str, stdin: bytes = b"", patience: float = PATIENCE) -> tuple[int, str]:
        """Run a program inside: its exit code and what it printed."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=patience) as connection:
            connection.sendall(json.dumps({"argv": argv, "stdin": len(stdin)}).encode() + b"\n" + stdin)
            said = b""
            while piece := connection.recv(1 << 16):
                said += piece
        output, _, code = said.rpartition(b"\n")
        if not code:
            raise Failed(f"The machine broke off: {' '.join(argv)}")
        return int(code), output.decode(errors="replace")

    def run(self, *argv: str, stdin: bytes = b"", patience: float = PATIENCE) -> str:
        """What a program inside printed. Raises `Failed` where it fails."""
        code, output = self.do(*argv, stdin=stdin, patience=patience)
        if code:
            raise Failed(f"{' '.join(argv)} failed with {code}:\n{output[-4000:]}")
        return output

    def sh(self, script: str, patience: float = PATIENCE) -> str:
        return self.run("bash", "-euc", script, patience=patience)

    def put(self, path: str, content: bytes, mode: str = "644") -> None:
        self.run("bash", "-euc", f'mkdir -p "$(dirname "$0")"; cat >"$0"; chmod {mode} "$0"', path, stdin=content)

    def put_tree(self, path: str, *files: Path) -> None:
        """Have these files and folders of the checkout below `path`, and nothing else."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for file in files:
                archive.add(file, file.relative_to(PROJECT), filter=lambda member: None if "__pycache__" in member.name else member)
        self.run("bash", "-euc", 'rm -rf "$0"; mkdir -p "$0"; tar -x -m -C "$0"', path, stdin=packed.getvalue())

    def wait_for(self, script: str, patience: float = 120.0) -> str:
        """What `script` prints once it ends well. Raises `Failed` where that takes too long."""
        end = time.monotonic() + patience
        while True:
            code, output = self.do("bash", "-euc", script)
            if code == 0:
                return output
            if time.monotonic() > end:
                raise Failed(f"It did not come to be within {patience:.0f} s: {script}\n{output[-2000:]}")
            time.sleep(1)

    def cut(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reboot(self, *, orderly: bool = True) -> None:
        if orderly:
            self.sh("sync")
        self.cut()
        self.boot()

def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port

@contextlib.contextmanager
def machine(lab: Lab, folder: Path) -> Iterator[Machine]:
    """A machine with a fresh disk, up for as long as the context lasts."""
    one = Machine(lab, folder)
    one.new_disk()
    try:
        one.boot()
        yield one
    finally:
        one.cut()
