"""A world on which servers come, move and go in an order drawn by lot, what was done least before the rest."""

from __future__ import annotations

import random
from collections.abc import Callable

from lamina.model.errors import LaminaError
from lamina.model.hosts import PowerAction
from lamina.operations import (
    confirm,
    create,
    delete,
    live_migrate,
    pause,
    power,
    rebuild,
    reconcile,
    resize,
    revert,
    shelve,
    suspend,
    unshelve,
)
from lamina.saga.runner import Caller
from lamina.store import servers
from tests.faults.stories import look_twice
from tests.faults.world import CALLER, ONE, PLAIN, TWO, World

#: of two projects
CALLERS = (CALLER, Caller("v", "q", "req-other"))
Ask = Callable[[World, str], object]


def _power(action: PowerAction) -> Ask:
    return lambda world, server_id: power.request(world.plane, CALLER, server_id, action)


def _reboot_host(world: World, server_id: str) -> None:
    host = world.server(server_id).host
    if host is not None:
        world.hosts[host].machine.reboot()
        reconcile.host(world.plane, host)


ASKED: dict[str, Ask] = {
    "resize to two": lambda world, server_id: resize.request(world.plane, CALLER, server_id, TWO),
    "resize to one": lambda world, server_id: resize.request(world.plane, CALLER, server_id, ONE),
    "resize to none": lambda world, server_id: resize.request(world.plane, CALLER, server_id, PLAIN),
    "migrate": lambda world, server_id: resize.request_migration(world.plane, CALLER, server_id),
    "live-migrate": lambda world, server_id: live_migrate.request(world.plane, CALLER, server_id),
    "confirm": lambda world, server_id: confirm.request(world.plane, CALLER, server_id),
    "revert": lambda world, server_id: revert.request(world.plane, CALLER, server_id),
    "soft reboot": _power(PowerAction.SOFT_REBOOT),
    "hard reboot": _power(PowerAction.HARD_REBOOT),
    "stop": _power(PowerAction.OFF),
    "start": _power(PowerAction.ON),
    "pause": lambda world, server_id: pause.pause(world.plane, CALLER, server_id),
    "unpause": lambda world, server_id: pause.unpause(world.plane, CALLER, server_id),
    "suspend": lambda world, server_id: suspend.suspend(world.plane, CALLER, server_id),
    "resume": lambda world, server_id: suspend.resume(world.plane, CALLER, server_id),
    "rebuild": lambda world, server_id: rebuild.request(world.plane, CALLER, server_id, None, {}),
    "shelve": lambda world, server_id: shelve.request(world.plane, CALLER, server_id),
    "unshelve": lambda world, server_id: unshelve.request(world.plane, CALLER, server_id),
    "delete": lambda world, server_id: delete.request(world.plane, CALLER, server_id),
    "reboot the host": _reboot_host,
}


def walk(world: World, seed: str, steps: int, after: Callable[[], None]) -> dict[str, int]:
    """So many things asked for, each carried through; how often each was."""
    dice = random.Random(seed)  # noqa: S311 (no secret)
    done = dict.fromkeys(["create", *ASKED], 0)
    for _ in range(steps):
        alive = [server_id for server_id in _servers(world) if world.server(server_id).deleted_at is None]
        for word in ["create"] if len(alive) < 2 else sorted(done, key=lambda word: (done[word], dice.random())):
            try:
                if word == "create":
                    create.request(world.plane, dice.choice(CALLERS), create.NewServer("s", dice.choice([ONE, ONE, TWO]), None))
                else:
                    ASKED[word](world, dice.choice(alive))
            except LaminaError:
                continue  # not in this state
            done[word] += 1
            break
        world.settle()
        after()
    look_twice(world)
    world.settle()
    return done


def _servers(world: World) -> list[str]:
    with world.plane.db.read() as tx:
        return [server.id for server in servers.page(tx)]
