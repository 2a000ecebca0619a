"""Unshelve: a shelved server is given a host again, and goes on with the disk that it had.

Theory. As a creation, with the kept disk for an image and without a second attempt: a failure gives back what was claimed, and the
server stays shelved, with its image and a fault. Only once the server has gone over to the new disk does the image go.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from lamina.model import limits
from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, PowerState, VgpuReport
from lamina.model.servers import Action, TaskState, VmState
from lamina.operations import disk_images
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Change, Effect, Kind, SagaError, Work
from lamina.scheduling import claim, groups
from lamina.scheduling.filters import Wanted
from lamina.store import aggregates, hosts, images, ports, quotas, servers


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """``zone`` is where it is to be from now on; None leaves it free to be anywhere."""

    image_id: str | None
    zone: str | None
    #: the one host an administrator named
    host: str | None = None


UnshelveWork = Work[ControlPlane, Params]


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """What a caller says of the zone: the name of one, or None for any."""

    name: str | None


def request(plane: ControlPlane, caller: Caller, server_id: str, *, zone: Zone | None = None, host: str | None = None) -> None:
    """Begin to unshelve a server; where no zone is said it stays bound to the one that it was. Raises `NotFound`, `InvalidState`,
    `OverLimit`.
    """
    with plane.db.write() as tx:
        server = servers.get(tx, server_id)
        rule = server.must_allow(Action.UNSHELVE)
        quotas.must_allow(tx, quotas.Owner(server.project_id, server.user_id), asked=limits.asked_by(server.flavor.request))
        servers.update(tx, server_id, plane.clock.now(), task_state=rule.task)
        params = Params(server.shelved_image_id, zone.name if zone is not None else server.pinned_zone, host)
        saga_id = plane.runner.enlist(tx, KIND, server_id, params, caller, action=rule.action)
    plane.runner.wake(saga_id)


def _claim(work: UnshelveWork, tx: sa.Connection) -> claim.Claimed:
    params, now, server = work.params, work.plane.clock.now(), servers.get(tx, work.subject)
    if params.image_id is not None:
        images.get(tx, params.image_id)  # without it the server would come back with another disk
    claimed = claim.claim(
        tx,
        work.plane.index,
        Wanted(
            request=server.flavor.request,
            zone=params.zone,
            host=params.host,
            excluded=servers.left_behind(tx, work.subject),
            networks=ports.networks_of(tx, work.subject),
            aggregates=aggregates.serving(tx, server.flavor.extra_specs),
            company=groups.company(tx, work.subject),
        ),
        claim.Payer(work.subject, "INSTANCE", work.subject, server.project_id, server.user_id, work.id),
        server.flavor.policy or work.plane.settings.policy,
        now=now,
        service_down=work.plane.settings.service_down,
    )
    work.host = claimed.host
    servers.update(tx, work.subject, now, task_state=TaskState.SPAWNING, host=claimed.host, zone=claimed.zone)
    return claimed


def _give_back(work: UnshelveWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    claim.release(tx, work.subject, now=now)
    servers.update(tx, work.subject, now, host=None)


def _make_vgpus(work: UnshelveWork) -> tuple[VgpuReport, ...]:
    return on_hosts.ensure_vgpus(work, "vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _vgpus_made(_work: UnshelveWork, tx: sa.Connection, made: tuple[VgpuReport, ...]) -> None:
    on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)


def _remove_vgpus(work: UnshelveWork) -> None:
    on_hosts.release_vgpus(work, "vgpus_present", work.output(CLAIMED).host, on_hosts.vgpus_of(work, work.subject))


def _run_domain(work: UnshelveWork) -> DomainReport:
    records, flavor = on_hosts.vgpus_of(work, work.subject), on_hosts.server_of(work).flavor
    return on_hosts.ensure_domain(work, "domain_running", work.output(CLAIMED).host, flavor, records, running=True)


def _running(work: UnshelveWork, tx: sa.Connection, domain: DomainReport) -> None:
    hosts.set_vgpus_state(tx, work.subject, work.subject, VgpuState.ATTACHED)
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=domain.power_state)


def _remove_domain(work: UnshelveWork) -> None:
    on_hosts.remove_domain(work, "domain_running", work.output(CLAIMED).host)


def _removed(work: UnshelveWork, tx: sa.Connection, _nothing: None) -> None:
    servers.update(tx, work.subject, work.plane.clock.now(), power_state=PowerState.SHUTDOWN)


def _unshelved(work: UnshelveWork, tx: sa.Connection) -> None:
    now = work.plane.clock.now()
    servers.update(
        tx,
        work.subject,
        now,
        vm_state=VmState.ACTIVE,
        task_state=None,
        pinned_zone=work.params.zone,
        shelved_image_id=None,
        launched_at=now,
        fault=None,
    )


def _discard_image(work: UnshelveWork) -> None:
    if work.params.image_id is not None:
        disk_images.discard(work, work.params.image_id)


def _undone(work: UnshelveWork, tx: sa.Connection, error: SagaError) -> None:
    """The server stays shelved; why it does, its fault tells."""
    now = work.plane.clock.now()
    servers.update(tx, work.subject, now, task_state=None, fault=on_hosts.fault_of(error, now))


CLAIMED: Change[ControlPlane, Params, claim.Claimed] = Change("claimed", _claim, _give_back, claim.Claimed)
KIND: Kind[ControlPlane, Params] = Kind(
    name="unshelve",
    params=Params,
    steps=(
        CLAIMED,
        Effect("vgpus_present", _make_vgpus, _vgpus_made, _remove_vgpus),
        Effect("domain_running", _run_domain, _running, _remove_domain, _removed),
        Change("unshelved", _unshelved),
        Effect("image_removed", _discard_image, irrevocable=True),
    ),
    undone=_undone,
)
