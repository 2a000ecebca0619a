"""A simulated hypervisor: domains of a simulated machine, which start only on devices that exist and are free."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lamina.agent.hypervisor import Capacity, Device
from lamina.agent.simulated.machine import Machine, MachineDomain
from lamina.model import ids, live_migration
from lamina.model.clock import Clock, SystemClock
from lamina.model.errors import DeviceMissing, HypervisorError
from lamina.model.hosts import Console, DomainReport, DomainSpec, Landing, PowerAction, PowerState, Transfer


@dataclasses.dataclass(frozen=True, slots=True)
class Cable:
    """What a simulated hypervisor reaches others of its process by, and how slow it is.

    ``ends`` is shared by all of them: name of the host -> its hypervisor. ``seconds`` is what moving a domain away takes.
    """

    ends: dict[str, SimulatedHypervisor] = dataclasses.field(default_factory=dict)
    clock: Clock = dataclasses.field(default_factory=SystemClock)
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Move:
    landing: Landing
    started_at: float
    #: the target's, with which the connection to it breaks
    boot_id: str


class SimulatedHypervisor:
    """The `Hypervisor` port on a `Machine`."""

    def __init__(self, machine: Machine, capacity: Capacity, cable: Cable | None = None) -> None:
        self._machine = machine
        self._capacity = capacity
        self._cable = cable or Cable()
        #: domains on their way to other hosts, and why the last move of one came to nothing
        self._moves: dict[str, _Move] = {}
        self._came_to_nothing: dict[str, str] = {}
        machine.rebooted.append(self._moves.clear)

    def boot_id(self) -> str:
        return self._machine.state.boot_id

    def capacity(self) -> Capacity:
        return self._capacity

    def domains(self) -> list[DomainReport]:
        with self._machine.lock:
            return [self._report(uuid, domain) for uuid, domain in sorted(self._machine.state.domains.items())]

    def ensure(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        absent = sorted({nic.network for nic in spec.nics} - set(self._capacity.networks))
        if absent:
            raise HypervisorError(f"This host has no network {absent[0]!r}.")
        with self._machine.lock:
            wanted = MachineDomain(
                name=spec.name,
                vcpus=spec.vcpus,
                memory_mb=spec.memory_mb,
                disk_gb=spec.disk_gb,
                image_id=spec.image.id if spec.image is not None else None,
                nics=spec.nics,
                config_drive=spec.config_drive,
                rescue_image_id=spec.rescue.id if spec.rescue is not None else None,
                devices={d.uuid: d.handle for d in devices},
                power_state=PowerState.SHUTDOWN,
                ours=True,
            )
            present = self._machine.state.domains.get(spec.server_id)
            if present is not None:
                if not present.ours:
                    raise HypervisorError(f"The domain {spec.server_id} is not Lamina's.")
                wanted.power_state = present.power_state
            if present != wanted:
                # another definition takes effect with the next start
                if not wanted.power_state.is_off:
                    wanted.power_state = PowerState.SHUTDOWN
                self._machine.state.domains[spec.server_id] = wanted
            if spec.image is not None or spec.disk_gb:
                self._machine.state.disks.setdefault(spec.server_id, f"{wanted.image_id or 'blank'} {ids.new_uuid()}")
            if spec.running:
                self._start(spec.server_id)
            elif not self._machine.state.domains[spec.server_id].power_state.is_off:
                self._machine.state.domains[spec.server_id].power_state = PowerState.SHUTDOWN
            self._machine.save()
            return self._report(spec.server_id, self._machine.state.domains[spec.server_id])

    def set_power(self, server_id: str, action: PowerAction) -> DomainReport:
        with self._machine.lock:
            domain = self._ours(server_id)
            if action in (PowerAction.PAUSE, PowerAction.UNPAUSE):
                self._must_be_on(domain)
                domain.power_state = PowerState.PAUSED if action is PowerAction.PAUSE else PowerState.RUNNING
            else:
                if action is not PowerAction.ON:
                    domain.power_state = PowerState.SHUTDOWN
                if action is not PowerAction.OFF:
                    self._start(server_id)
            self._machine.save()
            return self._report(server_id, domain)

    def suspend(self, server_id: str) -> DomainReport:
        with self._machine.lock:
            domain = self._ours(server_id)
            if domain.power_state is not PowerState.SUSPENDED:
                self._must_be_on(domain)
                domain.power_state = PowerState.SUSPENDED
            self._machine.save()
            return self._report(server_id, domain)

    def resume(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        with self._machine.lock:
            domain = self._ours(spec.server_id)
            if domain.power_state is PowerState.SHUTDOWN:
                raise HypervisorError(f"The domain {domain.name} cannot go on: its memory was not kept.")
            domain.devices = {d.uuid: d.handle for d in devices}
            self._start(spec.server_id)
            self._machine.save()
            return self._report(spec.server_id, domain)

    def fit(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        with self._machine.lock:
            domain = self._ours(spec.server_id)
            if domain.power_state is PowerState.SUSPENDED:
                raise HypervisorError(f"The domain {domain.name} is suspended, and keeps the devices that it has.")
            if not domain.power_state.is_off:
                new = {d.uuid: d.handle for d in devices if d.uuid not in domain.devices}
                self._must_be_free(domain.name, new)
            domain.devices = {d.uuid: d.handle for d in devices}
            self._machine.save()
            return self._report(spec.server_id, domain)

    def remove(self, server_id: str) -> None:
        with self._machine.lock:
            domain = self._machine.state.domains.get(server_id)
            if domain is None or domain.ours:
                self._machine.state.domains.pop(server_id, None)
                self._machine.state.disks.pop(server_id, None)
                self._machine.save()

    def expect(self, spec: DomainSpec, devices: Sequence[Device]) -> Landing:
        self._must_move(bool(devices))
        self.ensure(dataclasses.replace(spec, running=False), devices)
        with self._machine.lock:
            awaited = self._machine.state.domains[spec.server_id]
            self._must_be_free(awaited.name, awaited.devices)
        return Landing("", "", "")

    def _must_move(self, vgpus: bool) -> None:
        capacity = self._capacity
        reason = live_migration.why_not(hypervisor=capacity.hypervisor_version, libvirt=capacity.libvirt_version, vgpus=vgpus)
        if reason is not None:
            raise HypervisorError(f"This host takes no part in live migration: {reason}.")

    def send(self, server_id: str, landing: Landing) -> None:
        with self._machine.lock:
            domain = self._ours(server_id)
            self._must_move(bool(domain.devices))
            self._must_be_on(domain)
            if landing.host not in self._cable.ends:
                raise HypervisorError(f"The host {landing.host} cannot be reached from here.")
            self._came_to_nothing.pop(server_id, None)
            boot_id = self._cable.ends[landing.host].boot_id()
            self._moves.setdefault(server_id, _Move(landing, self._cable.clock.now(), boot_id))

    def transfer(self, server_id: str) -> Transfer:
        move = self._moves.get(server_id)
        if move is not None and self._cable.clock.now() >= move.started_at + self._cable.seconds:
            self._moves.pop(server_id, None)
            try:
                target = self._cable.ends[move.landing.host]
                if target.boot_id() != move.boot_id:
                    raise HypervisorError(f"The connection to host {move.landing.host} broke.")
                self._hand_over(server_id, target)
            except (HypervisorError, DeviceMissing) as error:
                self._came_to_nothing[server_id] = error.message
        return self._transfer(server_id)

    def _transfer(self, server_id: str) -> Transfer:
        with self._machine.lock:
            domain = self._machine.state.domains.get(server_id)
            if domain is None:
                return Transfer(False, None, self._came_to_nothing.get(server_id))
            running, total = server_id in self._moves, domain.memory_mb << 20
            gone = 0 if not running else self._gone(server_id, total)
            why = self._came_to_nothing.get(server_id)
            return Transfer(running, domain.power_state, why, memory_total=total, memory_processed=gone, memory_remaining=total - gone)

    def _gone(self, server_id: str, total: int) -> int:
        """Bytes that are there by now."""
        spent = self._cable.clock.now() - self._moves[server_id].started_at
        return int(total * min(1.0, spent / self._cable.seconds)) if self._cable.seconds else total

    def stop_transfer(self, server_id: str) -> Transfer:
        if self._moves.pop(server_id, None) is not None:
            self._came_to_nothing[server_id] = "it was stopped"
        return self._transfer(server_id)

    def _hand_over(self, server_id: str, target: SimulatedHypervisor) -> None:
        """As libvirt does it: halted here, then on there, then gone here; so that never two run."""
        first, second = sorted((self._machine, target._machine), key=id)
        with first.lock, second.lock:
            domain = self._ours(server_id)
            self._must_be_on(domain)
            awaited = target._ours(server_id)
            target._must_be_free(awaited.name, awaited.devices)
            before = domain.power_state
            domain.power_state = PowerState.PAUSED
            self._machine.save()
            awaited.power_state = before
            if server_id in self._machine.state.disks:
                target._machine.state.disks[server_id] = self._machine.state.disks[server_id]
            target._machine.save()
            domain.power_state = PowerState.SHUTDOWN
            self._machine.save()

    def renew_disk(self, spec: DomainSpec) -> None:
        with self._machine.lock:
            if not self._ours(spec.server_id).power_state.is_off:
                raise HypervisorError(f"The disk of server {spec.server_id} is in use by its running domain.")
            if spec.image is not None or spec.disk_gb:
                self._machine.state.disks[spec.server_id] = f"{spec.image.id if spec.image is not None else 'blank'} {ids.new_uuid()}"
            self._machine.save()

    @contextlib.contextmanager
    def pack_disk(self, server_id: str) -> Iterator[Path | None]:
        content = self._machine.state.disks.get(server_id)
        if content is None:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "disk"
            path.write_text(content, encoding="utf-8")
            yield path

    @contextlib.contextmanager
    def place_disk(self, server_id: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "disk"
            yield path
            with self._machine.lock:
                self._machine.state.disks[server_id] = path.read_text(encoding="utf-8")
                self._machine.save()

    def console_output(self, server_id: str, lines: int | None) -> str:
        with self._machine.lock:
            domain = self._ours(server_id)
            if domain.power_state is not PowerState.RUNNING:
                return ""
            said = [f"simulated machine of {domain.vcpus} vCPUs and {domain.memory_mb} MiB"]
            said += [f"display controller: vGPU {uuid}" for uuid in domain.devices]
            said += [f"network interface: {nic.mac} on {nic.network}" for nic in domain.nics]
            said += [f"rescued with image {domain.rescue_image_id}"] if domain.rescue_image_id is not None else []
            said.append(f"{domain.name} is up")
        return "".join(f"{line}\n" for line in (said if lines is None else said[len(said) - min(lines, len(said)) :]))

    def console(self, server_id: str) -> Console | None:
        """Raises `HypervisorError`. A simulated domain shows nothing to anybody."""
        self._ours(server_id)
        return None

    def watch(self, changed: Callable[[], None]) -> None:
        self._machine.rebooted.append(changed)

    def _ours(self, server_id: str) -> MachineDomain:
        domain = self._machine.state.domains.get(server_id)
        if domain is None or not domain.ours:
            raise HypervisorError(f"There is no domain of server {server_id}.")
        return domain

    @staticmethod
    def _must_be_on(domain: MachineDomain) -> None:
        if domain.power_state.is_off:
            raise HypervisorError(f"The domain {domain.name} is not running.")

    def _start(self, server_id: str) -> None:
        domain = self._machine.state.domains[server_id]
        if not domain.power_state.is_off:
            domain.power_state = PowerState.RUNNING
            return
        self._must_be_free(domain.name, domain.devices)
        domain.power_state = PowerState.RUNNING

    def _must_be_free(self, name: str, devices: Mapping[str, str]) -> None:
        """The devices of a domain that has none of them in use yet."""
        for uuid, handle in devices.items():
            if handle not in self._machine.state.mdevs and handle not in self._machine.state.vf_types:
                self._machine.save()
                raise DeviceMissing(f"The domain {name} cannot start: its vGPU {uuid} does not exist.")
            if self._machine.holds(handle):
                self._machine.save()
                raise HypervisorError(f"The domain {name} cannot start: another domain holds its vGPU {uuid}.")

    @staticmethod
    def _report(uuid: str, domain: MachineDomain) -> DomainReport:
        return DomainReport(uuid, domain.name, domain.power_state, tuple(domain.devices), uuid if domain.ours else None)
