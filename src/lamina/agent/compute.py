"""The compute service: Lamina on one host, what Nova calls nova-compute.

It knows its machine and its journal and holds no database credential. Every call about a server carries a fence and may
be repeated; what a call makes is written in the journal before the kernel is asked, so that whatever happens in
between, a device is known to be ours and whose it is.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping, Sequence

from lamina.agent import hypervisor as port
from lamina.agent.frameworks.framework import Device, Found, FrameworkPort
from lamina.agent.frameworks.mdev import Mdev
from lamina.agent.frameworks.vfio import Vfio
from lamina.agent.journal import Journal, Record
from lamina.agent.sysfs import Sysfs
from lamina.model import ids
from lamina.model.clock import Clock
from lamina.model.errors import DeviceForeign, DeviceMissing, DeviceRefused
from lamina.model.gpus import Framework, GpuSettings, VgpuType
from lamina.model.hosts import (
    Call,
    DomainReport,
    DomainSpec,
    GpuReport,
    HostReport,
    PowerAction,
    PowerState,
    VgpuReport,
    VgpuSpec,
)
from lamina.model.ids import PciAddress


class ComputeService:
    """One host's; thread-safe: the machine is changed by one call at a time."""

    def __init__(
        self,
        host: str,
        sysfs: Sysfs,
        hypervisor: port.Hypervisor,
        journal: Journal,
        settings: Mapping[PciAddress, GpuSettings],
        clock: Clock,
    ) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._frameworks: dict[Framework, FrameworkPort] = {
            Framework.MDEV: Mdev(sysfs),
            Framework.VFIO: Vfio(sysfs, clock),
        }
        self._lock = threading.Lock()
        #: the GPUs as last discovered; what stands on them is always read anew
        self._found: dict[PciAddress, Found] = {}

    # ------------------------------------------------------------------------------------------------ what is there

    def report(self) -> HostReport:
        """Everything this host has now; a GPU that cannot be read is a sentence in ``problems``."""
        with self._lock:
            found, problems = self._discover()
            records = self._journal.records()
            capacity = self._hypervisor.capacity()
            return HostReport(
                host=self._host,
                boot_id=self._hypervisor.boot_id(),
                vcpus=capacity.vcpus,
                memory_mb=capacity.memory_mb,
                disk_gb=capacity.disk_gb,
                hypervisor_type=capacity.hypervisor_type,
                hypervisor_version=capacity.hypervisor_version,
                gpus=tuple(GpuReport(f.gpu, dict(f.available), self._vgpus(f, records)) for f in found),
                domains=tuple(self._hypervisor.domains()),
                problems=tuple(problems),
            )

    def _discover(self) -> tuple[list[Found], list[str]]:
        found: list[Found] = []
        problems: list[str] = []
        for framework in self._frameworks.values():
            discovery = framework.discover(self._settings)
            found.extend(discovery.gpus)
            problems.extend(discovery.problems)
        self._found = {f.gpu.address: f for f in found}
        absent = [address for address in self._settings if address not in self._found]
        problems += [f"GPU {address} is in the settings and not in this machine" for address in absent]
        return sorted(found, key=lambda f: f.gpu.address), problems

    def _gpu(self, address: PciAddress) -> Found:
        if address not in self._found:
            self._discover()
        if address not in self._found:
            raise DeviceMissing(f"Host {self._host} has no GPU {address} that vGPUs can be made on.")
        return self._found[address]

    def _devices(self, found: Found) -> tuple[Device, ...]:
        """What stands on a GPU now. Raises `DeviceMissing` for one that has fallen off its bus."""
        try:
            return self._frameworks[found.gpu.framework].devices(found)
        except OSError as error:
            self._found.pop(found.gpu.address, None)
            raise DeviceMissing(f"GPU {found.gpu.address} of host {self._host} cannot be read: {error.strerror}") from error

    def _vgpus(self, found: Found, records: Mapping[str, Record]) -> tuple[VgpuReport, ...]:
        by_parent = {r.parent: r for r in records.values() if r.gpu == found.gpu.address}
        reports = []
        for device in self._devices(found):
            record = records.get(device.uuid) if device.uuid is not None else by_parent.get(device.parent)
            ours = record is not None and (device.uuid is not None or record.type == device.type)
            uuid = device.uuid or (record.uuid if record is not None and ours else ids.foreign_vf_uuid(self._host, device.parent))
            server_id = record.server_id if record is not None and ours else None
            reports.append(VgpuReport(uuid, found.gpu.address, device.parent, device.type, ours, server_id))
        return tuple(reports)

    # ------------------------------------------------------------------------------------------------ vGPUs

    def ensure_vgpus(self, call: Call, specs: Sequence[VgpuSpec]) -> tuple[VgpuReport, ...]:
        """Make these vGPUs of one server exist, all or none; those that stand already stay as they are.

        Raises `StaleFence`, `DeviceMissing`, `DeviceForeign`, and `DeviceRefused` with the kernel's errno.
        """
        if not specs:
            return ()
        with self._lock, self._journal.call(call, specs[0].server_id, self._clock.now()):
            made: list[Record] = []
            reports = []
            try:
                for gpu in dict.fromkeys(spec.gpu for spec in specs):
                    reports += self._ensure_on(gpu, [s for s in specs if s.gpu == gpu], made)
            except Exception:
                self._take_back(made)
                raise
            order = {spec.uuid: index for index, spec in enumerate(specs)}
            return tuple(sorted(reports, key=lambda r: order[r.uuid]))

    def _ensure_on(self, address: PciAddress, specs: Sequence[VgpuSpec], made: list[Record]) -> list[VgpuReport]:
        found = self._gpu(address)
        framework = self._frameworks[found.gpu.framework]
        records = self._journal.records()
        standing = {v.uuid: v for v in self._vgpus(found, records)}
        taken = {v.parent for v in standing.values()} | {r.parent for r in records.values() if r.uuid not in standing}
        reports, missing = [], []
        for spec in specs:
            there = standing.get(spec.uuid)
            if there is None:
                missing.append(spec)
                continue
            if not there.ours:
                raise DeviceForeign(f"A vGPU {spec.uuid} that is not Lamina's stands on {there.parent} already.")
            reports.append(there)
        planned = []
        for spec in missing:
            parent = self._parent(found, spec, records.get(spec.uuid), taken)
            taken.add(parent)
            planned.append(Record(spec.uuid, spec.server_id, address, parent, spec.type))
        if planned:
            self._journal.put(planned)
        for record in planned:
            made.append(record)
            framework.create(record.uuid, record.parent, self._type(found, record.type))
        if planned:
            now_standing = {v.uuid for v in self._vgpus(found, self._journal.records())}
            for record in planned:
                if record.uuid not in now_standing:
                    raise DeviceMissing(f"The kernel made no vGPU {record.uuid} on {record.parent} and told no error.")
        return reports + [VgpuReport(r.uuid, r.gpu, r.parent, r.type, ours=True, server_id=r.server_id) for r in planned]

    def _parent(self, found: Found, spec: VgpuSpec, record: Record | None, taken: set[PciAddress]) -> PciAddress:
        """The GPU itself, or a free VF: the one it stood on before if that is free."""
        if found.gpu.virtual_functions is None:
            return found.gpu.address
        before = {record.parent} if record is not None else set()
        wanted = [p for p in (record.parent if record else None, spec.parent) if p is not None]
        free = [p for p in found.parents if p not in taken or p in before]
        standing = {d.parent for d in self._devices(found)}
        free = [p for p in free if p not in standing]
        for parent in (*wanted, *free):
            if parent in free:
                return parent
        raise DeviceRefused(f"GPU {found.gpu.address} has no free virtual function", errno.ENOSPC)

    def _type(self, found: Found, name: str) -> VgpuType:
        try:
            return found.gpu.type_named(name)
        except KeyError:
            raise DeviceRefused(f"GPU {found.gpu.address} does not offer the type {name}", errno.EINVAL) from None

    def _take_back(self, made: Sequence[Record]) -> None:
        """Undo a part of a call; what cannot be taken back stays in the journal as ours, to be released later."""
        gone = []
        for record in reversed(made):
            try:
                self._remove(record)
            except DeviceRefused:
                continue
            gone.append(record.uuid)
        self._journal.forget(gone)

    def release_vgpus(self, call: Call, server_id: str, uuids: Sequence[str]) -> None:
        """Make these vGPUs of a server not exist. What the journal does not know as that server's is left alone.

        Raises `StaleFence`, and `DeviceRefused` for one that cannot be removed; those before it are gone.
        """
        with self._lock, self._journal.call(call, server_id, self._clock.now()):
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
                if gone:
                    self._journal.forget(gone)

    def _must_be_free(self, record: Record) -> None:
        for domain in self._hypervisor.domains():
            if record.uuid in domain.vgpus and domain.power_state is not PowerState.SHUTDOWN:
                raise DeviceRefused(f"The vGPU {record.uuid} is held by the running domain {domain.name}", errno.EBUSY)

    def _remove(self, record: Record) -> None:
        """Remove what stands where the journal says, if it is still what the journal says."""
        found = self._gpu(record.gpu)
        framework = self._frameworks[found.gpu.framework]
        for device in self._devices(found):
            same = device.uuid == record.uuid if device.uuid is not None else device.parent == record.parent
            if same and device.type == record.type:
                framework.remove(record.uuid, record.parent)

    # ------------------------------------------------------------------------------------------------ domains

    def ensure_domain(self, call: Call, spec: DomainSpec) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `HypervisorError`."""
        with self._lock, self._journal.call(call, spec.server_id, self._clock.now()):
            records = self._journal.records()
            devices = []
            for uuid in spec.vgpus:
                record = records.get(uuid)
                if record is None or record.server_id != spec.server_id:
                    raise DeviceMissing(f"Host {self._host} has no vGPU {uuid} of server {spec.server_id}.")
                framework = self._frameworks[self._gpu(record.gpu).gpu.framework]
                devices.append(port.Device(uuid, framework.framework, framework.handle(uuid, record.parent)))
            return self._hypervisor.ensure(spec, devices)

    def set_power(self, call: Call, server_id: str, action: PowerAction) -> DomainReport:
        """Raises `StaleFence`, `DeviceMissing`, `HypervisorError`."""
        with self._lock, self._journal.call(call, server_id, self._clock.now()):
            return self._hypervisor.set_power(server_id, action)

    def remove_domain(self, call: Call, server_id: str) -> None:
        """Raises `StaleFence`, `HypervisorError`."""
        with self._lock, self._journal.call(call, server_id, self._clock.now()):
            self._hypervisor.remove(server_id)
