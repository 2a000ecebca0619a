"""A simulated hypervisor: domains of a simulated machine, which start only on devices that exist and are free."""

from __future__ import annotations

from collections.abc import Sequence

from lamina.agent.hypervisor import Capacity, Device
from lamina.agent.simulated.machine import Machine, MachineDomain
from lamina.model.errors import DeviceMissing, HypervisorError
from lamina.model.hosts import DomainReport, DomainSpec, PowerAction, PowerState


class SimulatedHypervisor:
    """The `Hypervisor` port on a `Machine`."""

    def __init__(self, machine: Machine, capacity: Capacity) -> None:
        self._machine = machine
        self._capacity = capacity

    def boot_id(self) -> str:
        return self._machine.state.boot_id

    def capacity(self) -> Capacity:
        return self._capacity

    def domains(self) -> list[DomainReport]:
        with self._machine.lock:
            return [self._report(uuid, domain) for uuid, domain in sorted(self._machine.state.domains.items())]

    def ensure(self, spec: DomainSpec, devices: Sequence[Device]) -> DomainReport:
        with self._machine.lock:
            wanted = MachineDomain(
                name=spec.name,
                vcpus=spec.vcpus,
                memory_mb=spec.memory_mb,
                disk_gb=spec.disk_gb,
                image_id=spec.image_id,
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
                wanted.power_state = PowerState.SHUTDOWN
                self._machine.state.domains[spec.server_id] = wanted
            if spec.running:
                self._start(spec.server_id)
            else:
                self._machine.state.domains[spec.server_id].power_state = PowerState.SHUTDOWN
            self._machine.save()
            return self._report(spec.server_id, self._machine.state.domains[spec.server_id])

    def set_power(self, server_id: str, action: PowerAction) -> DomainReport:
        with self._machine.lock:
            domain = self._machine.state.domains.get(server_id)
            if domain is None or not domain.ours:
                raise HypervisorError(f"There is no domain of server {server_id}.")
            if action is not PowerAction.ON:
                domain.power_state = PowerState.SHUTDOWN
            if action is not PowerAction.OFF:
                self._start(server_id)
            self._machine.save()
            return self._report(server_id, domain)

    def remove(self, server_id: str) -> None:
        with self._machine.lock:
            domain = self._machine.state.domains.get(server_id)
            if domain is not None and domain.ours:
                del self._machine.state.domains[server_id]
                self._machine.save()

    def _start(self, server_id: str) -> None:
        domain = self._machine.state.domains[server_id]
        if domain.power_state is PowerState.RUNNING:
            return
        for uuid, handle in domain.devices.items():
            if handle not in self._machine.state.mdevs and handle not in self._machine.state.vf_types:
                self._machine.save()
                raise DeviceMissing(f"The domain {domain.name} cannot start: its vGPU {uuid} does not exist.")
            if self._machine.holds(handle):
                self._machine.save()
                raise HypervisorError(f"The domain {domain.name} cannot start: another domain holds its vGPU {uuid}.")
        domain.power_state = PowerState.RUNNING

    @staticmethod
    def _report(uuid: str, domain: MachineDomain) -> DomainReport:
        return DomainReport(uuid, domain.name, domain.power_state, tuple(domain.devices), uuid if domain.ours else None)
