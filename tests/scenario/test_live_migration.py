"""Running servers that move to other hosts, over HTTP with openstacksdk: vGPUs are counted before, during and after."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, eventually, gpu, host
from tests.scenario.conftest import Launch

A, B = "0000:81:00.0", "0000:82:00.0"
TWO = {"resources__VGPU": "2"}
SLOW = 600.0


def move(conn: Any, server_id: str, to: str | None = None) -> None:
    conn.compute.live_migrate_server(server_id, host=to, block_migration="auto")


def counts(cloud: Cloud, conn: Any) -> tuple[int, int]:
    return cloud.counts(conn, "host1"), cloud.counts(conn, "host2")


def last(conn: Any, server_id: str) -> Any:
    """The server's newest migration."""
    return next(iter(conn.compute.migrations(instance_uuid=server_id)))


def ended(cloud: Cloud, conn: Any, server_id: str) -> tuple[Any, Any]:
    """The server and its migration once all is over."""
    migration = eventually(lambda: last(conn, server_id), lambda m: m.status in ("completed", "error", "cancelled"), cloud.patience)
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    return cloud.settled(conn, server_id), migration


def why(cloud: Cloud, conn: Any, server_id: str) -> str:
    """What the account of the newest action tells of its failure."""
    base, headers = f"{cloud.url}/compute/v2.1/servers/{server_id}/os-instance-actions", {"OpenStack-API-Version": "compute 2.96"}
    newest = conn.session.get(base, headers=headers).json()["instanceActions"][0]
    shown = conn.session.get(f"{base}/{newest['request_id']}", headers=headers).json()["instanceAction"]
    assert shown["action"] == "live-migration"
    return " ".join(event["details"] or "" for event in shown["events"])


def domain(cloud: Cloud, conn: Any, host_name: str) -> list[str]:
    """Uuids of the vGPUs on a host that are in a domain's hands."""
    return [v["uuid"] for v in cloud.devices(conn, host_name) if v["state"] == "attached"]


def test_a_server_moves_while_it_runs(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework), gpu(B, framework)), host("host2", gpu(A, framework), gpu(B, framework)))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    source = server.compute_host
    target = {"host1": "host2", "host2": "host1"}[source]
    assert (cloud.counts(conn, source), cloud.counts(conn, target)) == (2, 0)
    before = {v["uuid"] for v in cloud.devices(conn, source)}
    move(conn, server.id)
    moved, migration = ended(cloud, conn, server.id)
    assert (moved.status, moved.compute_host, moved.power_state) == ("ACTIVE", target, 1)
    assert (migration.status, migration.source_compute, migration.dest_compute) == ("completed", source, target)
    assert (cloud.counts(conn, source), cloud.counts(conn, target)) == (0, 2)
    after = set(domain(cloud, conn, target))
    assert len(after) == 2
    assert not after & before, "a vGPU is never carried along: the target's are new"
    assert [a.action for a in conn.compute.server_actions(server)] == ["live-migration", "create"]
    move(conn, server.id, source)
    assert ended(cloud, conn, server.id)[0].compute_host == source
    conn.compute.pause_server(server)
    cloud.settled(conn, server.id, "PAUSED")
    move(conn, server.id)
    paused, _ = ended(cloud, conn, server.id)
    assert (paused.status, paused.compute_host, paused.power_state) == ("PAUSED", target, 3)
    conn.compute.reboot_server(server.id, "HARD")
    assert cloud.settled(conn, server.id, "ACTIVE").compute_host == target
    cloud.delete(conn, server.id)
    assert counts(cloud, conn) == (0, 0)


def test_a_server_that_does_not_run_is_not_moved_so(launch: Launch) -> None:
    cloud = launch(host("host1", gpu(A, "mdev")), host("host2", gpu(A, "mdev")))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    conn.compute.stop_server(server)
    cloud.settled(conn, server.id, "SHUTOFF")
    with pytest.raises(exceptions.ConflictException, match="stopped"):
        move(conn, server.id)


def test_types_that_do_not_match(launch: Launch, framework: str) -> None:
    """The flavor would be content with another type; the guest's driver would not."""
    cloud = launch(host("host1", gpu(A, framework, enabled=["nvidia-11"])), host("host2", gpu(A, framework, enabled=["nvidia-12"])))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO), availability_zone="nova:host1")
    before = domain(cloud, conn, "host1")
    move(conn, server.id)
    stayed, migration = ended(cloud, conn, server.id)
    assert (stayed.status, stayed.compute_host, migration.status) == ("ACTIVE", "host1", "error")
    assert "No valid host" in why(cloud, conn, server.id)
    assert "host2" in why(cloud, conn, server.id)
    assert counts(cloud, conn) == (2, 0)
    assert domain(cloud, conn, "host1") == before
    conn.compute.migrate_server(server.id)
    assert cloud.settled(conn, server.id, "VERIFY_RESIZE").compute_host == "host2", "a cold migration may change the type"


def test_a_hypervisor_too_old(launch: Launch) -> None:
    cloud = launch(
        host("host1", gpu(A, "mdev")),
        host("host2", gpu(A, "mdev"), hypervisor_version="8.2.2"),
        host("host3", gpu(A, "mdev"), hypervisor_version="8.0.0"),
    )
    conn = cloud.connect("lamina")
    flavor = cloud.flavor(conn, "v2", **TWO)
    server = cloud.server(conn, "s1", flavor, availability_zone="nova:host1")
    move(conn, server.id)
    stayed, migration = ended(cloud, conn, server.id)
    assert (stayed.status, stayed.compute_host, migration.status) == ("ACTIVE", "host1", "error")
    assert "host2: its hypervisor simulated 8.2.2 is older than" in why(cloud, conn, server.id)
    assert "host3: its hypervisor is 8.0.0, and vGPUs can be moved while they are in use from 8.1.0 on" in why(cloud, conn, server.id)
    assert counts(cloud, conn) == (2, 0)
    old = cloud.server(conn, "s2", flavor, availability_zone="nova:host3")
    with pytest.raises(exceptions.BadRequestException, match="vGPUs can be moved"):
        move(conn, old.id, "host1")
    assert cloud.settled(conn, old.id).compute_host == "host3"


def test_a_failure_in_the_middle(launch: Launch, framework: str) -> None:
    """The host that it is on its way to loses power: the server runs on where it was, with its vGPUs, and nothing else is left."""
    cloud = launch(*(host(name, gpu(A, framework), migration_seconds=0.8) for name in ("host1", "host2")))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO), availability_zone="nova:host1")
    before = domain(cloud, conn, "host1")
    move(conn, server.id)
    eventually(lambda: last(conn, server.id).status, lambda status: status == "running")
    assert counts(cloud, conn) == (2, 2), "both sides are paid for while it moves"
    assert conn.session.post(f"{cloud.url}/fleet/v1/hosts/host2/reboot").status_code < 300
    stayed, migration = ended(cloud, conn, server.id)
    assert (stayed.status, stayed.compute_host, stayed.power_state, migration.status) == ("ACTIVE", "host1", 1, "error")
    assert "stays on host host1" in why(cloud, conn, server.id)
    assert counts(cloud, conn) == (2, 0)
    assert domain(cloud, conn, "host1") == before


def test_an_abort(launch: Launch, framework: str) -> None:
    cloud = launch(*(host(name, gpu(A, framework), migration_seconds=SLOW) for name in ("host1", "host2")))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO), availability_zone="nova:host1")
    before = domain(cloud, conn, "host1")
    move(conn, server.id)
    (under_way,) = eventually(
        lambda: list(conn.compute.server_migrations(server.id)), lambda some: bool(some) and some[0].memory_total_bytes is not None
    )
    assert (under_way.status, under_way.memory_total_bytes) == ("running", 512 << 20)
    assert under_way.memory_processed_bytes + under_way.memory_remaining_bytes == under_way.memory_total_bytes
    assert conn.compute.get_server(server.id).status == "MIGRATING"
    assert counts(cloud, conn) == (2, 2)
    conn.compute.abort_server_migration(under_way.id, server.id)
    stayed, migration = ended(cloud, conn, server.id)
    assert (stayed.status, stayed.compute_host, stayed.fault, migration.status) == ("ACTIVE", "host1", None, "cancelled")
    assert counts(cloud, conn) == (2, 0)
    assert domain(cloud, conn, "host1") == before


def test_a_deletion_in_the_middle(launch: Launch) -> None:
    cloud = launch(*(host(name, gpu(A, "mdev"), migration_seconds=SLOW) for name in ("host1", "host2")))
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v2", **TWO))
    move(conn, server.id)
    eventually(lambda: last(conn, server.id).status, lambda status: status == "running")
    cloud.delete(conn, server.id)
    assert counts(cloud, conn) == (0, 0)
