"""libvirt: domains of QEMU on this machine.

A domain is always started from its persistent definition, and a changed definition takes effect by switching the domain off and on; so what
runs and what is defined never differ, but that a suspended domain goes on as it was, without its vGPUs, and is given them then.
Everything may be repeated after a crash at any point: the disk is there or is made, the definition is the wanted one or is
replaced, the domain runs or is started.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import libvirt

from lamina.agent.configuration import Configuration, HostNetwork
from lamina.agent.hypervisor import Capacity, Device
from lamina.agent.hypervisors import config_drive, domain_xml
from lamina.agent.hypervisors.disks import GIB, Disks
from lamina.agent.hypervisors.domain_xml import Described, Frame
from lamina.agent.hypervisors.libvirt_connection import Connection, said, unless_gone, unless_off
from lamina.agent.hypervisors.libvirt_moves import Moves
from lamina.agent.images import Images
from lamina.agent.sysfs import LocalSysfs, Sysfs
from lamina.model import live_migration
from lamina.model.clock import Clock
from lamina.model.errors import DeviceMissing, HypervisorError
from lamina.model.hosts import Console, DomainReport, DomainSpec, Landing, PowerAction, PowerState, Transfer

#: seconds that a start may take: with VFIO all of a guest's memory is pinned first
START = 300.0
#: seconds that writing a guest's memory to disk may take
SAVE = 3600.0
#: seconds that a guest has to let its devices go
LET_GO = 60.0
#: seconds between two looks at a domain that shuts down, or lets a device go
LOOK = 0.5
#: most of a console's log that is given out, in bytes
MOST_CONSOLE = 1 << 20

_POWER = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.PAUSED,  # asleep by the guest's own will, with its devices in its hands
}

Domain: TypeAlias = libvirt.virDomain


class LibvirtHypervisor:
    """The `Hypervisor` port on this machine's libvirt. Thread-safe for different servers."""

    def __init__(self, known: Configuration, state: Path, images: Images, clock: Clock, sysfs: Sysfs | None = None) -> None:
        """libvirt is not asked before it is needed."""
        self._known = known
        self._state = state
        self._clock = clock
        self._sysfs = sysfs or LocalSysfs()
        self._connection = Connection(known.libvirt_uri)
        self._disks = Disks(state, images)
        self._moves = Moves(self._connection, known.migration_transport)

    # ------------------------------------------------------------------------------------------------ the host

    def boot_id(self) -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()

    def capacity(self) -> Capacity:
        """Raises `HostUnreachable` where libvirt does not answer."""
        (_, memory_mb, cpus, *_), version, own = self._connection.ask(
            "tell of its host", lambda c: (c.getInfo(), c.getVersion(), c.getLibVersion())
        )
        disk = os.statvfs(self._state)
        networks = tuple(sorted(self._networks()))
        return Capacity(cpus, memory_mb, disk.f_blocks * disk.f_frsize // GIB, "QEMU", version, networks, own)

    def _networks(self) -> dict[str, tuple[str, str]]:
        """Those of the settings that are there now: name -> (kind of the interface, the host's name for it)."""
        active = frozenset[str]()
        if any(network.libvirt for network in self._known.networks):
            listed = self._connection.ask("list its networks", lambda c: c.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE))
            active = frozenset(network.name() for network in listed)
        return {network.name: how for network in self._known.networks if (how := self._reached(network, active)) is not None}

    def _reached(self, network: HostNetwork, active: frozenset[str]) -> tuple[str, str] | None:
        if network.bridge is not None:
            return ("bridge", network.bridge) if self._sysfs.exists(f"/sys/class/net/{network.bridge}/bridge") else None
        return ("network", network.libvirt or "") if network.libvirt in active else None

    def watch(self, changed: Callable[[], None]) -> None:
        self._connection.watch(changed)

    # ------------------------------------------------------------------------------------------------ looking

    def domains(self) -> list[DomainReport]:
        return self._connection.ask("list its domains", lambda c: sorted(_reports(c.listAllDomains()), key=lambda r: r.uuid))

    def console_output(self, server_id: str, lines: int | None) -> str:
        self._ours(server_id)
        try:
            handle = os.open(self._disks.console_log(server_id), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise HypervisorError(f"The console of server {server_id} cannot be read: {error.strerror}.") from error
        with os.fdopen(handle, "rb") as file:
            file.seek(max(0, os.fstat(handle).st_size - MOST_CONSOLE))
            text = file.read(MOST_CONSOLE).decode(errors="replace")
        kept = text.splitlines(keepends=True)
        return "".join(kept if lines is None else kept[len(kept) - min(lines, len(kept)) :])

    def console(self, server_id: str) -> Console | None:
        domain, _ = self._ours(server_id)
        return self._connection.ask("describe a domain", lambda _: domain_xml.read(domain.XMLDesc()).console if domain.isActive() else None)

    def _find(self, server_id: str) -> tuple[Domain, Described] | None:
        """The domain and its persistent definition, or None where there is none. Raises `HypervisorError` for another's."""

        def look(connection: libvirt.virConnect) -> tuple[Domain, Described] | None:
            try:
                domain = connection.lookupByUUIDString(server_id)
                return domain, domain_xml.read(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise

        found = self._connection.ask("look for a domain", look)
        if found is not None and not found[1].ours:
            raise HypervisorError(f"The domain {server_id} is not Lamina's.")
        return found

    def _ours(self, server_id: str) -> tuple[Domain, Described]:
        found = self._find(server_id)
        if found is None:
            raise HypervisorError(f"There is no domain of server {server_id}.")
        return found

    # ------------------------------------------------------------------------------------------------ making

    def ensure(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        found = self._find(spec.server_id)
        absent = sorted({nic.network for nic in spec.nics} - self._networks().keys()) if spec.nics else []
        if absent:
            raise HypervisorError(f"This host has no network {absent[0]!r}.")
        xml = domain_xml.definition(spec, devices, self._frame(spec, devices))
        wanted = domain_xml.read(xml)
        if found is None or (found[1].digest, found[1].handles) != (wanted.digest, wanted.handles):
            if found is not None:
                self._destroy(found[0])
            self._make_files(spec)
            domain = self._define(xml)
        else:
            domain = found[0]
        if not spec.running:
            self._destroy(domain)
        else:
            self._run(domain, wanted)
        return self._report(domain)

    def _define(self, xml: str) -> Domain:
        return self._connection.ask("define a domain", lambda c: c.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE))

    def _make_files(self, spec: DomainSpec) -> None:
        """Disk and config drive. The domain is shut off."""
        self._disks.ensure(spec)
        if spec.config_drive is not None:
            try:
                config_drive.write(self._disks.config_drive(spec.server_id), spec.config_drive)
            except OSError as error:
                raise HypervisorError(f"The config drive of server {spec.server_id} cannot be made: {error.strerror}.") from error

    def _frame(self, spec: DomainSpec, devices: Sequence[Device]) -> Frame:
        disk = self._disks.disk(spec.server_id)
        has_disk = spec.image is not None or spec.disk_gb or disk.exists()
        return Frame(
            virt_type=self._virt_type(),
            networks=self._networks() if spec.nics else {},
            console_log=self._disks.console_log(spec.server_id),
            disk=disk if has_disk else None,
            rescue_disk=self._disks.rescue_disk(spec.server_id) if spec.rescue is not None else None,
            config_drive=self._disks.config_drive(spec.server_id) if spec.config_drive is not None else None,
            vnc=self._known.vnc,
            numa=self._numa(devices),
        )

    def _virt_type(self) -> str:
        def look(connection: libvirt.virConnect) -> str:
            try:
                connection.getDomainCapabilities(None, "x86_64", None, "kvm")
            except libvirt.libvirtError:
                return "qemu"
            return "kvm"

        return self._connection.ask("tell of its kinds of domain", look)

    def _numa(self, devices: Sequence[Device]) -> tuple[int, str] | None:
        """The node of all the devices, and its CPUs; None where they are on several, or where the machine has one only."""
        nodes = {device.numa_node for device in devices}
        if len(nodes) != 1 or None in nodes or not self._sysfs.exists("/sys/devices/system/node/node1"):
            return None
        (node,) = nodes
        try:
            return (node, self._sysfs.read(f"/sys/devices/system/node/node{node}/cpulist").strip()) if node is not None else None
        except OSError:
            return None

    def remove(self, server_id: str) -> None:
        try:
            found = self._find(server_id)
        except HypervisorError:
            if any(report.uuid == server_id and report.server_id is None for report in self.domains()):
                return
            raise
        if found is not None:
            self._destroy(found[0])
            flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            self._connection.ask("undefine a domain", lambda _: unless_gone(lambda: found[0].undefineFlags(flags)))
        self._disks.remove(server_id)

    def renew_disk(self, spec: DomainSpec) -> None:
        domain, _ = self._ours(spec.server_id)
        if not self._power(domain).is_off:
            raise HypervisorError(f"The disk of server {spec.server_id} is in use by its running domain.")
        self._disks.renew(spec)
        self._make_files(spec)

    def pack_disk(self, server_id: str) -> AbstractContextManager[Path | None]:
        found = self._find(server_id)
        if found is None or self._power(found[0]).is_off:
            return self._disks.packed(server_id)
        return self._disks.copied(server_id, partial(self._copy_disk, found[0]))

    def _copy_disk(self, domain: Domain, into: Path) -> None:
        """A running domain's disk as it is at one moment, by QEMU itself: nobody else may read what it has open."""
        xml = domain_xml.backup(domain_xml.own_disks(self._connection.ask("describe a domain", lambda _: domain.XMLDesc())), into)
        self._connection.ask("begin to copy a disk", lambda _: domain.backupBegin(xml, None))

        def look(_: libvirt.virConnect) -> tuple[int, int]:
            running = domain.jobInfo()[0]  # first: how a job ended is told only once it has
            ended = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)
            return running, ended.get("type", libvirt.VIR_DOMAIN_JOB_NONE)

        while (state := self._connection.ask("tell of a domain's job", look))[0] != libvirt.VIR_DOMAIN_JOB_NONE:
            time.sleep(LOOK)
        if state[1] != libvirt.VIR_DOMAIN_JOB_COMPLETED:
            raise HypervisorError("libvirt did not copy the disk to its end.")

    def place_disk(self, server_id: str) -> AbstractContextManager[Path]:
        if self._find(server_id) is not None:
            raise HypervisorError(f"The server {server_id} has a domain here, and so a disk.")
        return self._disks.placed(server_id)

    # ------------------------------------------------------------------------------------------------ power

    def set_power(self, server_id: str, action: PowerAction) -> DomainReport:
        domain, described = self._ours(server_id)
        if action is PowerAction.PAUSE:
            self._pause(domain)
        elif action is PowerAction.UNPAUSE:
            self._unpause(domain)
        else:
            if action in (PowerAction.OFF, PowerAction.SOFT_REBOOT):
                self._shut_down(domain)
            if action is not PowerAction.ON:
                self._destroy(domain)
                self._forget_memory(domain)
            if action is not PowerAction.OFF:
                self._run(domain, described)
        return self._report(domain)

    def _power(self, domain: Domain) -> PowerState:
        return self._connection.ask("tell a domain's state", lambda _: _power_of(domain))

    def _run(self, domain: Domain, described: Described) -> None:
        """From wherever it is: a paused one goes on, one that is off begins anew."""
        power = self._power(domain)
        if power is PowerState.PAUSED:
            self._unpause(domain)
        elif power is not PowerState.RUNNING:
            self._forget_memory(domain)
            self._start(domain, described)

    def _pause(self, domain: Domain) -> None:
        if self._power(domain) is not PowerState.PAUSED:
            self._connection.ask("pause a domain", lambda _: domain.suspend())

    def _unpause(self, domain: Domain) -> None:
        if self._power(domain) is not PowerState.RUNNING:
            self._connection.ask("let a paused domain go on", lambda _: domain.resume())

    def _forget_memory(self, domain: Domain) -> None:
        """A start would go on from it, without the vGPUs."""

        def forget(_: libvirt.virConnect) -> None:
            if domain.hasManagedSaveImage():
                domain.managedSaveRemove()

        self._connection.ask("forget a domain's memory", forget)

    # ------------------------------------------------------------------------------------------------ memory on disk

    def suspend(self, server_id: str) -> DomainReport:
        domain, _ = self._ours(server_id)
        if self._power(domain) is not PowerState.SUSPENDED:
            self._detach(domain)
            self._connection.ask("save a domain's memory", lambda _: domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING), SAVE)
        return self._report(domain)

    def fit(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        domain, _ = self._ours(spec.server_id)
        power, wanted = self._power(domain), {device.handle: device for device in devices}
        if power is PowerState.SUSPENDED:
            raise HypervisorError(f"The domain {spec.name} is suspended, and keeps the devices that it has.")
        if not power.is_off:
            for handle in wanted.keys() - self._attached(domain).keys():  # before anything is taken away
                self._must_exist(spec.name, wanted[handle].uuid, handle)
            self._detach(domain, keep=wanted.keys())
            there = self._attached(domain)
            free = (number for number in itertools.count() if f"ua-vgpu-{number}" not in "".join(there.values()))
            for handle in wanted.keys() - there.keys():
                self._attach(domain, domain_xml.hostdev(wanted[handle], next(free)), wanted[handle])
        # in force with its next start
        return self._report(self._define(domain_xml.definition(spec, devices, self._frame(spec, devices))))

    def _detach(self, domain: Domain, keep: Set[str] = frozenset()) -> None:
        """Take vGPUs from a running domain, all but those of these handles: each is asked for, and is gone once the guest has let it go."""
        asked = [xml for handle, xml in self._attached(domain).items() if handle not in keep]
        if asked:
            self._unpause(domain)  # a guest that stands still lets nothing go

        def ask_for_all(_: libvirt.virConnect) -> None:
            for xml in asked:
                domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

        self._connection.ask("take a domain's vGPUs", ask_for_all)
        end = self._clock.now() + LET_GO
        while left := self._attached(domain).keys() - keep:
            if self._clock.now() >= end:
                raise HypervisorError(f"The guest does not let its vGPU {sorted(left)[0]} go.")
            time.sleep(LOOK)

    def _attached(self, domain: Domain) -> dict[str, str]:
        """Handle -> XML of the devices that it has now, which is on."""
        return self._connection.ask("describe a domain", lambda _: domain_xml.hostdevs(domain.XMLDesc()))

    def resume(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        domain, described = self._ours(spec.server_id)
        xml = domain_xml.definition(spec, devices, self._frame(spec, devices))
        wanted = domain_xml.read(xml)
        power = self._power(domain)
        if power is PowerState.SHUTDOWN:
            raise HypervisorError(f"The domain {spec.name} cannot go on: its memory was not kept.")
        if power is PowerState.SUSPENDED:
            if (described.digest, described.handles) != (wanted.digest, wanted.handles):
                domain = self._define(xml)
            self._start(domain, wanted)
        elif power is PowerState.PAUSED:
            self._unpause(domain)
        there = self._attached(domain)
        for number, device in enumerate(devices):
            if device.handle not in there:
                self._attach(domain, domain_xml.hostdev(device, number), device)
        return self._report(domain)

    def _attach(self, domain: Domain, xml: str, device: Device) -> None:
        what = f"give a domain its vGPU {device.uuid}"
        self._connection.ask(what, lambda _: domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE), START)

    # ------------------------------------------------------------------------------------------------ to another host

    def expect(self, spec: DomainSpec, devices: Sequence[Device]) -> Landing:
        self._must_move(bool(devices))
        self.ensure(dataclasses.replace(spec, running=False), devices)
        definition = domain_xml.definition(spec, devices, self._frame(spec, devices))
        return Landing("", self._known.migration_address, definition)

    def _must_move(self, vgpus: bool) -> None:
        known = self.capacity()
        reason = live_migration.why_not(hypervisor=known.hypervisor_version, libvirt=known.libvirt_version, vgpus=vgpus)
        if reason is not None:
            raise HypervisorError(f"This host takes no part in live migration: {reason}.")

    def send(self, server_id: str, landing: Landing) -> None:
        domain, described = self._ours(server_id)
        self._must_move(bool(described.vgpus))
        if self._power(domain).is_off:
            raise HypervisorError(f"The domain of server {server_id} is not running.")
        self._moves.begin(server_id, domain, landing)

    def transfer(self, server_id: str) -> Transfer:
        found = self._find(server_id)
        if found is None:
            return Transfer(False, None)
        return self._moves.look(server_id, found[0], lambda: self._power(found[0]))

    def stop_transfer(self, server_id: str) -> Transfer:
        found = self._find(server_id)
        if found is not None:
            self._moves.stop(server_id, found[0])
        return self.transfer(server_id)

    def _shut_down(self, domain: Domain) -> None:
        """Let the guest do it, for as long as the settings allow."""
        if self._power(domain) is not PowerState.RUNNING:
            return
        self._connection.ask("shut a domain down", lambda _: unless_off(domain.shutdown))
        end = self._clock.now() + self._known.shutdown_grace
        while self._clock.now() < end and self._power(domain) is PowerState.RUNNING:
            time.sleep(LOOK)

    def _destroy(self, domain: Domain) -> None:
        if not self._power(domain).is_off:
            self._connection.ask("switch a domain off", lambda _: unless_off(domain.destroy), START)

    def _start(self, domain: Domain, described: Described) -> None:
        name = self._connection.ask("name a domain", lambda _: domain.name())
        for uuid, handle in described.vgpus.items():
            self._must_exist(name, uuid, handle)
        held = self._connection.ask("list its domains", lambda c: _held(c, domain.UUIDString()))
        for uuid, handle in described.vgpus.items():
            if handle in held:
                raise HypervisorError(f"The domain {name} cannot start: another domain holds its vGPU {uuid}.")

        def start(_: libvirt.virConnect) -> None:
            try:
                domain.create()
            except libvirt.libvirtError as error:
                if not domain.isActive():
                    raise HypervisorError(f"The domain {name} cannot start: {said(error)}") from error

        self._connection.ask("start a domain", start, START)

    def _must_exist(self, name: str, uuid: str, handle: str) -> None:
        if not self._exists(handle):
            raise DeviceMissing(f"The domain {name} cannot start: its vGPU {uuid} does not exist.")

    def _exists(self, handle: str) -> bool:
        """A VF is always there; the vGPU on it is while its type is set."""
        if self._sysfs.exists(f"/sys/bus/mdev/devices/{handle}"):
            return True
        try:
            return self._sysfs.read(f"/sys/bus/pci/devices/{handle}/nvidia/current_vgpu_type").strip() != "0"
        except OSError:
            return False

    def _report(self, domain: Domain) -> DomainReport:
        (report,) = self._connection.ask("describe a domain", lambda _: list(_reports([domain])))
        return report


def _power_of(domain: Domain) -> PowerState:
    power = _POWER[domain.state()[0]]
    return PowerState.SUSPENDED if power is PowerState.SHUTDOWN and domain.hasManagedSaveImage() else power


def _reports(domains: Sequence[Domain]) -> Iterator[DomainReport]:
    for domain in domains:
        try:
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE if domain.isPersistent() else 0
            described = domain_xml.read(domain.XMLDesc(flags))
            uuid, power = domain.UUIDString(), _power_of(domain)
            vgpus = tuple(described.vgpus) if described.ours else tuple(h for h in sorted(described.handles) if ":" not in h)
            yield DomainReport(uuid, domain.name(), power, vgpus, uuid if described.ours else None)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # it may have gone since it was listed
                raise


def _held(connection: libvirt.virConnect, by_others_than: str) -> frozenset[str]:
    """Devices of the other domains that run."""
    held: set[str] = set()
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        if domain.UUIDString() != by_others_than:
            held |= domain_xml.read(domain.XMLDesc()).handles
    return frozenset(held)
