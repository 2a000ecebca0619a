"""Moves on the one host there is, and moves that nobody confirms: both sides are held until the end, and then one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.cloud import Cloud, cloud_of, gpu, host
from tests.scenario.conftest import Launch

A = "0000:81:00.0"
WINDOW = 3.0


def test_a_resize_on_one_host(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)))
    conn = cloud.connect()
    small, large = cloud.flavor(conn, "v1", resources__VGPU="1"), cloud.flavor(conn, "v2", resources__VGPU="2")
    server = cloud.server(conn, "s1", small)
    assert cloud.counts(conn, "host1") == 1
    before = cloud.devices(conn, "host1")[0]["uuid"]
    assert cloud.resize(conn, server.id, large).status == "VERIFY_RESIZE"
    assert cloud.counts(conn, "host1") == 3
    conn.compute.revert_server_resize(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    assert cloud.counts(conn, "host1") == 1
    assert cloud.devices(conn, "host1")[0]["uuid"] == before
    cloud.resize(conn, server.id, large)
    conn.compute.confirm_server_resize(server.id)
    assert cloud.settled(conn, server.id, "ACTIVE").flavor.original_name == "v2"
    assert cloud.counts(conn, "host1") == 2


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Cloud]:
    """A Lamina that confirms what nobody has confirmed in a while."""
    hosts = [host("host1", gpu(A, "mdev")), host("host2", gpu(A, "mdev"))]
    with cloud_of(tmp_path, hosts, "--confirm-after", str(WINDOW)) as cloud:
        yield cloud


def test_a_migration_that_nobody_confirms(hasty: Cloud) -> None:
    conn = hasty.connect()
    server = hasty.server(conn, "s1", hasty.flavor(conn, "v1", resources__VGPU="1"))
    source = server.compute_host
    target = "host2" if source == "host1" else "host1"
    conn.compute.migrate_server(server)
    hasty.settled(conn, server.id, "VERIFY_RESIZE")
    assert (hasty.counts(conn, source), hasty.counts(conn, target)) == (1, 1)
    hasty.patience = 60.0
    assert hasty.settled(conn, server.id, "ACTIVE").compute_host == target
    assert (hasty.counts(conn, source), hasty.counts(conn, target)) == (0, 1)
    (migration,) = conn.compute.migrations(instance_uuid=server.id)
    assert migration.status == "confirmed"
