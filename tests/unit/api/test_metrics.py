"""The page of figures: whose it is, what is on it, that its labels are few, and that every figure has its line in the docs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tests.faults.desk import Desk
from tests.faults.world import ONE, World

from lamina.api import agents
from lamina.api.application import application
from lamina.api.rooms import ROOMS, rooms_of
from lamina.operations.control_plane import ControlPlane
from lamina.store.bootstrap import bootstrap

Headers = Callable[..., dict[str, str]]
Figures = dict[str, dict[frozenset[tuple[str, str]], float]]

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"
#: label -> what it may say
FEW: dict[str, set[str] | re.Pattern[str]] = {
    "room": {room.name for room in (*ROOMS, agents.ROOM)},
    "method": {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"},
    "status": re.compile(r"[1-5][0-9][0-9]"),
    "outcome": {"done", "undone", "abandoned", "under way", "failed"},
    "state": {"up", "down", "planned", "present", "attached", "running", "unwinding", "stuck", "waiting"},
    "kind": re.compile(r"[a-z_]{1,32}"),
    "what": re.compile(r"[a-z-]{1,32}"),
    "le": re.compile(r"[0-9.]+|\+Inf"),
}


@pytest.fixture
def world(desk: Desk) -> World:
    return World.on(desk, "mdev")


@pytest.fixture
def cloud(world: World) -> ControlPlane:
    with world.plane.db.write() as tx:
        bootstrap(tx, "admin's secret", "demo's secret", world.clock.now())
    return world.plane


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(cloud, ROOMS)) as client:
        yield client


def read(text: str) -> Figures:
    """Name -> labels -> value, of Lamina's own."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("lamina_") and not sample.name.endswith("_created"):
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def figure(figures: Figures, name: str, **labels: str) -> float:
    return figures.get(name, {}).get(frozenset(labels.items()), 0.0)


@pytest.mark.weakness(200)
@pytest.mark.weakness(862)
def test_it_is_an_administrators_unless_it_is_opened(client: TestClient, cloud: ControlPlane, headers: Headers) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=headers("demo")).status_code == 403
    answer = client.get("/metrics", headers=headers("admin"))
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert answer.headers["cache-control"] == "no-store"
    opened = dataclasses.replace(cloud.settings, open_metrics=True)
    with TestClient(application(cloud, rooms_of(opened))) as open_to_all:
        assert open_to_all.get("/metrics").status_code == 200
        assert open_to_all.get("/fleet/v1/hosts").status_code == 401


def test_requests_and_refusals_are_counted(client: TestClient, headers: Headers) -> None:
    admin = headers("admin")

    def seen() -> list[float]:
        figures = read(client.get("/metrics", headers=admin).text)
        wanted = (("compute", "401"), ("fleet", "403"), ("door", "200"))
        counted = [figure(figures, "lamina_requests_total", room=room, method="GET", status=status) for room, status in wanted]
        return [*counted, figure(figures, "lamina_request_seconds_count", room="door")]

    before = seen()
    for _ in range(3):
        client.get("/compute/v2.1/servers")
    for _ in range(2):
        client.get("/fleet/v1/hosts", headers=headers("demo"))
    client.get("/healthz")
    assert [now - then for now, then in zip(seen(), before, strict=True)] == [3, 2, 1, 1]


def test_operations_vgpus_and_hosts_are_counted(client: TestClient, world: World, headers: Headers) -> None:
    admin = headers("admin")

    def seen() -> Figures:
        return read(client.get("/metrics", headers=admin).text)

    before = seen()
    world.create(ONE)
    world.settle()
    after = seen()

    def grown(name: str, **labels: str) -> float:
        return figure(after, name, **labels) - figure(before, name, **labels)

    assert grown("lamina_operations_begun_total", kind="create") == 1
    assert grown("lamina_operations_ended_total", kind="create", outcome="done") == 1
    assert grown("lamina_operation_seconds_count", kind="create", outcome="done") == 1
    assert grown("lamina_vgpus", state="attached") == 1
    assert figure(after, "lamina_hosts", state="up") + figure(after, "lamina_hosts", state="down") == 2
    assert figure(after, "lamina_queue_length") == 0


def test_no_label_is_an_id_and_every_figure_is_in_the_docs(client: TestClient, world: World, headers: Headers) -> None:
    world.create(ONE)
    world.settle()
    figures = read(client.get("/metrics", headers=headers("admin")).text)
    for name, samples in figures.items():
        for labels in samples:
            for label, value in labels:
                few = FEW[label]
                assert value in few if isinstance(few, set) else few.fullmatch(value), f"{name}: {label}={value}"
    described = set(re.findall(r"^\| `(lamina_\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in figures}
    assert families <= described
    # what has not happened in this process has no sample yet
    rare = {"lamina_operations_stuck_total", "lamina_operations_taken_over_total", "lamina_repairs_begun_total", "lamina_repairs"}
    rare |= {"lamina_operations_unfinished", "lamina_audit_events_not_passed_on_total"}
    assert described - families <= rare
