"""The compute service: Lamina on one host, what Nova calls nova-compute.

It knows its machine and its journal and holds no database credential. Every call about a server carries a fence and may
be repeated; what a call makes is written in the journal before the kernel is asked, so that whatever happens in
between, a device is known to be ours and whose it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial

import msgspec

from lamina.agent import boards, virtual_functions
from lamina.agent import hypervisor as port
from lamina.agent.boards import Boards, NoBoards
from lamina.agent.commands import Command, run
from lamina.agent.definitions import Definitions
from lamina.agent.depot import Depot, digested
from lamina.agent.frameworks.framework import UNREADABLE, Found, FrameworkPort, discover, why
from lamina.agent.frameworks.mdev import Mdev
from lamina.agent.frameworks.vfio import Vfio
from lamina.agent.journal import Journal, Record
from lamina.agent.places import is_at, parent_of, place_of, profile_of, report_of, standing_on, type_of
from lamina.agent.salvage import Salvage
from lamina.agent.sysfs import Sysfs
from lamina.agent.turns import Turns
from lamina.model.clock import Clock
from lamina.model.errors import DeviceForeign, DeviceMissing, DeviceRefused, HostError
from lamina.model.gpus import HAVE_SLOTS, Framework, GpuSettings
from lamina.model.hosts import (
    Call,
    Console,
    DiskContent,
    DomainReport,
    DomainSpec,
    GpuReport,
    HostReport,
    Landing,
    PowerAction,
    Transfer,
    VgpuReport,
    VgpuSpec,
)
from lamina.model.ids import PciAddress

#: what may start a domain that is off
_STARTING = frozenset({PowerAction.ON, PowerAction.SOFT_REBOOT, PowerAction.HARD_REBOOT})


class ComputeService:
    """One host's; thread-safe.

    GPUs and the journal are changed by one call at a time. Domains, which may take long, are changed by one call at a
    time for each server, so that a download or a slow start keeps nobody else waiting.
    """

    def __init__(
        self,
        host: str,
        sysfs: Sysfs,
        hypervisor: port.Hypervisor,
        journal: Journal,
        settings: Mapping[PciAddress, GpuSettings],
        clock: Clock,
        definitions: Definitions | None = None,
        management: Boards | None = None,
        depot: Depot | None = None,
        command: Command = run,
    ) -> None:
        """`definitions` is where the host keeps mdevs that it makes at boot, `management` tells more of its
        cards, `depot` takes disks to other hosts.
        """
        self._host = host
        self._sysfs = sysfs
        self._command = command
        self._management = management or NoBoards()
        self._depot = depot
        self._hypervisor = hypervisor
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._frameworks: dict[Framework, FrameworkPort] = {
            Framework.MDEV: Mdev(sysfs, clock, definitions),
            Framework.VFIO: Vfio(sysfs, clock, command),
        }
        self._lock = threading.Lock()
        self._turns = Turns()
        #: the GPUs as last discovered; what stands on them is always read anew
        self._found: dict[PciAddress, Found] = {}
        self._salvage = Salvage(host, journal)
        #: number of the last report
        self._sequence = 0
        with contextlib.suppress(HostError):  # then nothing is certain, and the records stay as they are
            self._disown_unmade()

    def _disown_unmade(self) -> None:
        """A process that died after it had written down a VF's vGPU, and before it made it, has made none.

        What comes to stand there is somebody else's then, though it may look the same.
        """
        boot_id = self._hypervisor.boot_id()
        for record in list(self._journal.records().values()):
            of_now = record.framework is Framework.VFIO and record.boot_id == boot_id
            if of_now and self._frameworks[Framework.VFIO].type_id_of(record.uuid, record.parent) is None:
                self._journal.put([msgspec.structs.replace(record, boot_id="")])

    # ------------------------------------------------------------------------------------------------ what is there

    def report(self) -> HostReport:
        """Everything this host has now; a GPU that cannot be read is a sentence in ``problems``."""
        with self._lock:
            # told before anything is looked at: whatever comes with a higher number was seen later
            self._sequence = sequence = max(self._sequence + 1, int(self._clock.now() * 1_000_000))
            found, problems = self._discover()
            self._salvage.attempt(lambda: found, self._hypervisor)
            gpus = tuple(GpuReport(f.gpu, dict(f.available), self._vgpus(f)) for f in found)
            lost = self._lost(gpus)
            problems += [f"vGPU {v.uuid} ({v.type}) of server {v.server_id} is not on GPU {v.gpu} any more" for v in lost]
            problems += self._salvage.problems()
            epoch = self._journal.epoch
        capacity = self._hypervisor.capacity()
        return HostReport(
            host=self._host,
            boot_id=self._hypervisor.boot_id(),
            vcpus=capacity.vcpus,
            memory_mb=capacity.memory_mb,
            disk_gb=capacity.disk_gb,
            hypervisor_type=capacity.hypervisor_type,
            hypervisor_version=capacity.hypervisor_version,
            gpus=gpus,
            domains=tuple(self._hypervisor.domains()),
            networks=capacity.networks,
            problems=tuple(problems),
            lost=lost,
            sequence=sequence,
            epoch=epoch,
            libvirt_version=capacity.libvirt_version,
        )

    def _lost(self, gpus: Iterable[GpuReport]) -> tuple[VgpuReport, ...]:
        """What the journal has and the machine does not."""
        standing = {v.uuid for g in gpus for v in g.vgpus if v.ours}
        return tuple(report_of(record) for record in self._journal.records().values() if record.uuid not in standing)

    def _discover(self) -> tuple[list[Found], list[str]]:
        found: list[Found] = []
        problems: list[str] = []
        for framework in self._frameworks.values():
            discovery = discover(framework, self._settings)
            found.extend(dataclasses.replace(f, gpu=boards.described(f.gpu, self._management)) for f in discovery.gpus)
            problems.extend(discovery.problems)
        self._found = {f.gpu.address: f for f in found}
        for gpu in (f.gpu for f in found):
            problems += boards.modes_in_the_way(gpu)
        off = virtual_functions.off(self._sysfs)
        problems += [
            f"GPU {address} has none of its {total} virtual functions enabled, and its vGPUs stand on them: "
            f"'lamina restore-vgpus --enable-functions {address}' enables them"
            for address, total in off
        ]
        absent = [a for a in self._settings if a not in self._found and a not in dict(off)]
        problems += [f"GPU {address} of the settings makes no vGPUs on this host" for address in absent]
        return sorted(found, key=lambda f: f.gpu.address), problems

    def _gpu(self, address: PciAddress) -> Found:
        """One GPU, and what stands on it at this moment. Raises `DeviceMissing` where it is not there or cannot be read."""
        try:
            found = self._found.get(address)
            if found is not None:
                return dataclasses.replace(found, devices=self._frameworks[found.gpu.framework].devices(found))
            settings = self._settings.get(address, GpuSettings(address))
            for framework in self._frameworks.values():
                found = framework.read(settings)
                if found is not None:
                    self._found[address] = found
                    return found
        except UNREADABLE as error:
            self._found.pop(address, None)
            raise DeviceMissing(f"GPU {address} of host {self._host} cannot be read: {why(error)}") from error
        raise DeviceMissing(f"Host {self._host} has no GPU {address} that vGPUs can be made on.")

    def _gpu_offering(self, address: PciAddress, names: Set[str]) -> Found:
        """One GPU, read anew where it told of less when it was last looked at: a card full of others tells of no type.

        Raises `DeviceMissing`.
        """
        found = self._gpu(address)
        if names <= {t.name for t in found.gpu.types}:
            return found
        del self._found[address]
        return self._gpu(address)

    def _vgpus(self, found: Found) -> tuple[VgpuReport, ...]:
        return standing_on(found, self._journal.records(), self._host, self._is)

    def _is(self, record: Record, type_id: str | None) -> bool:
        """Whether what stands where the record says is the record's vGPU; an mdev has a uuid, a VF's has only its time."""
        same_time = record.framework is Framework.MDEV or record.boot_id == self._hypervisor.boot_id()
        return type_id == record.type_id and same_time

    # ------------------------------------------------------------------------------------------------ vGPUs

    def ensure_vgpus(self, call: Call, specs: Sequence[VgpuSpec]) -> tuple[VgpuReport, ...]:
        """Make these vGPUs of one server exist, all or none; those that stand already stay as they are.

        The answers are in the order of `specs`. Raises `StaleFence`, `DeviceMissing`, `DeviceForeign`, `HostError` for
        a journal that cannot be written, and `DeviceRefused` with the kernel's errno.
        """
        if not specs:
            return ()
        with self._turns.of(specs[0].server_id), self._lock, self._journal.call(call, specs[0].server_id, self._clock.now()):
            self._salvage.attempt(lambda: self._discover()[0], self._hypervisor)
            self._remove_moved(specs)
            gpus = {a: self._gpu_offering(a, {s.type for s in specs if s.gpu == a}) for a in {spec.gpu for spec in specs}}
            standing = {v.uuid: v for found in gpus.values() for v in self._vgpus(found)}
            for spec in specs:
                if spec.uuid in standing and not standing[spec.uuid].ours:
                    raise DeviceForeign(f"A vGPU {spec.uuid} that is not Lamina's stands on GPU {spec.gpu} already.")
            planned = self._plan(gpus, [spec for spec in specs if spec.uuid not in standing])
            if planned:
                self._journal.put(planned)
                self._make(gpus, planned)
            self._keep([spec.uuid for spec in specs if spec.uuid in standing])
            there = standing | {r.uuid: report_of(r) for r in planned}
            return tuple(there[spec.uuid] for spec in specs)

    def _remove_moved(self, specs: Sequence[VgpuSpec]) -> None:
        """Remove what stands elsewhere, or as something else, under the uuid of a vGPU that shall exist."""
        records = self._journal.records()
        moved = [r for s in specs if (r := records.get(s.uuid)) is not None and not is_at(r, s)]
        for record in moved:
            self._must_be_free(record)
            self._remove(record)
        self._journal.forget([r.uuid for r in moved])

    def _plan(self, gpus: Mapping[PciAddress, Found], specs: Sequence[VgpuSpec]) -> list[Record]:
        """Where each vGPU goes. Raises `DeviceRefused` where there is no room."""
        records = self._journal.records()
        wanted = {spec.uuid for spec in specs}
        taken = {d.parent for found in gpus.values() for d in found.devices}
        taken |= {r.parent for r in records.values() if r.uuid not in wanted}
        planned = []
        for spec in specs:
            found = gpus[spec.gpu]
            vgpu_type = type_of(found, spec.type)
            placement = spec.placement if found.gpu.partitioning in HAVE_SLOTS else None
            before = records.get(spec.uuid)
            parent = parent_of(found, taken, (before.parent if before is not None else None, spec.parent))
            taken.add(parent)
            planned.append(
                Record(
                    uuid=spec.uuid,
                    server_id=spec.server_id,
                    framework=found.gpu.framework,
                    gpu=spec.gpu,
                    parent=parent,
                    type=spec.type,
                    type_id=vgpu_type.id,
                    boot_id=self._hypervisor.boot_id(),
                    placement=placement,
                    profile=profile_of(found.gpu, spec.type) if placement is not None else None,
                )
            )
        return planned

    def _make(self, gpus: Mapping[PciAddress, Found], planned: Sequence[Record]) -> None:
        touched: list[Record] = []
        try:
            for record in planned:
                framework = self._frameworks[record.framework]
                if framework.type_id_of(record.uuid, record.parent) is not None:
                    raise DeviceRefused(f"Somebody else has just set up a vGPU on {record.parent}", errno.EBUSY)
                touched.append(record)
                framework.create(record.uuid, record.parent, type_of(gpus[record.gpu], record.type), place_of(record))
                if framework.type_id_of(record.uuid, record.parent) != record.type_id:
                    raise DeviceMissing(f"The kernel made no vGPU {record.uuid} on {record.parent} and told no error.")
                framework.keep(record.uuid, record.parent, record.type_id)
        except Exception:
            self._take_back(planned, touched)
            raise

    def _keep(self, uuids: Sequence[str]) -> None:
        """For those that were made before; the call that made them may have ended before they were kept."""
        records = self._journal.records()
        for uuid in uuids:
            record = records[uuid]
            self._frameworks[record.framework].keep(uuid, record.parent, record.type_id)

    def _take_back(self, planned: Sequence[Record], touched: Sequence[Record]) -> None:
        """Undo a part of a call; what cannot be taken back stays in the journal as ours, to be released later."""
        left = set()
        for record in reversed(touched):
            try:
                self._remove(record)
            except DeviceRefused:
                left.add(record.uuid)
        self._journal.forget([r.uuid for r in planned if r.uuid not in left])

    def release_vgpus(self, call: Call, server_id: str, uuids: Sequence[str]) -> None:
        """Make these vGPUs of a server not exist. What the journal does not know as that server's is left alone.

        Raises `StaleFence`, and `DeviceRefused` for one that cannot be removed; those before it are gone.
        """
        with self._turns.of(server_id), self._lock, self._journal.call(call, server_id, self._clock.now()):
            self._salvage.attempt(lambda: self._discover()[0], self._hypervisor)
            records = self._journal.records()
            gone: list[str] = []
            try:
                for uuid in uuids:
                    record = records.get(uuid)
                    if record is not None and record.server_id == server_id:
                        self._must_be_free(record)
                        self._remove(record)
                        gone.append(uuid)
            finally:
                self._journal.forget(gone)

    def _must_be_free(self, record: Record) -> None:
        for domain in self._hypervisor.domains():
            if record.uuid in domain.vgpus and not domain.power_state.is_off:
                raise DeviceRefused(f"The vGPU {record.uuid} is held by the running domain {domain.name}", errno.EBUSY)

    def _remove(self, record: Record) -> None:
        """Remove what stands where the journal says, if it is still what the journal says, and what would bring it back."""
        framework = self._frameworks[record.framework]
        type_id = framework.type_id_of(record.uuid, record.parent)
        if type_id is None or self._is(record, type_id):
            framework.remove(record.uuid, record.parent, place_of(record))

    # ------------------------------------------------------------------------------------------------ after a boot

    def restore(self) -> list[str]:
        """What a boot has lost and a host can bring back by itself: virtual functions, and every vGPU of the journal.

        Run before domains start. Sentences about what could not be had; what stands already is left as it is.
        """
        with self._lock:
            problems = []
            for address in sorted(a for a, said in self._settings.items() if said.enable_functions):
                problems += self._attempt(partial(self._enable_functions, address))
            for record in sorted(self._journal.records().values(), key=lambda r: (r.gpu, r.parent, r.uuid)):
                problems += self._attempt(partial(self._restore, record))
            return problems

    def enable_functions(self, address: PciAddress) -> None:
        """Enable all virtual functions of a GPU that has none enabled. Raises `DeviceMissing`, `DeviceRefused`."""
        with self._lock:
            self._enable_functions(address)

    def _enable_functions(self, address: PciAddress) -> None:
        try:
            virtual_functions.enable(self._sysfs, self._clock, self._command, address)
        except UNREADABLE as error:
            raise DeviceMissing(f"GPU {address} of host {self._host} cannot be read: {why(error)}") from error

    @staticmethod
    def _attempt(mend: Callable[[], None]) -> list[str]:
        try:
            mend()
        except HostError as error:
            return [error.message]
        return []

    def _restore(self, record: Record) -> None:
        framework = self._frameworks[record.framework]
        there = framework.type_id_of(record.uuid, record.parent)
        if there is None:
            found, before = self._gpu_offering(record.gpu, {record.type}), record
            record = msgspec.structs.replace(record, boot_id=self._hypervisor.boot_id())
            self._journal.put([record])  # before the device: a VF is ours only if it was written down in this boot
            try:
                framework.create(record.uuid, record.parent, type_of(found, record.type), place_of(record))
            finally:
                there = framework.type_id_of(record.uuid, record.parent)
                if there is None:  # and whatever comes to stand there later is not ours
                    self._journal.put([before])
        if not self._is(record, there):
            raise DeviceForeign(f"The vGPU {record.uuid} cannot stand on {record.parent} again: another one is there.")
        framework.keep(record.uuid, record.parent, record.type_id)

    # ------------------------------------------------------------------------------------------------ domains

    @contextlib.contextmanager
    def _domain_call(self, call: Call, server_id: str) -> Iterator[None]:
        with self._turns.of(server_id):
            with self._lock, self._journal.call(call, server_id, self._clock.now()):
                pass  # admitted; whatever is older finds the fence from here on
            yield

    def ensure_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `DeviceRefused` where a vGPU cannot be looked at, `HypervisorError`."""
        with self._domain_call(call, spec.server_id):
            return self._hypervisor.ensure(spec, self._devices(spec))

    def _devices(self, spec: DomainSpec) -> list[port.Device]:
        records = self._journal.records()
        devices = []
        for uuid in spec.vgpus:
            record = records.get(uuid)
            if record is None or record.server_id != spec.server_id:
                raise DeviceMissing(f"Host {self._host} has no vGPU {uuid} of server {spec.server_id}.")
            self._must_not_be_anothers(record)
            handle = self._frameworks[record.framework].handle(uuid, record.parent)
            devices.append(port.Device(uuid, record.framework, handle, self._numa_node(record.gpu)))
        return devices

    def _must_not_be_anothers(self, record: Record) -> None:
        """A domain knows a VF by its address: what somebody else has made there since the host booted, it would take for its own.

        Where nothing stands the hypervisor says so.
        """
        with self._lock:
            there = self._frameworks[record.framework].type_id_of(record.uuid, record.parent)
        if there is not None and not self._is(record, there):
            raise DeviceMissing(f"The vGPU {record.uuid} is gone, and another, not Lamina's, is in its place on {record.parent}.")

    def _numa_node(self, address: PciAddress) -> int | None:
        with self._lock:
            try:
                return self._gpu(address).gpu.numa_node
            except DeviceMissing:  # whether the domain can start without it, the hypervisor tells
                return None

    def set_power(self, call: Call, server_id: str, action: PowerAction) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `DeviceRefused` where a vGPU cannot be looked at, `HypervisorError`."""
        with self._domain_call(call, server_id):
            if action in _STARTING:
                self._must_start_on_its_own(server_id)
            return self._hypervisor.set_power(server_id, action)

    def _must_start_on_its_own(self, server_id: str) -> None:
        """What a running domain has, nobody can have changed."""
        records = self._journal.records()
        for domain in self._hypervisor.domains():
            if domain.server_id == server_id and domain.power_state.is_off:
                for uuid in domain.vgpus:
                    if uuid not in records:
                        raise DeviceMissing(f"Host {self._host} has no vGPU {uuid} of server {server_id}.")
                    self._must_not_be_anothers(records[uuid])

    def suspend_domain(self, call: Call, server_id: str) -> DomainReport:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._domain_call(call, server_id):
            return self._hypervisor.suspend(server_id)

    def resume_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `DeviceRefused` where a vGPU cannot be looked at, `HypervisorError`."""
        with self._domain_call(call, spec.server_id):
            return self._hypervisor.resume(spec, self._devices(spec))

    def fit_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `DeviceRefused` where a vGPU cannot be looked at, `HypervisorError`."""
        with self._domain_call(call, spec.server_id):
            return self._hypervisor.fit(spec, self._devices(spec))

    def remove_domain(self, call: Call, server_id: str) -> None:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._domain_call(call, server_id):
            self._hypervisor.remove(server_id)

    def renew_disk(self, call: Call, spec: DomainSpec) -> None:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._domain_call(call, spec.server_id):
            self._hypervisor.renew_disk(spec)

    def send_disk(self, call: Call, server_id: str) -> DiskContent | None:
        """Bring the disk of a domain to the depot; None where it has none. Raises `HostError`."""
        with self._domain_call(call, server_id), self._hypervisor.pack_disk(server_id) as disk:
            if disk is None:
                return None
            content = digested(server_id, disk)
            self._at_depot().bring(server_id, disk)
            return content

    def take_disk(self, call: Call, server_id: str, content: DiskContent) -> None:
        """Have what is in the depot as the server's disk. Raises `HostError` where it is not what was sent."""
        with self._domain_call(call, server_id), self._hypervisor.place_disk(server_id) as disk:
            self._at_depot().fetch(server_id, disk)
            if digested(server_id, disk) != content:
                raise HostError(f"The disk of server {server_id} did not arrive as it was sent.")

    def expect_domain(self, call: Call, spec: DomainSpec) -> Landing:
        """Raises `StaleFence`, `DeviceMissing`, `DeviceRefused` where a vGPU cannot be looked at, `HypervisorError`."""
        with self._domain_call(call, spec.server_id):
            return dataclasses.replace(self._hypervisor.expect(spec, self._devices(spec)), host=self._host)

    def send_domain(self, call: Call, server_id: str, landing: Landing) -> None:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._domain_call(call, server_id):
            self._hypervisor.send(server_id, landing)

    def transfer(self, server_id: str) -> Transfer:
        """Raises `HypervisorError`."""
        return self._hypervisor.transfer(server_id)

    def stop_transfer(self, call: Call, server_id: str) -> Transfer:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._domain_call(call, server_id):
            return self._hypervisor.stop_transfer(server_id)

    def _at_depot(self) -> Depot:
        if self._depot is None:
            raise HostError(f"Host {self._host} cannot hand disks over to other hosts.")
        return self._depot

    # ------------------------------------------------------------------------------------------------ looking on

    def console_output(self, server_id: str, lines: int | None) -> str:
        """What the domain wrote to its serial port. Raises `HypervisorError`."""
        return self._hypervisor.console_output(server_id, lines)

    def console(self, server_id: str) -> Console | None:
        """Where the domain's display is served. Raises `HypervisorError`."""
        return self._hypervisor.console(server_id)

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed`, from any thread, when something here may have changed that nobody asked for."""
        self._hypervisor.watch(changed)
