"""A program that works with an application credential, over HTTP with openstacksdk."""

from __future__ import annotations

from typing import Any

import openstack
import pytest
from keystoneauth1 import exceptions
from openstack.connection import Connection

from tests.scenario.cloud import gpu, host
from tests.scenario.conftest import Launch


def test_a_program_makes_servers_with_its_own_credential(launch: Launch) -> None:
    cloud = launch(host("host1", gpu("0000:81:00.0", "mdev")))
    conn: Any = cloud.connect("lamina-demo")
    flavor, image = cloud.flavor(cloud.connect("lamina"), "v1", resources__VGPU="1"), cloud.image(cloud.connect("lamina"))
    cloud.connect("lamina").image.update_image(image, visibility="public")
    user_id = conn.current_user_id
    made = conn.identity.create_application_credential(user_id, "robot", roles=[{"name": "member"}])
    auth = {"auth_url": f"{cloud.url}/identity/v3", "application_credential_id": made.id, "application_credential_secret": made.secret}

    def robot() -> Connection:
        return openstack.connect(auth_type="v3applicationcredential", auth=auth, region_name="RegionOne", load_yaml_config=False)

    robots = robot()
    server = robots.compute.create_server(name="by robot", flavor_id=flavor.id, image_id=image.id, networks="none")
    assert cloud.settled(robots, server.id).status == "ACTIVE"
    assert [s.id for s in conn.compute.servers()] == [server.id], "it works in its user's project"
    assert [c.name for c in conn.identity.application_credentials(user_id)] == ["robot"]
    conn.identity.delete_application_credential(user_id, made.id)
    with pytest.raises(exceptions.Unauthorized):
        robots.session.get(f"{cloud.url}/compute/v2.1/servers")
    with pytest.raises(exceptions.Unauthorized):
        robot().session.get_token()
    cloud.delete(conn, server.id)
