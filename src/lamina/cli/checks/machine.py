"""This machine as a host for real vGPUs: kernel, GPUs, libvirt. Pure functions of a root directory.

None of it is needed for simulated hosts. Sources: Linux, Documentation/driver-api/vfio-mediated-device.rst and
Documentation/ABI/testing/sysfs-bus-pci; NVIDIA vGPU user guide ("Creating an NVIDIA vGPU on a Linux with KVM Hypervisor").
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lamina.cli.checks.finding import Finding, Verdict

NVIDIA = "0x10de"

MayWrite = Callable[[Path], bool]


def may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


def machine(root: Path, may_write: MayWrite) -> list[Finding]:
    """Every check, in the order in which one would mend what they find."""
    return [kvm(root, may_write), iommu(root), libvirt(root), mdevctl(root), mdev(root), *sriov(root), sysfs(root, may_write)]


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


def libvirt(root: Path) -> Finding:
    for socket in ("run/libvirt/virtqemud-sock", "run/libvirt/libvirt-sock"):
        if (root / socket).exists():
            return _real("libvirt", Verdict.OK, f"/{socket}")
    return _real("libvirt", Verdict.MISSING, "no libvirt socket in /run/libvirt", "sudo apt install libvirt-daemon-system qemu-system-x86")


def mdevctl(root: Path) -> Finding:
    for folder in ("usr/sbin", "usr/bin", "sbin", "bin", "usr/local/sbin", "usr/local/bin"):
        if (root / folder / "mdevctl").exists():
            return _real("mdevctl", Verdict.OK, f"/{folder}/mdevctl")
    return _real("mdevctl", Verdict.MISSING, "libvirt lists mediated devices only with mdevctl", "sudo apt install mdevctl")


def mdev(root: Path) -> Finding:
    parents = _entries(root / "sys/class/mdev_bus")
    if parents:
        return _real("mdev", Verdict.OK, f"{len(parents)} devices can make mediated devices")
    told = "no device of this machine makes mediated devices"
    return _real("mdev", Verdict.MISSING, told, "install the GPU's vGPU host driver (not needed where virtual functions make vGPUs)")


def sriov(root: Path) -> Iterator[Finding]:
    """One line for each NVIDIA GPU that can have virtual functions."""
    found = False
    for device in _entries(root / "sys/bus/pci/devices"):
        total = _number(device / "sriov_totalvfs")
        if _word(device / "vendor") != NVIDIA or not total:
            continue
        found = True
        enabled = _number(device / "sriov_numvfs") or 0
        if enabled:
            yield _real("SR-IOV", Verdict.OK, f"GPU {device.name} has {enabled} of {total} virtual functions")
        else:
            told = f"GPU {device.name} has none of its {total} virtual functions enabled"
            yield _real("SR-IOV", Verdict.PROBLEM, told, f"sudo /usr/lib/nvidia/sriov-manage -e {device.name}")
    if not found:
        yield _real("SR-IOV", Verdict.MISSING, "no NVIDIA GPU with virtual functions")


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


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    word = _word(path)
    return int(word) if word.isascii() and word.isdecimal() else None
