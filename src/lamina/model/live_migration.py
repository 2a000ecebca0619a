"""Which hypervisors can move a running domain, vGPUs and all, and between which of them. Pure.

Source: libvirt, "NEWS" 8.6.0 and QEMU, docs/devel/migration/vfio.rst for VFIO devices; nova/virt/libvirt/driver.py,
MIN_MDEV_LIVEMIG_LIBVIRT_VERSION and MIN_MDEV_LIVEMIG_QEMU_VERSION. Versions are major * 1000000 + minor * 1000 + release.
"""

from __future__ import annotations

LEAST_QEMU = 8_001_000
LEAST_LIBVIRT = 8_006_000


def why_not(*, hypervisor: int, libvirt: int, vgpus: bool) -> str | None:
    """Why a host cannot send or receive a running domain, or None. ``libvirt`` is 0 where there is none in between."""
    if not vgpus:
        return None
    for name, version, least in (("hypervisor", hypervisor, LEAST_QEMU), ("libvirt", libvirt or LEAST_LIBVIRT, LEAST_LIBVIRT)):
        if version < least:
            return f"its {name} is {told(version)}, and vGPUs can be moved while they are in use from {told(least)} on"
    return None


def can_follow(source: tuple[str, int], target: tuple[str, int]) -> bool:
    """Whether a domain of the source's hypervisor (its type and version) can go on in the target's: newer understands older."""
    return source[0] == target[0] and source[1] <= target[1]


def told(version: int) -> str:
    """``8.1.0``."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
