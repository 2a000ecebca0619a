"""A real host: the compute service on this machine's kernel and libvirt."""

from __future__ import annotations

import shutil
from pathlib import Path

from lamina.agent.boards import Nvml
from lamina.agent.commands import run
from lamina.agent.compute import ComputeService
from lamina.agent.configuration import Configuration
from lamina.agent.definitions import Mdevctl
from lamina.agent.depot import Depot
from lamina.agent.hypervisors.libvirt import LibvirtHypervisor
from lamina.agent.images import Images
from lamina.agent.journal import Journal
from lamina.agent.sysfs import LocalSysfs
from lamina.model.clock import Clock


def real_host(known: Configuration, state: Path, clock: Clock, images: Images, depot: Depot | None = None) -> ComputeService:
    """This machine's compute service; its journal, images and disks lie below `state`. libvirt is not asked yet.

    Raises `Conflict` for a damaged journal.
    """
    (state / "agents").mkdir(mode=0o700, parents=True, exist_ok=True)
    return ComputeService(
        known.host,
        LocalSysfs(),
        LibvirtHypervisor(known, state, images, clock),
        Journal(state / "agents" / f"{known.host}.json"),
        known.settings,
        clock,
        # without mdevctl nothing is made at boot but by `lamina restore-vgpus`
        Mdevctl(run) if shutil.which("mdevctl") else None,
        Nvml(),
        depot,
    )
