"""A server waits for room: what its owner and an administrator see of it, over HTTP."""

from __future__ import annotations

import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException

from tests.scenario.cloud import eventually, gpu, host
from tests.scenario.conftest import Launch


def test_a_server_waits_until_another_goes(launch: Launch) -> None:
    cloud = launch(host("host1", gpu("0000:81:00.0", "mdev", max_instances=2)))
    conn, owner = cloud.connect(), cloud.connect("lamina-demo")
    small = cloud.flavor(conn, "small", resources__VGPU="1")
    first, _second = (cloud.server(conn, name, small) for name in ("first", "second"))
    image = cloud.image(conn)
    conn.image.update_image(image, visibility="public")

    refused = cloud.server(conn, "refused", small)
    assert refused.status == "ERROR"
    waiting = [
        owner.compute.create_server(
            name=f"w{n}", flavor_id=small.id, image_id=image.id, networks="none", scheduler_hints={"lamina:wait": 600}
        ).id
        for n in range(2)
    ]
    shown = [
        eventually(lambda s=s: owner.compute.get(f"/servers/{s}", microversion="2.96").json()["server"], lambda got: "lamina:queue" in got)
        for s in waiting
    ]
    assert [(s["status"], s["OS-EXT-STS:task_state"], s["lamina:queue"]["position"]) for s in shown] == [
        ("BUILD", "queued", 1),
        ("BUILD", "queued", 2),
    ]
    assert "No valid host was found" in shown[0]["lamina:queue"]["reason"]
    assert [one["server_id"] for one in cloud.fleet(conn, "/queue")["queue"]] == waiting
    assert cloud.counts(conn, "host1") == 2

    cloud.delete(conn, first.id)
    assert cloud.settled(owner, waiting[0], "ACTIVE").id == waiting[0]
    assert [one["server_id"] for one in cloud.fleet(conn, "/queue")["queue"]] == waiting[1:]
    cloud.delete(owner, waiting[1])
    assert cloud.fleet(conn, "/queue")["queue"] == []
    assert cloud.counts(conn, "host1") == 2


def test_who_waits_too_long_is_told_and_no_project_stands_in_anothers_way(launch: Launch) -> None:
    cloud = launch(host("host1", gpu("0000:81:00.0", "mdev", max_instances=1)))
    conn, owner = cloud.connect(), cloud.connect("lamina-demo")
    small, image = cloud.flavor(conn, "small", resources__VGPU="1"), cloud.image(conn)
    conn.image.update_image(image, visibility="public")
    holder = cloud.server(conn, "holder", small)

    def waits(asks: Connection, name: str, seconds: int) -> str:
        made = asks.compute.create_server(
            name=name, flavor_id=small.id, image_id=image.id, networks="none", scheduler_hints={"lamina:wait": seconds}
        )
        eventually(lambda: cloud.fleet(conn, "/queue")["queue"], lambda queue: made.id in [one["server_id"] for one in queue])
        return str(made.id)

    hurried = waits(conn, "hurried", 1)
    assert cloud.settled(conn, hurried, "ERROR").fault["message"]
    assert cloud.counts(conn, "host1") == 1

    first, second, other = waits(conn, "first", 600), waits(conn, "second", 600), waits(owner, "other", 600)
    cloud.delete(conn, holder.id)
    served: list[str] = []
    while len(served) < 3:
        left = [one for one in (first, second, other) if one not in served]
        active = eventually(
            lambda left=left: [s.id for s in conn.compute.servers(all_projects=True) if s.id in left and s.status == "ACTIVE"], bool
        )
        served += active
        assert cloud.counts(conn, "host1") == 1
        conn.compute.delete_server(active[0])
        eventually(lambda: [s.id for s in conn.compute.servers(all_projects=True)], lambda ids, gone=active[0]: gone not in ids)
    assert served.index(other) < 2, "one project's second came before another's first"
    assert cloud.counts(conn, "host1") == 0


def test_nonsense_to_wait_is_refused(launch: Launch) -> None:
    cloud = launch(host("host1", gpu("0000:81:00.0", "mdev")))
    conn = cloud.connect()
    small = cloud.flavor(conn, "small", resources__VGPU="1")
    for nonsense in ("soon", 0, -1, 10**9):
        with pytest.raises(BadRequestException, match="lamina:wait"):
            cloud.server(conn, "s", small, scheduler_hints={"lamina:wait": nonsense})
    flavor = conn.compute.create_flavor(name="patient", vcpus=1, ram=512, disk=1)
    with pytest.raises(BadRequestException, match="lamina:wait"):
        conn.compute.create_flavor_extra_specs(flavor, {"lamina:wait": "for ever"})
