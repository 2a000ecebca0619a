"""This machine as a host for real vGPUs: kernel, GPUs, libvirt, settings. Pure functions of a root directory.

None of it is needed for simulated hosts, and all of it counts on a machine that is set up as a host.
Sources: Linux, Documentation/driver-api/vfio-mediated-device.rst and
Documentation/ABI/testing/sysfs-bus-pci; NVIDIA vGPU user guide ("Creating an NVIDIA vGPU on a Linux with KVM Hypervisor").
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lamina.agent import closed, configuration
from lamina.agent.virtual_functions import SRIOV_MANAGE
from lamina.cli.checks.finding import Finding, Verdict
from lamina.model.driver_advisories import DriverTrust
from lamina.model.errors import BadRequest

NVIDIA = "0x10de"

#: where programs and udev's rules lie
_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin")
_RULES = ("usr/lib/udev/rules.d", "lib/udev/rules.d", "etc/udev/rules.d")

MayWrite = Callable[[Path], bool]


def may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def machine(root: Path, may_write: MayWrite, *, is_host: bool = False) -> list[Finding]:
    """Every check, in the order in which one would mend what they find; on a host each of them counts."""
    findings = [
        kvm(root, may_write),
        iommu(root),
        libvirt(root, may_write),
        libvirt_python(),
        mdevctl(root),
        *sriov(root),
        mdev(root),
        *driver(root),
        sysfs(root, may_write),
        *settings(root),
    ]
    return [dataclasses.replace(f, needed=True) for f in findings] if is_host else findings


def is_host(root: Path) -> bool:
    """Whether this machine is set up as a host: it has the settings of one."""
    return _at(root, configuration.DEFAULT_PATH).exists()


def _at(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _real(check: str, verdict: Verdict, told: str, mend: str | None = None) -> Finding:
    return Finding(check, verdict, told, mend, needed=False)


def kvm(root: Path, may_write: MayWrite) -> Finding:
    device = root / "dev/kvm"
    if not device.exists():
        return _real("KVM", Verdict.MISSING, "there is no /dev/kvm", "sudo modprobe -a kvm_intel kvm_amd")
    if not may_write(device):
        return _real("KVM", Verdict.PROBLEM, "/dev/kvm is not open to this user", "sudo usermod -aG kvm $USER")
    return _real("KVM", Verdict.OK, "/dev/kvm")


def iommu(root: Path) -> Finding:
    groups = len(_entries(root / "sys/kernel/iommu_groups"))
    if groups:
        return _real("IOMMU", Verdict.OK, f"{groups} groups")
    told = "the kernel has no IOMMU groups"
    return _real("IOMMU", Verdict.MISSING, told, "add intel_iommu=on (or amd_iommu=on) iommu=pt to GRUB_CMDLINE_LINUX, update-grub, reboot")


def libvirt(root: Path, may_write: MayWrite) -> Finding:
    for name in closed.SOCKETS:
        socket = root / name
        if not socket.exists():
            continue
        if not may_write(socket):
            return _real("libvirt", Verdict.PROBLEM, f"/{name} is not open to this user", "sudo usermod -aG libvirt $USER")
        if closed.is_open_to_all(socket):
            return _real("libvirt", Verdict.PROBLEM, f"/{name} is open to every user of this machine", f"sudo chmod o-rwx /{name}")
        return _real("libvirt", Verdict.OK, f"/{name}")
    if any((root / folder / daemon).exists() for folder in ("usr/sbin", "usr/bin") for daemon in ("libvirtd", "virtqemud")):
        return _real("libvirt", Verdict.MISSING, "libvirt is installed and does not run", "sudo systemctl enable --now libvirtd")
    return _real("libvirt", Verdict.MISSING, "no libvirt socket in /run/libvirt", "sudo apt install libvirt-daemon-system qemu-system-x86")


def libvirt_python() -> Finding:
    if importlib.util.find_spec("libvirt") is not None:
        return _real("libvirt-python", Verdict.OK, "installed")
    told = "Python's binding of libvirt is not installed"
    return _real("libvirt-python", Verdict.MISSING, told, "sudo apt install python3-libvirt, or pip install 'lamina[libvirt]'")


def mdevctl(root: Path) -> Finding:
    """Also what Debian's mdevctl 1.2 gets wrong: its udev rule calls it where it is not."""
    found = [folder for folder in _FOLDERS if (root / folder / "mdevctl").exists()]
    if not found:
        told = "without mdevctl libvirt makes no mediated devices, and none is made again at boot"
        return _real("mdevctl", Verdict.MISSING, told, "sudo apt install mdevctl")
    rules = [path for folder in _RULES for path in sorted((root / folder).glob("*mdevctl*.rules"))]
    called = {word.strip('"').lstrip("/") for path in rules for word in _word(path).replace("=", " ").split() if word.endswith("mdevctl")}
    broken = sorted(program for program in called if "/" in program and not (root / program).exists())
    if broken:
        told = f"its udev rule calls /{broken[0]}, which is not there: no mediated device is made again at boot"
        return _real("mdevctl", Verdict.PROBLEM, told, f"sudo ln -s /{found[0]}/mdevctl /{broken[0]}")
    return _real("mdevctl", Verdict.OK, f"/{found[0]}/mdevctl")


def mdev(root: Path) -> Finding:
    parents = _entries(root / "sys/class/mdev_bus")
    if parents:
        return _real("mdev", Verdict.OK, f"{len(parents)} devices can make mediated devices")
    if list((root / "sys/bus/pci/devices").glob("*/nvidia/current_vgpu_type")):
        return _real("mdev", Verdict.OK, "not needed: virtual functions make vGPUs here")
    told = "no device of this machine makes mediated devices"
    return _real("mdev", Verdict.MISSING, told, "install the GPU's vGPU host driver (not needed where virtual functions make vGPUs)")


def sriov(root: Path) -> Iterator[Finding]:
    """One line for each NVIDIA GPU that can have virtual functions."""
    found = False
    for device in _entries(root / "sys/bus/pci/devices"):
        total = _number(device / "sriov_totalvfs")
        if not total or not _is_nvidia(device):
            continue
        found = True
        enabled = _number(device / "sriov_numvfs") or 0
        if enabled:
            yield _real("SR-IOV", Verdict.OK, f"GPU {device.name} has {enabled} of {total} virtual functions")
        else:
            told = f"GPU {device.name} has none of its {total} virtual functions enabled"
            by_hand = f"echo {total} | sudo tee /sys/bus/pci/devices/{device.name}/sriov_numvfs"
            tool = f"sudo {SRIOV_MANAGE} -e {device.name}" if _at(root, SRIOV_MANAGE).exists() else by_hand
            yield _real("SR-IOV", Verdict.PROBLEM, told, f"{tool}  (at every boot: enable_functions in agent.toml)")
    if not found:
        mend = "nothing, unless the card needs them: see its driver's guide"
        yield _real("SR-IOV", Verdict.MISSING, "no NVIDIA GPU with virtual functions", mend)


def driver(root: Path) -> Iterator[Finding]:
    """NVIDIA's driver, where it is loaded, held against the advisories that come along."""
    version = _word(root / "sys/module/nvidia/version")[:40] or None
    told = DriverTrust().told(version)
    if told is not None:
        yield _real("driver", Verdict.PROBLEM, told, "install the newest vGPU host driver of the branch, or of a newer one")
    elif version is not None:
        yield _real("driver", Verdict.OK, f"NVIDIA {version}: no vulnerability of it is known here")


def _is_nvidia(device: Path) -> bool:
    try:
        return (device / "driver").readlink().name == "nvidia"
    except OSError:
        return _word(device / "vendor") == NVIDIA


def sysfs(root: Path, may_write: MayWrite) -> Finding:
    """Whether this user may write to the kernel's files that make vGPUs."""
    mdev_files = (root / "sys/class/mdev_bus").glob("*/mdev_supported_types/*/create")
    vf_files = (root / "sys/bus/pci/devices").glob("*/nvidia/current_vgpu_type")
    files = sorted([*mdev_files, *vf_files])
    if not files:
        return _real("sysfs", Verdict.MISSING, "the kernel has no file that makes a vGPU", "install the GPU's vGPU host driver")
    closed = [path for path in files if not may_write(path)]
    if closed:
        told = f"{len(closed)} of {len(files)} files that make vGPUs are closed to this user"
        return _real("sysfs", Verdict.PROBLEM, told, "run Lamina's host service as root")
    return _real("sysfs", Verdict.OK, f"{len(files)} files that make vGPUs may be written to")


def settings(root: Path) -> Iterator[Finding]:
    """``agent.toml``, and whether the networks it names are there."""
    path = _at(root, configuration.DEFAULT_PATH)
    try:
        known = configuration.load(path if path.exists() else None)
    except BadRequest as error:
        yield _real("settings", Verdict.PROBLEM, error.message, f"edit {configuration.DEFAULT_PATH}")
        return
    told = f"{configuration.DEFAULT_PATH}" if path.exists() else "no agent.toml: every type that the kernel offers is enabled"
    yield _real("settings", Verdict.OK, told)
    for network in known.networks:
        if network.bridge is not None and not (root / "sys/class/net" / network.bridge / "bridge").exists():
            told = f"network {network.name}: there is no bridge {network.bridge}"
            yield _real("network", Verdict.PROBLEM, told, f"sudo ip link add {network.bridge} type bridge")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    word = _word(path)
    return int(word) if word.isascii() and word.isdecimal() else None
