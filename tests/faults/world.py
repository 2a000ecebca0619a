"""A whole Lamina in one process, moved by hand: simulated machines, agents, a control plane on virtual time.

The machines keep their state on disk as real ones keep theirs, so a control plane can be killed (simply dropped) and
another begun on the same state. `World.check` holds the promises against what the machines really have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lamina.agent.hypervisors.simulated import SimulatedHypervisor
from lamina.agent.simulated.fleet import Fleet, parse_fleet
from lamina.agent.simulated.host import simulated_host
from lamina.hosts.directory import Compute, Hosts
from lamina.model import ids
from lamina.model.errors import CorruptRecord
from lamina.model.flavors import Flavor
from lamina.model.gpus import VgpuState
from lamina.model.hosts import HostReport, Nic, PowerState
from lamina.model.networks import Port
from lamina.model.servers import Server, VmState
from lamina.model.settings import Settings
from lamina.operations import create, reconcile
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.saga.probe import Probe
from lamina.saga.runner import Caller
from lamina.saga.steps import Kind
from lamina.store import hosts, images, ports, providers, sagas, servers
from lamina.store.database import Database
from lamina.store.tables.compute import ports as port_rows
from lamina.store.tables.placement import allocations, consumers
from tests.empty_database import empty_database
from tests.faults.desk import Desk

CALLER = Caller(user_id="u", project_id="p", request_id="req-test")

FLEET = """
hosts:
  - name: host
    count: 2
    vcpus: 32
    memory_mb: 65536
    disk_gb: 500
    networks: [public]
    gpus:
      - {address: "0000:81:00.0", CARD, enabled_types: [SMALL]}
      - {address: "0000:82:00.0", CARD, enabled_types: [SMALL, LARGE]}
"""
TYPES = (
    "[{name: nvidia-11, max_instances: 4, framebuffer_mb: 512}, {name: nvidia-12, max_instances: 2, framebuffer_mb: 1024}]"
)
#: how vGPUs are made -> the card, its small type and its large one
CARDS = {
    "mdev": (f"framework: mdev, types: {TYPES}", "nvidia-11", "nvidia-12"),
    # one function more than there can be vGPUs: each costs time at every look
    "vfio": (f"framework: vfio, virtual_functions: 5, types: {TYPES}", "nvidia-11", "nvidia-12"),
    "mig": ("framework: vfio, model: nvidia-h100-pcie, partitioning: mig", "NVIDIA H100-1-10C", "NVIDIA H100-2-20C"),
}
FRAMEWORKS = ("mdev", "vfio")


class VirtualClock:
    """Time that passes only when somebody sleeps, or when told."""

    def __init__(self) -> None:
        self._now = time.time()

    def now(self) -> float:
        self._now += 0.001  # no two moments are the same
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


class Killed(BaseException):
    """The process died here. Not an Exception, so that nothing in Lamina can catch it."""


def flavor(name: str, **extra_specs: str) -> Flavor:
    return Flavor(
        id=name, name=name, vcpus=1, memory_mb=512, disk_gb=1, extra_specs={k.replace("__", ":"): v for k, v in extra_specs.items()}
    )


PLAIN = flavor("plain")
ONE = flavor("one", resources__VGPU="1")
TWO = flavor("two", resources__VGPU="2")


def described(framework: str) -> str:
    card, small, large = CARDS[framework]
    return FLEET.replace("CARD", card).replace("SMALL", small).replace("LARGE", large)


@functools.cache
def fleet(text: str) -> Fleet:
    return parse_fleet(text)


def _first_look(world: World) -> str:
    world.begin()
    return ""


class World:
    """Machines that outlive control planes. `wrap` may stand between the control plane and each host.

    The records are in the database at `url`, which has this version's schema, or in a SQLite file that is made anew if `fresh`.
    """

    @classmethod
    def on(cls, desk: Desk, framework: str) -> World:
        """In memory, on a database that every control plane of this process has in turn."""
        return cls(desk.place(), framework, desk=desk)

    def __init__(self, state: Path, framework: str, *, fresh: bool = True, url: str | None = None, desk: Desk | None = None) -> None:
        self.state = state
        self.framework = framework
        self._desk = desk
        self.clock = VirtualClock()
        self._described = described(framework)
        self.fleet = fleet(self._described)
        (state / "images").mkdir(parents=True, exist_ok=True)
        self._url = url or f"sqlite:///{state / 'lamina.db'}"
        if fresh and url is None and desk is None:
            (state / "lamina.db").write_bytes(empty_database())
        if fresh:
            self.as_after("the first look", _first_look)
        else:
            self.begin()

    def as_after(self, name: str, prepare: Callable[[World], str]) -> str:
        """Have this world be as `prepare` leaves it; what that says. On a desk it is done once, and put back from then on as it was left:
        to a control plane that begins on it anew.
        """
        if self._desk is None:
            return prepare(self)
        key = f"{name} {self._described}"
        if not self._desk.keeps(key):
            said = prepare(self)
            self._desk.keep_place(key, self.state, (self.clock.now(), said))
        self.state, (now, said) = self._desk.place_again(key)
        self.clock.sleep(now - self.clock.now())
        self._switch_on()
        return said

    def begin(
        self,
        kinds: Iterable[Kind[ControlPlane, Any]] = KINDS,
        *,
        probe: Probe | None = None,
        wrap: Callable[[Compute], Compute] = lambda compute: compute,
        alone: bool = True,
    ) -> ControlPlane:
        """A new control plane, with new agents, on the state that is there; the one before is simply gone."""
        self._switch_on(kinds, probe=probe, wrap=wrap, alone=alone)
        for name in self.plane.hosts.names():
            with contextlib.suppress(CorruptRecord):  # the host's own; a round says so and goes on
                reconcile.host(self.plane, name)
        return self.plane

    def _switch_on(
        self,
        kinds: Iterable[Kind[ControlPlane, Any]] = KINDS,
        *,
        probe: Probe | None = None,
        wrap: Callable[[Compute], Compute] = lambda compute: compute,
        alone: bool = True,
    ) -> None:
        directory = Hosts()
        neighbours: dict[str, SimulatedHypervisor] = {}
        self.hosts = {
            described.name: simulated_host(described, self.state, self.clock, neighbours=neighbours) for described in self.fleet.hosts
        }
        for name, host in self.hosts.items():
            directory.join(name, wrap(host.compute), host.machine.reboot)
        settings, db = Settings(state=self.state), self._desk.db if self._desk else Database(self._url)
        self.plane = ControlPlane.assemble(settings, db, self.clock, directory, kinds, alone=alone, probe=probe)

    @property
    def small(self) -> str:
        """The type that every card here can make."""
        return CARDS[self.framework][1]

    # ------------------------------------------------------------------------------------------------ moving it

    def settle(self, most: int = 1000) -> None:
        """Take up what was left, and advance everything of this process until nothing moves."""
        self.plane.runner.take_over()
        for _ in range(most):
            if not self.step():
                return
        raise AssertionError("operations do not come to an end")

    def step(self) -> bool:
        """One move of each operation; False when none can move. One that ends may have begun another."""
        pending = [row.id for row in self.operations()]
        moved = [self.plane.runner.advance(saga_id) for saga_id in pending]
        return any(moved) or pending != [row.id for row in self.operations()]

    def create(self, wanted: Flavor, count: int = 1, **more: Any) -> list[Server]:
        more = {"networks": ("public",)} | more
        return create.request(self.plane, CALLER, create.NewServer("s", wanted, None, count=count, **more))

    def created(self, wanted: Flavor, **more: Any) -> Server:
        (server,) = self.create(wanted, **more)
        self.settle()
        return self.server(server.id)

    def image(self) -> str:
        """The id of an image; simulated hosts do not ask for its content."""
        now, image_id = self.clock.now(), ids.new_uuid()
        content = {"disk_format": "raw", "size": 1, "virtual_size": 1, "checksum": "ab" * 16, "sha512": "ab" * 64}
        with self.plane.db.write() as tx:
            images.add(tx, dataclasses.replace(images.Image(image_id, "p", now, now, status="active"), **content))  # type: ignore[arg-type]
        return image_id

    def server(self, server_id: str) -> Server:
        with self.plane.db.read() as tx:
            return servers.get(tx, server_id, deleted=True)

    def vgpus(self, server_id: str) -> list[hosts.Vgpu]:
        with self.plane.db.read() as tx:
            return hosts.vgpus_of_server(tx, server_id)

    def operations(self) -> Sequence[sagas.SagaRow]:
        with self.plane.db.read() as tx:
            return sagas.unfinished(tx)

    # ------------------------------------------------------------------------------------------------ the promises

    def check(self) -> None:
        """With nothing in flight: what the machines have = what is recorded = what is paid for."""
        assert self.operations() == [], "operations are in flight"
        with self.plane.db.read() as tx:
            recorded = hosts.select_vgpus(tx)
            alive = {s.id: s for s in servers.page(tx) if s.deleted_at is None}
            paid = {
                (row.consumer_id, row.provider_id): row.used
                for row in tx.execute(sa.select(allocations).where(allocations.c.resource_class == "VGPU"))
            }
            owners = set(tx.scalars(sa.select(consumers.c.id)))
            pending = {m.id: m for m in servers.migrations_page(tx) if m.status == "finished"}
            left = {m.id: m for m in servers.evacuations(tx)}
            trees = providers.load_trees(tx)
            kept = {image.id: image for image in images.page(tx, limit=10_000)}
            held = ports.of_servers(tx, tx.scalars(sa.select(port_rows.c.server_id)).all())
        reports = {name: self.plane.hosts.of(name).report() for name in self.plane.hosts.names()}
        self._check_devices(reports, recorded)
        self._check_payment(recorded, paid, owners, alive, pending | left)
        self._check_domains(reports, recorded, alive, pending | left)
        self._check_disks(alive, pending, left)
        self._check_interfaces(held, alive)
        self._check_images(kept, alive)
        for tree in trees:
            for provider in tree.providers:
                for name, inventory in provider.inventories.items():
                    assert provider.used.get(name, 0) <= inventory.capacity, f"{provider.name} gives more {name} than it has"

    def _check_devices(self, reports: dict[str, HostReport], recorded: list[hosts.Vgpu]) -> None:
        for name, report in reports.items():
            there = {v.uuid: (v.type, v.gpu, v.parent, v.placement) for g in report.gpus for v in g.vgpus if v.ours}
            wanted = {v.uuid: (v.type, v.address, v.parent, v.placement) for v in recorded if v.host == name}
            assert there == wanted, f"{name}: devices and records differ"
            instances = [(gpu, g.start) for gpu, some in self.hosts[name].machine.state.gpu_instances.items() for g in some.values()]
            stood_on = {(str(gpu), start) for _, gpu, _, start in there.values() if start is not None}
            assert sorted(instances) == sorted(stood_on), f"{name}: GPU instances and the vGPUs on them differ"
            parents = [(v.gpu, v.parent) for g in report.gpus for v in g.vgpus if v.parent != v.gpu]
            assert len(parents) == len(set(parents)), f"{name}: a VF given twice"
        assert all(v.state is not VgpuState.PLANNED for v in recorded)

    def _check_payment(
        self,
        recorded: list[hosts.Vgpu],
        paid: dict[tuple[str, str], int],
        owners: set[str],
        alive: dict[str, Server],
        pending: dict[str, Any],
    ) -> None:
        held: dict[tuple[str, str], int] = {}
        for vgpu in recorded:
            held[vgpu.consumer_id, vgpu.provider_id] = held.get((vgpu.consumer_id, vgpu.provider_id), 0) + 1
            assert vgpu.server_id in alive or vgpu.consumer_id in pending, "a vGPU without its server"
        assert held == paid, "records and allocations differ"
        placed = {s.id for s in alive.values() if s.host is not None}
        assert owners == placed | pending.keys(), "a consumer without its server or migration, or the reverse"

    def _check_domains(
        self, reports: dict[str, HostReport], recorded: list[hosts.Vgpu], alive: dict[str, Server], pending: dict[str, Any]
    ) -> None:
        sources = {m.server_id: m for m in pending.values() if m.status == "finished"}
        for name, report in reports.items():
            domains = {d.server_id: d for d in report.domains if d.server_id}
            wanted = {s.id for s in alive.values() if s.host == name}
            wanted |= {m.server_id for m in pending.values() if m.source_host == name}
            assert set(domains) == wanted, f"{name}: domains and servers differ"
            for server_id, domain in domains.items():
                server = alive[server_id]
                if server.host == name:
                    assert domain.power_state is server.power_state, f"{server_id}: power state"
                    own = {v.uuid for v in recorded if v.consumer_id == server_id}
                    assert set(domain.vgpus) == own, f"{server_id}: its domain holds other vGPUs than it pays for"
                    running = server.vm_state in (VmState.ACTIVE, VmState.RESIZED)
                    if server_id not in sources and server.vm_state is not VmState.RESCUED:
                        assert (domain.power_state is PowerState.RUNNING) == running, f"{server_id}: {server.vm_state}"
                        suspended = domain.power_state is PowerState.SUSPENDED
                        broken = server.vm_state is VmState.ERROR
                        assert broken or suspended == (server.vm_state is VmState.SUSPENDED), f"{server_id}: {server.vm_state}"
                else:
                    assert domain.power_state is PowerState.SHUTDOWN, f"{server_id} runs on its source too"

    def _check_disks(self, alive: dict[str, Server], pending: dict[str, Any], left: dict[str, Any]) -> None:
        """Each server has its one disk where its domain is, and the same on both sides of a resize; nothing lies between hosts."""
        for name, host in self.hosts.items():
            wanted = {s.id for s in alive.values() if s.host == name}
            wanted |= {m.server_id for m in (pending | left).values() if m.source_host == name}
            assert host.machine.state.disks.keys() == wanted, f"{name}: disks and servers differ"
        for migration in pending.values():
            sides = {self.hosts[name].machine.state.disks[migration.server_id] for name in (migration.source_host, migration.dest_host)}
            assert len(sides) == 1, f"{migration.server_id}: its disk was not carried along"
        assert not list(self.plane.settings.depot.glob("*")), "a disk was left between two hosts"

    def _check_interfaces(self, held: dict[str, list[Port]], alive: dict[str, Server]) -> None:
        assert held.keys() <= alive.keys(), "a port without its server"
        for name, host in self.hosts.items():
            for server_id, domain in host.machine.state.domains.items():
                if domain.ours:
                    wanted = tuple(Nic(port.network, port.mac) for port in held.get(server_id, ()))
                    assert domain.nics == wanted, f"{name}: the interfaces of {server_id} are not its ports"
                    if server_id in alive and alive[server_id].host == name and not domain.power_state.is_off:
                        assert domain.rescue_image_id == alive[server_id].rescue_image_id, f"{server_id} has booted from something else"

    def _check_images(self, kept: dict[str, images.Image], alive: dict[str, Server]) -> None:
        """Each is whole, and there is no content but theirs; a shelved server has its own."""
        on_disk = {path.name for path in self.plane.settings.images.iterdir()}
        made = {image_id for image_id, image in kept.items() if "instance_uuid" in image.properties}
        assert on_disk == made, "images and their contents differ"
        assert all(kept[image_id].status == "active" for image_id in made), "an image was left half made"
        for server in alive.values():
            shelved = server.vm_state is VmState.SHELVED_OFFLOADED
            assert shelved == (server.shelved_image_id is not None), f"{server.id}: shelved without its disk, or the reverse"
            assert not shelved or server.shelved_image_id in made, f"{server.id}: the image of its disk is gone"

    def free(self) -> dict[str, int]:
        """VGPU used per provider: all zero when nothing is held."""
        with self.plane.db.read() as tx:
            return {p.name: sum(p.used.values()) for t in providers.load_trees(tx) for p in t.providers if sum(p.used.values())}


class At:
    """A probe that does something the n-th time a point is reached (counted from 1)."""

    def __init__(self, point: str, step: str, act: Callable[[], None], nth: int = 1) -> None:
        self._wanted = (point, step)
        self._act = act
        self._left = itertools.count(nth, -1)
        self.fired = False

    def at(self, point: str, saga_id: str, step: str) -> None:
        if (point, step) == self._wanted and not self.fired and next(self._left) == 1:
            self.fired = True
            self._act()


def die() -> None:
    raise Killed


def with_step(kind: Kind[ControlPlane, Any], name: str, **changes: Any) -> Kind[ControlPlane, Any]:
    """The kind with parts of one step replaced."""
    steps = tuple(dataclasses.replace(s, **changes) if s.name == name else s for s in kind.steps)
    return dataclasses.replace(kind, steps=steps)


def replaced(kind: Kind[ControlPlane, Any]) -> tuple[Kind[ControlPlane, Any], ...]:
    """All kinds, this one in the place of its namesake."""
    return tuple(kind if k.name == kind.name else k for k in KINDS)


