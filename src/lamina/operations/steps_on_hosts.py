"""Steps that several operations share: a server's vGPUs and its domain on one host."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa
import structlog

from lamina.model import config_drive
from lamina.model.errors import DeviceMissing, DeviceRefused, HypervisorError, NotFound
from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, DomainSpec, ImageSource, Nic, PowerAction, PowerState, VgpuReport, VgpuSpec
from lamina.model.servers import Fault, Server
from lamina.operations.control_plane import ControlPlane
from lamina.saga.steps import SagaError, Work
from lamina.store import hosts, images, ports, servers
from lamina.store.hosts import Vgpu

log = structlog.get_logger()
AnyWork = Work[ControlPlane, Any]


def vgpus_of(work: AnyWork, consumer_id: str) -> list[Vgpu]:
    """The recorded vGPUs of the saga's server that this consumer pays for."""
    with work.plane.db.read() as tx:
        return hosts.vgpus_of_server(tx, work.subject, consumer_id)


def server_of(work: AnyWork) -> Server:
    """The saga's server, deleted or not. Raises `NotFound`."""
    with work.plane.db.read() as tx:
        return servers.get(tx, work.subject, deleted=True)


def ensure_vgpus(work: AnyWork, step: str, host: str, records: list[Vgpu]) -> tuple[VgpuReport, ...]:
    """Make recorded vGPUs exist on their host. Without any, the host is not asked."""
    work.host = host
    if not records:
        return ()
    specs = [VgpuSpec(r.uuid, r.server_id, r.address, r.type, r.parent, r.placement) for r in records]
    return work.plane.hosts.of(host).ensure_vgpus(work.call(step), specs)


def record_vgpus(tx: sa.Connection, reports: tuple[VgpuReport, ...], state: VgpuState) -> None:
    """Write down where the host has put them."""
    for report in reports:
        hosts.update_vgpu(tx, report.uuid, parent=str(report.parent), placement=report.placement, state=str(state))


def release_vgpus(work: AnyWork, step: str, host: str, records: list[Vgpu]) -> None:
    """Make recorded vGPUs not exist on their host."""
    work.host = host
    if records:
        work.plane.hosts.of(host).release_vgpus(work.call(step), work.subject, [r.uuid for r in records])


def ensure_domain(work: AnyWork, step: str, host: str, flavor: Flavor, records: list[Vgpu], *, running: bool) -> DomainReport:
    """Make the server's domain exist on a host with these vGPUs."""
    work.host = host
    return work.plane.hosts.of(host).ensure_domain(work.call(step), domain_spec(work, flavor, records, running=running))


def fit_domain(work: AnyWork, step: str, host: str, records: list[Vgpu]) -> DomainReport:
    """Have the server's domain have these vGPUs and no others, whether it runs or not."""
    work.host = host
    spec = domain_spec(work, server_of(work).flavor, records, running=False)
    return work.plane.hosts.of(host).fit_domain(work.call(step), spec)


def standing(work: AnyWork, host: str) -> set[str]:
    """Which vGPUs of ours the host has."""
    work.host = host
    return {v.uuid for gpu in work.plane.hosts.of(host).report().gpus for v in gpu.vgpus if v.ours}


def fit_domain_back(work: AnyWork, step: str, host: str, records: list[Vgpu]) -> DomainReport:
    """`fit_domain` on a way back, which must not fail for what the host has lost in a reboot: its next report makes up for that."""
    there = standing(work, host)
    return fit_domain(work, step, host, [record for record in records if record.uuid in there])


def domain_spec(work: AnyWork, flavor: Flavor, records: list[Vgpu], *, running: bool) -> DomainSpec:
    """The server's domain as it is recorded, with these vGPUs. Raises `NotFound` where what it is rescued with is gone."""
    with work.plane.db.read() as tx:
        server = dataclasses.replace(servers.get(tx, work.subject, deleted=True), flavor=flavor)
        held = ports.of_server(tx, work.subject)
    return DomainSpec(
        server_id=server.id,
        name=f"lamina-{server.id}",
        vcpus=flavor.vcpus,
        memory_mb=flavor.memory_mb,
        disk_gb=flavor.disk_gb,
        vgpus=tuple(r.uuid for r in records),
        running=running,
        image=_image_of(work, server),
        nics=tuple(Nic(port.network, port.mac) for port in held),
        config_drive=config_drive.files(server, held) if config_drive.needed(server) else None,
        rescue=rescue_image(work, server.rescue_image_id),
    )


def rescue_image(work: AnyWork, image_id: str | None) -> ImageSource | None:
    """Raises `NotFound` for one that is gone: without it the server would boot from its own disk."""
    found = _source(work, image_id)
    if image_id is not None and found is None:
        raise NotFound(f"The image {image_id}, which the server is rescued with, is gone.")
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A domain, and the vGPUs that were looked after on the way."""

    domain: DomainReport
    vgpus: tuple[VgpuReport, ...] = ()


def bring_back(work: AnyWork, step: str, host: str, flavor: Flavor, consumer_id: str, *, running: bool) -> Outcome:
    """The server's domain on vGPUs that it had before, which are made anew where its host has lost them in a reboot."""
    records = vgpus_of(work, consumer_id)
    made = ensure_vgpus(work, step, host, records)
    return Outcome(ensure_domain(work, step, host, flavor, records, running=running), made)


def _image_of(work: AnyWork, server: Server) -> ImageSource | None:
    """What the server's disk begins with; an image that was deleted since is none, and the disk that there is stays."""
    return _source(work, server.shelved_image_id or server.image_id)


def _source(work: AnyWork, image_id: str | None) -> ImageSource | None:
    if image_id is None:
        return None
    try:
        with work.plane.db.read() as tx:
            image = images.get(tx, image_id)
    except NotFound:
        return None
    if image.sha512 is None or image.size is None or image.disk_format is None:
        return None
    return ImageSource(image.id, image.sha512, image.size, image.disk_format)


def remove_domain(work: AnyWork, step: str, host: str) -> None:
    work.host = host
    work.plane.hosts.of(host).remove_domain(work.call(step), work.subject)


def power_if_possible(work: AnyWork, step: str, host: str, action: PowerAction) -> PowerState:
    """The power state after an attempt to bring a domain back to it; a domain that cannot run, or is not there, is off.

    Raises `HostUnreachable`, `StaleFence`.
    """
    work.host = host
    try:
        return work.plane.hosts.of(host).set_power(work.call(step), work.subject, action).power_state
    except (HypervisorError, DeviceMissing, DeviceRefused) as error:
        log.info("domain left as it is", host=host, server=work.subject, why=error.message)
        return PowerState.SHUTDOWN


def fault_of(error: SagaError, now: float) -> Fault:
    """What the server's owner reads of a failed operation."""
    return Fault(code=500 if error.status < 500 else error.status, message=error.message, created_at=now, details=f"step {error.step}")
