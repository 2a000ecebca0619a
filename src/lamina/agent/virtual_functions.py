"""Enabling a GPU's virtual functions, which no kernel remembers over a reboot.

Sources: Linux, Documentation/PCI/pci-iov-howto.rst (``sriov_numvfs``); NVIDIA vGPU user guide (``sriov-manage``: raw writes
are rejected by NVIDIA's driver). The tool may end well although the functions did not appear, and may be refused while a
management client holds the GPU; so what counts is what can be seen afterwards.
"""

from __future__ import annotations

from pathlib import Path

from lamina.agent.commands import Command
from lamina.agent.frameworks.framework import (
    PCI,
    driver_of,
    has_virtual_functions,
    optional,
    parse_addresses,
    pci_file,
    virtual_functions,
    why,
)
from lamina.agent.sysfs import Sysfs, join
from lamina.model import catalog
from lamina.model.clock import Clock
from lamina.model.errors import DeviceMissing, DeviceRefused, HostError
from lamina.model.ids import PciAddress

SRIOV_MANAGE = Path("/usr/lib/nvidia/sriov-manage")
#: tries, and seconds between them
TRIES = 30
PAUSE = 1.0


def enable(sysfs: Sysfs, clock: Clock, run: Command, address: PciAddress, *, tool: Path = SRIOV_MANAGE) -> None:
    """Enable all virtual functions of a GPU that has none enabled; with some enabled, vGPUs may stand on them: nothing is touched.

    Raises `DeviceMissing` where the GPU cannot have any, `DeviceRefused` where they do not appear.
    """
    folder = join(PCI, str(address))
    total = _total(sysfs, address)
    if not total:
        raise DeviceMissing(f"GPU {address} has no virtual functions that could be enabled.")
    for left in reversed(range(TRIES)):
        try:
            if virtual_functions(sysfs, address):
                return
            if tool.exists() and driver_of(sysfs, address)[0] == "nvidia":
                run((str(tool), "-e", str(address)))
            else:
                sysfs.write(join(folder, "sriov_numvfs"), str(total))
            if virtual_functions(sysfs, address):
                return
            said, number = "they did not appear", 0
        except OSError as error:
            said, number = why(error), error.errno or 0
        except HostError as error:
            said, number = error.message, 0
        if left:
            clock.sleep(PAUSE)
    raise DeviceRefused(f"The virtual functions of GPU {address} could not be enabled: {said}", number)


def off(sysfs: Sysfs) -> list[tuple[PciAddress, int]]:
    """NVIDIA's GPUs with none of their virtual functions enabled, and how many each can have. Raises OSError."""
    found = []
    for address in parse_addresses(optional(lambda: sysfs.list(PCI), [])):
        try:
            total = _total(sysfs, address)
            if total and _is_nvidia(sysfs, address) and not has_virtual_functions(sysfs, address):
                found.append((address, total))
        except (OSError, ValueError):
            continue  # one that has just gone, which the frameworks tell of
    return found


def _total(sysfs: Sysfs, address: PciAddress) -> int:
    return int(optional(lambda: pci_file(sysfs, address, "sriov_totalvfs"), "0"))


def _is_nvidia(sysfs: Sysfs, address: PciAddress) -> bool:
    """By its vendor or by its driver: NVIDIA's network cards have functions of another driver."""
    driver = driver_of(sysfs, address)[0]
    return driver == "nvidia" or (driver is None and pci_file(sysfs, address, "vendor") == f"0x{catalog.NVIDIA}")
