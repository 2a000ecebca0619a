"""A server waits for room: what its owner and an administrator see of it, over HTTP."""

from __future__ import annotations

import pytest
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
