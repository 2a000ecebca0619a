"""Quotas as an operator sets them and a user meets them, by the `openstack` command and by openstacksdk, with vGPUs counted."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import Cloud, gpu, host
from tests.scenario.conftest import Launch
from tests.scenario.openstack_command import openstack

A = "0000:81:00.0"


def resources(cloud: Cloud, *words: str, name: str = "lamina") -> dict[str, Any]:
    """Resource -> limit, or what is in use, as `openstack quota show` has them."""
    shown = openstack(cloud, "quota", "show", "--compute", *words, "-f", "json", name=name)
    return {row["Resource"]: row["In Use"] if "--usage" in words else row["Limit"] for row in shown}


def test_a_project_gets_no_more_vgpus_than_its_limits_say(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework, enabled=["nvidia-11"])))
    admin, demo = cloud.connect(), cloud.connect("lamina-demo")
    one, two = cloud.flavor(admin, "v1", resources__VGPU="1"), cloud.flavor(admin, "v2", resources__VGPU="2")
    admin.image.update_image(cloud.image(admin), visibility="public")
    wanted = ("limit", "create", "--service", "nova", "--project", "demo", "--resource-limit")
    made = openstack(cloud, *wanted, "2", "class:VGPU", "-f", "json")
    openstack(cloud, *wanted, "3", "vgpu_type:nvidia-11", "-f", "json")
    openstack(cloud, "registered", "limit", "create", "--service", "nova", "--default-limit", "5", "servers", "-f", "json")
    assert {row["Resource Name"] for row in openstack(cloud, "limit", "list", "-f", "json")} == {"class:VGPU", "vgpu_type:nvidia-11"}
    assert len(openstack(cloud, "limit", "list", "-f", "json", name="lamina-demo")) == 2

    first = cloud.server(demo, "a", two)
    assert (first.status, cloud.counts(admin, "host1")) == ("ACTIVE", 2)
    with pytest.raises(
        exceptions.ForbiddenException, match="Quota exceeded for class:VGPU: Requested 1, but already used 2 of 2 class:VGPU"
    ):
        cloud.server(demo, "b", one)
    assert cloud.counts(admin, "host1") == 2
    assert cloud.server(admin, "other", one).status == "ACTIVE", "another project has limits of its own"
    assert cloud.counts(admin, "host1") == 3

    openstack(cloud, "limit", "set", "--resource-limit", "-1", made["id"])
    assert cloud.server(demo, "b", one).status == "ACTIVE"
    lost = cloud.server(demo, "c", one)
    assert lost.status == "ERROR", "which type it would get was known in its claim only"
    assert lost.fault["message"].startswith("Quota exceeded for vgpu_type:nvidia-11: Requested 1, but already used 3 of 3")
    assert cloud.counts(admin, "host1") == 4
    shown = demo.compute.get(f"/os-quota-sets/{demo.current_project_id}/detail", microversion="2.96").json()["quota_set"]
    assert shown["vgpu_type:nvidia-11"] == {"limit": 3, "in_use": 3, "reserved": 0}
    assert shown["class:VGPU"] == {"limit": -1, "in_use": 3, "reserved": 0}
    assert shown["instances"] == {"limit": 5, "in_use": 3, "reserved": 0}

    cloud.delete(demo, first.id)
    assert cloud.counts(admin, "host1") == 2
    assert cloud.server(demo, "d", two).status == "ACTIVE"
    assert cloud.counts(admin, "host1") == 4


def test_quotas_are_set_and_shown(launch: Launch) -> None:
    cloud = launch(host("host1", gpu(A, "mdev")))
    admin, demo = cloud.connect(), cloud.connect("lamina-demo")
    small, project_id = cloud.flavor(admin, "small"), str(demo.current_project_id)
    admin.image.update_image(cloud.image(admin), visibility="public")
    openstack(cloud, "quota", "set", "--cores", "1", "--ram", "2048", "--server-groups", "0", "demo")
    openstack(cloud, "quota", "set", "--default", "--instances", "7")
    for name in ("lamina", "lamina-demo"):
        limits = resources(cloud, *(["demo"] if name == "lamina" else []), name=name)
        assert (limits["cores"], limits["ram"], limits["instances"], limits["server-groups"]) == (1, 2048, 7, 0)
    server = cloud.server(demo, "a", small)
    used = resources(cloud, "--usage", name="lamina-demo")
    assert (used["cores"], used["ram"], used["instances"]) == (1, 512, 1)
    with pytest.raises(exceptions.ForbiddenException, match="Requested 1, but already used 1 of 1 cores"):
        cloud.server(demo, "b", small)
    with pytest.raises(exceptions.ForbiddenException, match="server_groups"):
        demo.compute.create_server_group(name="g", policy="affinity")
    with pytest.raises(exceptions.BadRequestException, match="greater than or equal to already used"):
        admin.compute.update_quota_set(project_id, cores=0)
    own = f"/os-quota-sets/{project_id}?user_id={demo.current_user_id}"
    assert admin.compute.put(own, json={"quota_set": {"cores": 1, "class:VGPU": 1}}).json()["quota_set"]["class:VGPU"] == 1
    absolute = demo.compute.get_limits().absolute
    assert (absolute.total_cores, absolute.total_cores_used, absolute.instances) == (1, 1, 7)
    admin.compute.revert_quota_set(project_id)
    assert resources(cloud, "demo")["cores"] == -1
    cloud.delete(demo, server.id)
    assert demo.compute.get_limits().absolute.total_cores_used == 0
