"""A damaged record asked for over HTTP: it is named and nothing of it is told, and a list shows, page by page, the rest."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.faults.world import ONE, World
from tests.unit.api.compute.conftest import Call

from lamina.store.tables.compute import flavors, servers
from lamina.store.tables.hosts import hosts

SECRET = "what the record holds"


@pytest.mark.weakness(209)
def test_a_server(world: World, call: Call) -> None:
    first, damaged, last = (world.created(ONE).id for _ in range(3))
    with world.plane.db.write() as tx:
        tx.execute(sa.update(servers).where(servers.c.id == damaged).values(vm_state=SECRET))
    answer = call("GET", f"/servers/{damaged}", user="admin")
    assert answer.status_code == 500
    assert answer.json()["computeFault"]["message"] == f"The record {damaged} in the table servers is damaged and cannot be read."
    assert SECRET not in answer.text
    shown = call("GET", "/servers?all_tenants=1", user="admin").json()
    assert [one["id"] for one in shown["servers"]] == [last, first]
    page = call("GET", "/servers?all_tenants=1&limit=2", user="admin").json()
    assert [one["id"] for one in page["servers"]] == [last, first], "the page is full"


def test_a_flavor(world: World, call: Call) -> None:
    with world.plane.db.write() as tx:
        tx.execute(sa.update(flavors).where(flavors.c.id == "vgpu").values(extra_specs=[SECRET]))
    answer = call("GET", "/flavors/vgpu")
    assert answer.status_code == 500
    assert "vgpu in the table flavors" in answer.text
    assert SECRET not in answer.text
    assert [one["id"] for one in call("GET", "/flavors").json()["flavors"]] == ["huge", "small"]
    assert [one["id"] for one in call("GET", "/flavors?limit=1&marker=huge").json()["flavors"]] == ["small"]


def test_servers_of_a_flavor_where_one_has_none_that_can_be_read(world: World, call: Call) -> None:
    found, torn = world.created(ONE).id, world.created(ONE).id
    with world.plane.db.write() as tx:
        tx.execute(sa.text("UPDATE servers SET flavor = '{\"torn' WHERE id = :id"), {"id": torn})
    shown = call("GET", "/servers?all_tenants=1&flavor=one", user="admin").json()["servers"]
    assert [one["id"] for one in shown] == [found]


def test_a_host(world: World, call: Call) -> None:
    name, *others = sorted(world.hosts)
    with world.plane.db.write() as tx:
        (host_id,) = tx.scalars(sa.select(hosts.c.id).where(hosts.c.name == name))
        tx.execute(sa.update(hosts).where(hosts.c.name == name).values(networks=SECRET))
    assert {one["host"] for one in call("GET", "/os-services?binary=nova-compute", user="admin").json()["services"]} == set(others)
    assert [one["hypervisor_hostname"] for one in call("GET", "/os-hypervisors", user="admin").json()["hypervisors"]] == others
    assert call("GET", f"/os-hypervisors/{host_id}", user="admin").status_code == 500
