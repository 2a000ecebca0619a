"""Capacity is what can be made: on one card of each kind, filled, thinned out and filled again over HTTP.

What the driver allows is said here once more, as lists, and every layout and every refusal is held against them.
"""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Mapping
from typing import Any

import pytest
from openstack.connection import Connection

from tests.scenario.cloud import Cloud, eventually, host
from tests.scenario.conftest import Launch

ADDRESS = "0000:81:00.0"
#: type -> size in slots, starts
Shapes = Mapping[str, tuple[int, tuple[int, ...]]]

MIXED: Shapes = {
    "NVIDIA L40S-8Q": (8, (0, 16, 24, 40)),
    "NVIDIA L40S-12Q": (12, (0, 12, 24, 36)),
    "NVIDIA L40S-16Q": (16, (0, 32)),
    "NVIDIA L40S-24Q": (24, (0, 24)),
}
MIG: Shapes = {
    "NVIDIA H100-1-10C": (1, (0, 1, 2, 3, 4, 5, 6)),
    "NVIDIA H100-1-20C": (2, (0, 2, 4, 6)),
    "NVIDIA H100-2-20C": (2, (0, 2, 4)),
    "NVIDIA H100-3-40C": (4, (0, 4)),
    "NVIDIA H100-4-40C": (4, (0,)),
}
#: type -> size in GiB, most on the card
A16 = {"NVIDIA A16-2Q": (2, 8), "NVIDIA A16-4Q": (4, 4), "NVIDIA A16-8C": (8, 2), "NVIDIA A16-8Q": (8, 2)}


def trait(vgpu_type: str) -> str:
    return "CUSTOM_" + vgpu_type.upper().replace(" ", "_").replace("-", "_")


class Card:
    """The one GPU of a cloud, with a flavor for each of its types."""

    def __init__(self, cloud: Cloud, types: list[str]) -> None:
        self.cloud, self.types = cloud, types
        self.conn: Connection = cloud.connect()
        self.flavors = {t: self._flavor(t, t) for t in types}
        #: for a resize from a type to the same one, as a resize is always to another flavor
        self.twins = {t: self._flavor(f"{t} again", t) for t in types}
        self.names = itertools.count()

    def _flavor(self, name: str, vgpu_type: str) -> Any:
        return self.cloud.flavor(self.conn, name, resources__VGPU="1", **{f"trait__{trait(vgpu_type)}": "required"})

    def gpu(self) -> dict[str, Any]:
        (gpu,) = self.cloud.fleet(self.conn, "/gpus")["gpus"]
        return dict(gpu)

    def room(self) -> dict[str, int]:
        """What the fleet's capacity says of each type; the sums of one GPU are that GPU's own."""
        told = self.cloud.fleet(self.conn, "/capacity")["capacity"]
        (one,) = told["hosts"]
        (gpu,) = one["gpus"]
        assert told["types"] == one["types"] == gpu["types"]
        assert all(t["repacked"] >= t["now"] for t in gpu["types"])
        return {t["name"]: t["now"] for t in gpu["types"]}

    def create(self, vgpu_type: str) -> str | None:
        """A new server's id, or None where none could be made; nothing is left of it then."""
        server = self.cloud.server(self.conn, f"s{next(self.names)}", self.flavors[vgpu_type])
        if server.status == "ACTIVE":
            return str(server.id)
        assert server.status == "ERROR"
        assert "No valid host" in server.fault["message"], server.fault
        self.cloud.delete(self.conn, server.id)
        return None

    def resize(self, server_id: str, vgpu_type: str) -> bool:
        """Whether it could be resized on its host, where both sides need room until it is confirmed."""
        same = self.conn.compute.get_server(server_id).flavor.original_name == vgpu_type
        if self.cloud.resize(self.conn, server_id, (self.twins if same else self.flavors)[vgpu_type]).status != "VERIFY_RESIZE":
            return False
        self.conn.compute.confirm_server_resize(server_id)
        self.cloud.settled(self.conn, server_id, "ACTIVE")
        return True

    def spots(self) -> list[tuple[str, int]]:
        """Type and start of each vGPU, as recorded and as the kernel's files say."""
        recorded = sorted((v["type"], v["placement"]) for v in self.gpu()["vgpus"])
        assert self.cloud.counts(self.conn, "host1") == len(recorded)
        return recorded


def slots(spots: list[tuple[str, int]], shapes: Shapes) -> list[int]:
    return [slot for t, start in spots for slot in range(start, start + shapes[t][0])]


def free_starts(spots: list[tuple[str, int]], vgpu_type: str, shapes: Shapes) -> list[int]:
    size, starts = shapes[vgpu_type]
    taken = set(slots(spots, shapes))
    return [start for start in starts if not taken & set(range(start, start + size))]


def most(spots: list[tuple[str, int]], vgpu_type: str, shapes: Shapes) -> int:
    """How many more fit, by trying every start for each."""
    free = free_starts(spots, vgpu_type, shapes)
    return max((1 + most([*spots, (vgpu_type, start)], vgpu_type, shapes) for start in free), default=0)


@pytest.mark.parametrize(("model", "mode", "shapes"), [("nvidia-l40s", "mixed-size", MIXED), ("nvidia-h100-pcie", "mig", MIG)])
def test_a_card_with_slots_is_used_to_the_last_slot(launch: Launch, model: str, mode: str, shapes: Shapes) -> None:
    described = {"address": ADDRESS, "model": model, "framework": "vfio", "partitioning": mode, "enabled_types": list(shapes)}
    card = Card(launch(host("host1", described)), list(shapes))
    chance = random.Random(model)  # noqa: S311 - the same chances every time are wanted
    alive: list[str] = []
    refused: set[str] = set()

    def truth() -> list[tuple[str, int]]:
        spots = card.spots()
        assert len(set(slots(spots, shapes))) == len(slots(spots, shapes)), f"two on one slot: {spots}"
        assert all(start in shapes[t][1] for t, start in spots)
        assert card.room() == {t: most(spots, t, shapes) for t in shapes}
        return spots

    for _turn in range(25):
        spots = truth()
        wanted = chance.choice(list(shapes))
        fits = bool(free_starts(spots, wanted, shapes))
        action = chance.choice(("create", "create", "create", "resize", "delete"))
        if action == "create":
            made = card.create(wanted)
            assert (made is not None) == fits, f"{wanted} beside {spots}"
            alive += [made] if made else []
        elif alive and action == "resize":
            assert card.resize(chance.choice(alive), wanted) == fits, f"resize to {wanted} beside {spots}"
        elif alive:
            card.cloud.delete(card.conn, alive.pop(chance.randrange(len(alive))))
    while len(refused) < len(shapes):
        spots = truth()
        wanted = chance.choice([t for t in shapes if t not in refused])
        if card.create(wanted) is None:
            assert not free_starts(spots, wanted, shapes), f"{wanted} was refused beside {spots}"
            refused.add(wanted)
    assert set(card.room().values()) == {0}
    assert not any(free_starts(card.spots(), t, shapes) for t in shapes)


@pytest.mark.parametrize(("model", "mode", "shapes"), [("nvidia-l40s", "mixed-size", MIXED), ("nvidia-h100-pcie", "mig", MIG)])
def test_as_many_as_are_promised_can_be_made_whatever_stands_there(launch: Launch, model: str, mode: str, shapes: Shapes) -> None:
    described = {"address": ADDRESS, "model": model, "framework": "vfio", "partitioning": mode, "enabled_types": list(shapes)}
    card = Card(launch(host("host1", described)), list(shapes))
    first = card.create(next(iter(shapes)))
    assert first is not None
    for vgpu_type in shapes:
        promised = card.room()[vgpu_type]
        made = [card.create(vgpu_type) for _ in range(promised)]
        assert None not in made
        assert card.room()[vgpu_type] == 0
        assert card.create(vgpu_type) is None
        for server_id in made:
            card.cloud.delete(card.conn, str(server_id))
    inventory = card.cloud.inventory(card.conn, card.cloud.providers(card.conn, "host1")["host1_pci_0000_81_00_0"])
    assert inventory["total"] - inventory["reserved"] - 1 == max(card.room().values())


def test_a_card_of_one_size_at_a_time_on_virtual_functions(launch: Launch) -> None:
    described = {"address": ADDRESS, "model": "nvidia-a16", "framework": "mdev", "enabled_types": list(A16)}
    card = Card(launch(host("host1", described)), list(A16))
    assert card.room() == {t: limit for t, (_, limit) in A16.items()}
    chance = random.Random("a16")  # noqa: S311 - the same chances every time are wanted
    alive: list[str] = []
    for _turn in range(25):
        standing = [v["type"] for v in card.gpu()["vgpus"]]
        assert card.cloud.counts(card.conn, "host1") == len(standing) == len(alive)
        sizes = {A16[t][0] for t in standing}
        assert len(sizes) <= 1
        rooms = {t: limit - len(standing) if sizes <= {size} else 0 for t, (size, limit) in A16.items()}
        assert card.room() == rooms
        wanted = chance.choice(list(A16))
        action = chance.choice(("create", "create", "create", "resize", "delete"))
        if action == "create":
            made = card.create(wanted)
            assert (made is not None) == (rooms[wanted] > 0)
            alive += [made] if made else []
        elif alive and action == "resize":
            assert card.resize(chance.choice(alive), wanted) == (rooms[wanted] > 0)
        elif alive:
            card.cloud.delete(card.conn, alive.pop(chance.randrange(len(alive))))
    for server_id in alive:
        card.cloud.delete(card.conn, server_id)
    for vgpu_type, (_, limit) in A16.items():
        filled = [card.create(vgpu_type) for _ in range(limit + 1)]
        assert filled.index(None) == limit
        for one in filled[:-1]:
            card.cloud.delete(card.conn, str(one))


def test_the_types_of_a_gpu_change_without_a_restart_and_nothing_that_runs_is_touched(launch: Launch) -> None:
    described = {"address": ADDRESS, "model": "nvidia-l40s", "framework": "vfio", "partitioning": "mixed-size"}
    cloud = launch(host("host1", described | {"enabled_types": ["NVIDIA L40S-8Q"]}))
    card = Card(cloud, list(MIXED))
    path = f"{cloud.url}/fleet/v1/hosts/host1/gpus/{ADDRESS}"

    def choose(types: list[str] | None) -> Any:
        return card.conn.session.put(path, json={"enabled_types": types}, raise_exc=False)

    first = card.create("NVIDIA L40S-8Q")
    assert first is not None
    assert card.create("NVIDIA L40S-24Q") is None
    answer = choose(["1155", "GRID L40S-12Q", "NVIDIA L40S-24Q"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["gpu"]["chosen_types"] == ["NVIDIA L40S-24Q", "NVIDIA L40S-12Q"]
    assert card.create("NVIDIA L40S-24Q") is not None
    assert card.create("NVIDIA L40S-8Q") is None
    assert card.spots() == [("NVIDIA L40S-24Q", 24), ("NVIDIA L40S-8Q", 0)]
    cloud.restart(signal.SIGTERM)
    card.conn, path = cloud.connect(), f"{cloud.url}/fleet/v1/hosts/host1/gpus/{ADDRESS}"
    assert card.room() == {"NVIDIA L40S-24Q": 0, "NVIDIA L40S-12Q": 1}

    assert choose([]).status_code == 200
    assert card.spots() == [("NVIDIA L40S-24Q", 24), ("NVIDIA L40S-8Q", 0)]
    assert card.room() == {}
    assert card.conn.compute.get_server(first).status == "ACTIVE"
    assert choose(None).status_code == 200
    eventually(card.room, lambda room: room == {"NVIDIA L40S-8Q": 1})
    for wrong, status in (["L40S-99Q"], 400), (["NVIDIA L40S-8Q"] * 300, 400), ("NVIDIA L40S-8Q", 400):
        assert choose(wrong).status_code == status  # type: ignore[arg-type]
    fleet = f"{cloud.url}/fleet/v1"
    for elsewhere in (f"{fleet}/hosts/host2/gpus/{ADDRESS}", f"{fleet}/hosts/host1/gpus/0000:99:00.0"):
        answer = card.conn.session.put(elsewhere, json={"enabled_types": None}, raise_exc=False)
        assert answer.status_code == 404, answer.text
        assert answer.json()["error"]["message"]
