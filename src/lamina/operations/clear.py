"""Clear: what is left of a server where nothing of it should be goes, and what it should pay for no longer is free.

Theory. What a look at a host has found is a hint, however old it is by now. The saga holds its server's subject, as every operation
on the server does; so while it runs nothing can begin that would make what it removes, and of two control planes that saw the
same one begins it. In its one step it asks the records once more what belongs there, removes what still does not, and the host
refuses whatever an older operation may yet say of the server, because its calls have a lower epoch. A vGPU's uuid comes from the operation
that made it, so what no record has now none will have later. What the host's journal or the domain's metadata does not call Lamina's
the host leaves alone. Removing what is gone is nothing, so the step may be repeated; where it fails, all that remains is still seen
by the next look. Allocations go last, in the commit that ends the saga: until then they pay for what may be there.
"""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa
import structlog

from lamina.operations import comparison, disk_images
from lamina.operations import steps_on_hosts as on_hosts
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.saga.steps import Effect, Kind, SagaError, Work
from lamina.scheduling import claim
from lamina.store import hosts, servers, stale_consumers
from lamina.store.tables.hosts import vgpus

log = structlog.get_logger()
_STEP = "cleared"


@dataclasses.dataclass(frozen=True, slots=True)
class Params:
    """What was seen: vGPUs and the domain of the server on `host`, a consumer that is to pay no longer, or its disk in the depot."""

    host: str | None = None
    vgpus: tuple[str, ...] = ()
    domain: bool = False
    consumer_id: str | None = None
    depot: bool = False


ClearWork = Work[ControlPlane, Params]


def enlist(plane: ControlPlane, tx: sa.Connection, caller: Caller, server_id: str, params: Params) -> str:
    """Write the saga into the caller's transaction. Raises `AlreadyExists` while another operation holds the server."""
    return plane.runner.enlist(tx, KIND, server_id, params, caller, action=KIND.name)


def _clear(work: ClearWork) -> None:
    params = work.params
    if params.host is not None:
        left, domain = _left_over(work, params.host)
        if domain:
            on_hosts.remove_domain(work, _STEP, params.host)
        if left:
            work.host = params.host
            work.plane.hosts.of(params.host).release_vgpus(work.call(_STEP), work.subject, left)
    if params.consumer_id is not None:
        with work.plane.db.read() as tx:
            stale = stale_consumers.find(tx, params.consumer_id)
            records = hosts.select_vgpus(tx, vgpus.c.consumer_id == params.consumer_id) if stale else []
        for host in sorted({record.host for record in records}):
            on_hosts.release_vgpus(work, _STEP, host, [record for record in records if record.host == host])
    if params.depot:  # whoever passes a disk through it holds the server's subject, as this does
        disk_images.clear_depot(work)


def _left_over(work: ClearWork, host: str) -> tuple[list[str], bool]:
    """What of what was seen still belongs to nobody: vGPUs, and whether the domain."""
    with work.plane.db.read() as tx:
        records = hosts.select_vgpus(tx, vgpus.c.host == host, vgpus.c.server_id == work.subject)
        server = servers.find(tx, work.subject)
        moving = work.subject in servers.moving(tx, host).values()
        evacuated = host in servers.left_behind(tx, work.subject)
    if evacuated:
        return [], False
    recorded = {record.uuid for record in records}
    stays = comparison.belongs(server, host, moving=moving or bool(records))
    return [uuid for uuid in work.params.vgpus if uuid not in recorded], work.params.domain and not stays


def _cleared(work: ClearWork, tx: sa.Connection, _nothing: None) -> None:
    consumer_id = work.params.consumer_id
    if consumer_id is not None and stale_consumers.find(tx, consumer_id):
        claim.release(tx, consumer_id, now=work.plane.clock.now())


def _undone(work: ClearWork, _tx: sa.Connection, error: SagaError) -> None:
    """The server is as it was; what is left is seen again."""
    log.warning("not cleared", server=work.subject, host=work.params.host, consumer=work.params.consumer_id, why=error.message)


KIND: Kind[ControlPlane, Params] = Kind(
    name="clear",
    params=Params,
    steps=(Effect(_STEP, _clear, _cleared),),
    undone=_undone,
)
