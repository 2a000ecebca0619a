"""How a schedule comes to ask for each kind of operation. A kind without a chooser fails `test_simulator`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from lamina.agent.simulated.machine import MachineDomain
from lamina.model import attached
from lamina.model.flavors import Flavor
from lamina.model.hosts import PowerAction, PowerState
from lamina.model.servers import Server, VmState
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
    rescue,
    resize,
    revert,
    shelve,
    snapshot,
    suspend,
    unshelve,
)
from lamina.store import hosts, servers
from tests.faults.simulator.scene import Scene
from tests.faults.world import CALLER, CARDS, ONE, PLAIN, TWO, flavor


@dataclasses.dataclass(frozen=True, slots=True)
class Chooser:
    """``ask(scene, server, draw)`` asks for the operation; ``suits`` are the states of servers it is mostly asked for."""

    kind: str
    ask: Callable[[Scene, Server, int], None]
    suits: frozenset[VmState] = frozenset()
    weight: int = 1


def flavors(scene: Scene) -> tuple[Flavor, ...]:
    _, _, large = CARDS[scene.framework]
    trait = "CUSTOM_" + "".join(c if c.isalnum() else "_" for c in large.upper())
    return PLAIN, ONE, TWO, flavor("large", resources__VGPU="1", **{f"trait__{trait}": "required"})


def _create(scene: Scene, _server: Server, draw: int) -> None:
    wanted = flavors(scene)[(1, 2, 3, 1, 2, 0, 3, 2)[draw % 8]]
    create.request(scene.plane, CALLER, create.NewServer("s", wanted, None, networks=("public",)))


def _resize(scene: Scene, server: Server, draw: int) -> None:
    wanted = flavors(scene)[draw % 4]
    host = server.host if draw % 3 == 0 else None
    resize.request(scene.plane, CALLER, server.id, wanted, host=host)


def _migrate(scene: Scene, server: Server, _draw: int) -> None:
    resize.request_migration(scene.plane, CALLER, server.id)


def _power(scene: Scene, server: Server, draw: int) -> None:
    if server.vm_state is VmState.STOPPED and draw % 4:
        wanted = PowerAction.ON
    else:
        wanted = (PowerAction.OFF, PowerAction.HARD_REBOOT, PowerAction.SOFT_REBOOT)[draw % 3]
    power.request(scene.plane, CALLER, server.id, wanted)


def _restore(scene: Scene, server: Server, _draw: int) -> None:
    """Its host reboots, and is looked at."""
    if server.host is not None:
        scene.sites[server.host].reboot()
        scene.look_at(server.host)


def _evacuate(scene: Scene, server: Server, draw: int) -> None:
    """An operator calls its host down, which mostly does not answer indeed."""
    if server.host is not None:
        scene.call_down(server.host, silent=draw % 3 > 0)
    evacuate.request(scene.plane, CALLER, server.id)


def _clear_evacuated(scene: Scene, server: Server, _draw: int) -> None:
    """What it was evacuated from comes back, and is looked at."""
    with scene.plane.db.read() as tx:
        left = servers.left_behind(tx, server.id)
    for name in sorted(left):
        scene.lines[name].cut = False
        scene.look_at(name)


def _pause(scene: Scene, server: Server, _draw: int) -> None:
    (pause.unpause if server.vm_state is VmState.PAUSED else pause.pause)(scene.plane, CALLER, server.id)


def _suspend(scene: Scene, server: Server, _draw: int) -> None:
    (suspend.resume if server.vm_state is VmState.SUSPENDED else suspend.suspend)(scene.plane, CALLER, server.id)


def _attach(scene: Scene, server: Server, _draw: int) -> None:
    attach.request(scene.plane, CALLER, server.id, scene.small)


def _detach(scene: Scene, server: Server, draw: int) -> None:
    """What was attached; where nothing was, something is."""
    with scene.plane.db.read() as tx:
        held = [one for one in hosts.vgpus_of_server(tx, server.id, server.id) if one.type == scene.small]
    if attached.of(server.flavor) and held:
        detach.request(scene.plane, CALLER, server.id, held[draw % len(held)].uuid)
    else:
        _attach(scene, server, draw)


def _rescue(scene: Scene, server: Server, _draw: int) -> None:
    if server.vm_state is VmState.RESCUED:
        rescue.unrescue(scene.plane, CALLER, server.id)
    else:
        rescue.rescue(scene.plane, CALLER, server.id, scene.image())


def _unshelve(scene: Scene, server: Server, _draw: int) -> None:
    unshelve.request(scene.plane, CALLER, server.id)


def _snapshot(scene: Scene, server: Server, draw: int) -> None:
    rotation = snapshot.Rotation("daily", draw % 2) if draw % 3 == 0 else None
    snapshot.request(scene.plane, CALLER, server.id, "kept", {}, rotation)


def _clear(scene: Scene, server: Server, _draw: int) -> None:
    """What an operation that was given up has left of it is on another host, and is looked at twice."""
    if server.host is None:
        return
    other = next(name for name in sorted(scene.sites) if name != server.host)
    site, name = scene.sites[other], f"lamina-{server.id}"
    if server.id not in site.machine.state.domains:
        left = MachineDomain(name, 1, 512, 0, None, {}, PowerState.SHUTDOWN, ours=True)
        site.machine.state.domains[server.id] = left
        scene.left_over.add(server.id)
    scene.look_at(other)
    scene.clock.sleep(scene.plane.settings.orphan_grace)
    scene.look_at(other)


_RESTING = frozenset({VmState.ACTIVE, VmState.STOPPED})
CHOOSERS: tuple[Chooser, ...] = (
    Chooser("create", _create, weight=5),
    Chooser("delete", lambda scene, server, _: delete.request(scene.plane, CALLER, server.id), frozenset(VmState) - {VmState.DELETED}, 2),
    Chooser("resize", _resize, _RESTING, 3),
    Chooser("resize", _migrate, _RESTING, 1),
    Chooser(
        "live_migrate",
        lambda scene, server, _: live_migrate.request(scene.plane, CALLER, server.id),
        frozenset({VmState.ACTIVE, VmState.PAUSED}),
        3,
    ),
    Chooser("confirm", lambda scene, server, _: confirm.request(scene.plane, CALLER, server.id), frozenset({VmState.RESIZED}), 2),
    Chooser("revert", lambda scene, server, _: revert.request(scene.plane, CALLER, server.id), frozenset({VmState.RESIZED}), 2),
    Chooser("power", _power, _RESTING | {VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR}, 2),
    Chooser("pause", _pause, frozenset({VmState.ACTIVE, VmState.PAUSED}), 1),
    Chooser("suspend", _suspend, frozenset({VmState.ACTIVE, VmState.SUSPENDED}), 2),
    Chooser("rescue", _rescue, _RESTING | {VmState.RESCUED, VmState.ERROR}, 2),
    Chooser("snapshot", _snapshot, _RESTING | {VmState.PAUSED, VmState.SUSPENDED}, 1),
    Chooser("shelve", lambda scene, server, _: shelve.request(scene.plane, CALLER, server.id), _RESTING | {VmState.SUSPENDED}, 1),
    Chooser("unshelve", _unshelve, frozenset({VmState.SHELVED_OFFLOADED}), 2),
    Chooser("attach", _attach, _RESTING, 1),
    Chooser("detach", _detach, _RESTING, 2),
    Chooser("rebuild", lambda scene, server, _: rebuild.request(scene.plane, CALLER, server.id, None, {}), _RESTING | {VmState.ERROR}, 1),
    Chooser("clear", _clear, _RESTING, 1),
    Chooser("evacuate", _evacuate, _RESTING | {VmState.ERROR}, 2),
    Chooser("clear_evacuated", _clear_evacuated, _RESTING, 1),
    Chooser("restore", _restore, _RESTING | {VmState.RESIZED, VmState.PAUSED, VmState.SUSPENDED}, 1),
)
