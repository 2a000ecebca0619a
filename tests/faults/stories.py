"""One story for each kind of operation: how it comes about. The fault suites run every kind through its story.

A kind of operation without a story fails `test_every_kind_has_a_story`, so a new one cannot be added untested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from lamina.model import ids
from lamina.model.gpus import VgpuState
from lamina.model.hosts import Call, DomainSpec, Fence, PowerAction, VgpuSpec
from lamina.model.ids import PciAddress
from lamina.model.policies import PolicyName
from lamina.model.servers import VmState
from lamina.operations import (
    attach,
    confirm,
    create,
    delete,
    detach,
    evacuate,
    live_migrate,
    pause,
    power,
    rebuild,
    reconcile,
    rescue,
    resize,
    revert,
    shelve,
    snapshot,
    steps_on_hosts,
    suspend,
    unshelve,
)
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.scheduling import claim
from lamina.scheduling.claim import Payer
from lamina.scheduling.filters import Wanted
from lamina.store import hosts, sagas, servers
from tests.faults.world import CALLER, CARDS, ONE, PLAIN, TWO, World


@dataclasses.dataclass(frozen=True, slots=True)
class Story:
    """``prepare`` brings a world to where the operation can begin and returns the server; ``begin`` asks for it."""

    kind: str
    prepare: Callable[[World], str]
    begin: Callable[[World, str], str]
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.kind

    def prepared(self, world: World) -> str:
        """Have an empty world be as `prepare` leaves it, at once where that has been done before on its desk."""
        return world.as_after(f"the preparation of {self}", self.prepare)


def _nothing(_world: World) -> str:
    return ""


def _active(world: World) -> str:
    return world.created(TWO).id


def _plain(world: World) -> str:
    return world.created(PLAIN).id


def _stopped(world: World) -> str:
    server_id = _active(world)
    power.request(world.plane, CALLER, server_id, PowerAction.OFF)
    world.settle()
    return server_id


def _paused(world: World) -> str:
    server_id = _active(world)
    pause.pause(world.plane, CALLER, server_id)
    world.settle()
    return server_id


def _broken(world: World) -> str:
    """Stopped and then called broken: what a failed operation leaves."""
    server_id = _stopped(world)
    with world.plane.db.write() as tx:
        servers.update(tx, server_id, world.clock.now(), vm_state=VmState.ERROR)
    return server_id


def _called_down(prepare: Callable[[World], str]) -> Callable[[World], str]:
    """As `prepare` says, on a host that an operator has then called down."""

    def prepared(world: World) -> str:
        server_id = prepare(world)
        host = world.server(server_id).host
        assert host is not None
        with world.plane.db.write() as tx:
            hosts.update_host(tx, host, forced_down=True)
        return server_id

    return prepared


def _evacuated(world: World) -> str:
    server_id = _evacuate(world, _called_down(_active)(world))
    world.settle()
    return server_id


def _suspended(world: World) -> str:
    server_id = _active(world)
    suspend.suspend(world.plane, CALLER, server_id)
    world.settle()
    return server_id


def _shelved(world: World) -> str:
    server_id = _active(world)
    shelve.request(world.plane, CALLER, server_id)
    world.settle()
    return server_id


def _attach(world: World, server_id: str) -> str:
    attach.request(world.plane, CALLER, server_id, world.small)
    return server_id


def _attached_to(prepare: Callable[[World], str]) -> Callable[[World], str]:
    def prepared(world: World) -> str:
        server_id = _attach(world, prepare(world))
        world.settle()
        return server_id

    return prepared


def _detach(world: World, server_id: str) -> str:
    detach.request(world.plane, CALLER, server_id, next(one.uuid for one in world.vgpus(server_id) if one.type == world.small))
    return server_id


def _rescue(world: World, server_id: str) -> str:
    rescue.rescue(world.plane, CALLER, server_id, world.image())
    return server_id


def _rescued(world: World) -> str:
    server_id = _rescue(world, _active(world))
    world.settle()
    return server_id


def _snapshot(world: World, server_id: str) -> str:
    snapshot.request(world.plane, CALLER, server_id, "kept", {"by": "us"})
    return server_id


def _back_up(world: World, server_id: str) -> str:
    snapshot.request(world.plane, CALLER, server_id, "kept", {}, snapshot.Rotation("daily", 1))
    return server_id


def _backed_up(world: World) -> str:
    server_id = _active(world)
    _back_up(world, server_id)
    world.settle()
    return server_id


def _resized(world: World) -> str:
    server_id = _active(world)
    resize.request(world.plane, CALLER, server_id, ONE)
    world.settle()
    return server_id


def _resized_in_place(world: World) -> str:
    server = world.created(TWO)
    resize.request(world.plane, CALLER, server.id, ONE, host=server.host)
    world.settle()
    return server.id


def _create(world: World, _server_id: str) -> str:
    (server,) = create.request(world.plane, CALLER, create.NewServer("s", TWO, None))
    return server.id


def _delete(world: World, server_id: str) -> str:
    delete.request(world.plane, CALLER, server_id)
    return server_id


def _resize(world: World, server_id: str) -> str:
    resize.request(world.plane, CALLER, server_id, ONE)
    return server_id


def _resize_in_place(world: World, server_id: str) -> str:
    resize.request(world.plane, CALLER, server_id, ONE, host=world.server(server_id).host)
    return server_id


def _migrate(world: World, server_id: str) -> str:
    resize.request_migration(world.plane, CALLER, server_id)
    return server_id


def _confirm(world: World, server_id: str) -> str:
    confirm.request(world.plane, CALLER, server_id)
    return server_id


def _revert(world: World, server_id: str) -> str:
    revert.request(world.plane, CALLER, server_id)
    return server_id


def _live_migrate(world: World, server_id: str) -> str:
    live_migrate.request(world.plane, CALLER, server_id)
    return server_id


def _ask(request: Callable[[ControlPlane, Caller, str], None]) -> Callable[[World, str], str]:
    def begin(world: World, server_id: str) -> str:
        request(world.plane, CALLER, server_id)
        return server_id

    return begin


def _rebuild(world: World, server_id: str) -> str:
    rebuild.request(world.plane, CALLER, server_id, None, {"name": "anew"})
    return server_id


def _evacuate(world: World, server_id: str) -> str:
    evacuate.request(world.plane, CALLER, server_id)
    return server_id


def _look_at_all_hosts(world: World, server_id: str) -> str:
    for host in world.hosts:
        reconcile.host(world.plane, host)
    return server_id


def _power(action: PowerAction) -> Callable[[World, str], str]:
    def begin(world: World, server_id: str) -> str:
        power.request(world.plane, CALLER, server_id, action)
        return server_id

    return begin


def _reboot_the_host(world: World, server_id: str) -> str:
    host = world.server(server_id).host
    assert host is not None
    world.hosts[host].machine.reboot()
    reconcile.host(world.plane, host)
    return server_id


def _left_over(world: World) -> str:
    """A server that runs on one host, and on the other what an operation that was given up has left of it: a domain with a vGPU."""
    server = world.created(TWO)
    other = next(name for name in world.hosts if name != server.host)
    leave(world, server.id, other)
    return server.id


def leave(world: World, server_id: str, host: str) -> str:
    """Have a domain with a vGPU of this server stand on a host where no record knows of it; the vGPU's uuid."""
    _, small, _ = CARDS[world.framework]
    uuid, call = ids.new_uuid(), Call("given up", "left", Fence(1, 1))
    compute = world.hosts[host].compute
    place = 0 if world.framework == "mig" else None
    compute.ensure_vgpus(call, [VgpuSpec(uuid, server_id, PciAddress.parse("0000:81:00.0"), small, placement=place)])
    compute.ensure_domain(call, DomainSpec(server_id, f"lamina-{server_id}", 1, 512, 1, (uuid,), running=True))
    return uuid


def _unpaid(world: World) -> str:
    """A server whose migration is over, and still holds what it should have given back."""
    server_id = _resized(world)
    confirm.request(world.plane, CALLER, server_id)
    world.settle()
    server = world.server(server_id)
    with world.plane.db.write() as tx:
        (migration,) = servers.migrations_page(tx)
        payer = Payer(migration.id, "MIGRATION", server_id, server.project_id, server.user_id, "given up")
        wanted = Wanted(ONE.request, None, migration.source_host)
        claim.claim(tx, world.plane.index, wanted, payer, PolicyName.PACK, now=world.clock.now(), service_down=1e9)
        records = hosts.vgpus_of_server(tx, server_id, migration.id)
    specs = [VgpuSpec(r.uuid, server_id, r.address, r.type, r.parent, r.placement) for r in records]
    with world.plane.db.write() as tx:
        epoch = sagas.next_epoch(tx)
    made = world.hosts[migration.source_host].compute.ensure_vgpus(Call("given up", "left", Fence(epoch, 1)), specs)
    with world.plane.db.write() as tx:
        steps_on_hosts.record_vgpus(tx, made, VgpuState.PRESENT)
    return server_id


def look(world: World) -> None:
    """At all hosts and at what is paid for."""
    for host in world.hosts:
        reconcile.host(world.plane, host)
    reconcile.idle(world.plane)


def look_twice(world: World) -> None:
    """As far apart as it takes for what is left over to go."""
    look(world)
    world.clock.sleep(world.plane.settings.orphan_grace)
    look(world)


def _look(world: World, server_id: str) -> str:
    look_twice(world)
    return server_id


STORIES: tuple[Story, ...] = (
    Story("clear", _left_over, _look),
    Story("clear", _unpaid, _look, "clear what a migration holds"),
    Story("create", _nothing, _create),
    Story("delete", _active, _delete),
    Story("delete", _resized, _delete, "delete a resized server"),
    Story("delete", _paused, _delete, "delete a paused server"),
    Story("delete", _suspended, _delete, "delete a suspended server"),
    Story("resize", _active, _resize),
    Story("resize", _stopped, _resize, "resize a stopped server"),
    Story("resize", _active, _resize_in_place, "resize on one host"),
    Story("resize", _active, _migrate, "cold migrate"),
    Story("live_migrate", _active, _live_migrate),
    Story("live_migrate", _paused, _live_migrate, "live-migrate a paused server"),
    Story("live_migrate", _plain, _live_migrate, "live-migrate a plain server"),
    Story("confirm", _resized, _confirm),
    Story("confirm", _resized_in_place, _confirm, "confirm on one host"),
    Story("revert", _resized, _revert),
    Story("revert", _resized_in_place, _revert, "revert on one host"),
    Story("pause", _active, _ask(pause.pause)),
    Story("pause", _paused, _ask(pause.unpause), "unpause"),
    Story("snapshot", _active, _snapshot),
    Story("snapshot", _stopped, _snapshot, "snapshot a stopped server"),
    Story("snapshot", _backed_up, _back_up, "backup with rotation"),
    Story("rescue", _active, _rescue),
    Story("rescue", _stopped, _rescue, "rescue a stopped server"),
    Story("rescue", _broken, _rescue, "rescue a server in error"),
    Story("rescue", _rescued, _ask(rescue.unrescue), "unrescue"),
    Story("restore", _rescued, _reboot_the_host, "restore a rescued server"),
    Story("delete", _rescued, _delete, "delete a rescued server"),
    Story("shelve", _active, _ask(shelve.request)),
    Story("shelve", _stopped, _ask(shelve.request), "shelve a stopped server"),
    Story("shelve", _suspended, _ask(shelve.request), "shelve a suspended server"),
    Story("unshelve", _shelved, _ask(unshelve.request)),
    Story("delete", _shelved, _delete, "delete a shelved server"),
    Story("suspend", _active, _ask(suspend.suspend)),
    Story("suspend", _suspended, _ask(suspend.resume), "resume"),
    Story("attach", _active, _attach),
    Story("attach", _stopped, _attach, "attach to a stopped server"),
    Story("detach", _attached_to(_active), _detach),
    Story("detach", _attached_to(_stopped), _detach, "detach from a stopped server"),
    Story("resize", _attached_to(_active), _resize, "resize a server that was attached to"),
    Story("rebuild", _active, _rebuild),
    Story("rebuild", _stopped, _rebuild, "rebuild a stopped server"),
    Story("rebuild", _broken, _rebuild, "rebuild a server in error"),
    Story("evacuate", _called_down(_active), _evacuate),
    Story("evacuate", _called_down(_broken), _evacuate, "evacuate a server in error"),
    Story("clear_evacuated", _evacuated, _look_at_all_hosts),
    Story("power", _active, _power(PowerAction.OFF), "stop"),
    Story("power", _stopped, _power(PowerAction.ON), "start"),
    Story("power", _active, _power(PowerAction.HARD_REBOOT), "reboot"),
    Story("power", _paused, _power(PowerAction.HARD_REBOOT), "reboot a paused server"),
    Story("power", _suspended, _power(PowerAction.HARD_REBOOT), "reboot a suspended server"),
    Story("restore", _active, _reboot_the_host),
    Story("restore", _paused, _reboot_the_host, "restore a paused server"),
    Story("restore", _suspended, _reboot_the_host, "restore a suspended server"),
    Story("restore", _plain, _reboot_the_host, "restore a plain server"),
    Story("restore", _resized, _reboot_the_host, "restore a resized server"),
)
