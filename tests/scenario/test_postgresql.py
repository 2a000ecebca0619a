"""The records in PostgreSQL: a server's life, a crash, and many claims at once, as on SQLite."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.empty_database import Postgres
from tests.scenario.cloud import Cloud, cloud_of, gpu, host

HOSTS = 24
FITS = 16


@pytest.fixture
def cloud(tmp_path: Path, postgres: Postgres) -> Iterator[Cloud]:
    hosts = [host(f"host{n}", gpu("0000:81:00.0", "mdev", enabled=["nvidia-11", "nvidia-12"])) for n in range(HOSTS)]
    with postgres.database() as url, cloud_of(tmp_path, hosts, "--database", url) as cloud:
        yield cloud


def test_a_servers_life_with_a_crash_in_it(cloud: Cloud) -> None:
    conn = cloud.connect()
    assert not (cloud.state / "lamina.db").exists()
    one, two = (cloud.flavor(conn, name, resources__VGPU=amount) for name, amount in (("one", "1"), ("two", "2")))
    server = cloud.server(conn, "s", one)
    assert server.status == "ACTIVE", server.fault
    assert cloud.resize(conn, server.id, two).status == "VERIFY_RESIZE"
    assert sum(cloud.counts(conn, f"host{n}") for n in range(HOSTS)) == 3

    cloud.restart(signal.SIGKILL)
    conn = cloud.connect()
    conn.compute.confirm_server_resize(server.id)
    assert cloud.settled(conn, server.id, "ACTIVE").host_status in (None, "UP")
    assert sum(cloud.counts(conn, f"host{n}") for n in range(HOSTS)) == 2
    cloud.delete(conn, server.id)
    assert sum(cloud.counts(conn, f"host{n}") for n in range(HOSTS)) == 0


def test_of_many_at_once_all_that_fit_are_made_and_no_more(cloud: Cloud) -> None:
    """They all find the same host best; whoever is beaten to it finds the next one."""
    conn = cloud.connect()
    whole = cloud.flavor(conn, "whole", resources__VGPU=str(FITS), trait__CUSTOM_NVIDIA_11="required")
    image = cloud.image(conn)
    conn.compute.create_server(name="s", flavor_id=whole.id, image_id=image.id, networks="none", min_count=HOSTS + 2, max_count=HOSTS + 2)
    made = [cloud.settled(conn, s.id) for s in list(conn.compute.servers(details=False))]
    assert Counter(s.status for s in made) == {"ACTIVE": HOSTS, "ERROR": 2}
    assert [cloud.counts(conn, f"host{n}") for n in range(HOSTS)] == [FITS] * HOSTS
    for server in made:
        if server.status == "ERROR":
            assert "No valid host was found" in server.fault["message"]
