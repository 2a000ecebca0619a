"""How things stand when they are asked for: counted in the database, not remembered."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from lamina.model.gpus import VgpuState
from lamina.operations.control_plane import ControlPlane
from lamina.store import hosts, queue, repairs, sagas

#: those that records have; the others only hosts know, who are not asked for this
_RECORDED = (VgpuState.PLANNED, VgpuState.PRESENT, VgpuState.ATTACHED)


def of(plane: ControlPlane) -> CollectorRegistry:
    with plane.db.read() as tx:
        known, vgpus = hosts.all_hosts(tx), hosts.count_vgpus(tx)
        waiting, mended, unfinished = queue.count(tx), repairs.count(tx), sagas.count_unfinished(tx)
    now, registry = plane.clock.now(), CollectorRegistry()
    up = sum(host.is_up(now, plane.settings.service_down) for host in known)

    def gauge(name: str, told: str, labels: tuple[str, ...], values: dict[tuple[str, ...], int]) -> None:
        made = Gauge(name, told, labels, registry=registry)
        for words, value in values.items():
            (made.labels(*words) if labels else made).set(value)

    gauge("lamina_hosts", "Hosts, by whether they report.", ("state",), {("up",): up, ("down",): len(known) - up})
    states: dict[tuple[str, ...], int] = {(str(state),): vgpus.get(str(state), 0) for state in _RECORDED}
    gauge("lamina_vgpus", "vGPUs recorded, by state.", ("state",), states)
    gauge("lamina_queue_length", "Servers that wait for room.", (), {(): waiting})
    gauge("lamina_repairs", "Repairs on record, by what was mended and what became of it.", ("what", "outcome"), mended)
    gauge("lamina_operations_unfinished", "Operations that have not ended, by kind and state.", ("kind", "state"), unfinished)
    return registry
