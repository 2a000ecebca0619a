"""A real Keystone knows the users, and Lamina asks it whose a token is: what users, strangers and an operator see of that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openstack.exceptions as refusals
import pytest

from tests.scenario.cloud import Cloud, eventually, gpu, host, running
from tests.scenario.real_keystone import RealKeystone, real_keystone

PASSWORD = "a password that is used here only"
#: seconds until a token that Keystone has revoked is refused: an answer of Keystone's holds for 10
REVOKED_WITHIN = 20.0
SERVICES = {"compute": "/compute/v2.1", "placement": "/placement", "image": "/image", "network": "/network", "fleet": "/fleet/v1"}


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKeystone]:
    with real_keystone(tmp_path_factory.mktemp("keystone")) as made:
        yield made


@pytest.fixture(scope="module")
def admin(keystone: RealKeystone) -> Any:
    """Of everything; with a user for Lamina, and users that are members, readers, managers and strangers."""
    # of version 3 of the Identity API, of which the SDK's types do not know
    conn: Any = keystone.connect("admin", keystone.password)
    for project in ("service", "blue", "red"):
        conn.identity.create_project(name=project, domain_id="default")
    for user, role, project in (
        ("lamina", "service", "service"),
        ("mia", "member", "blue"),
        ("rita", "reader", "blue"),
        ("max", "manager", "blue"),
        ("eve", "member", "red"),
    ):
        made = conn.identity.create_user(name=user, password=PASSWORD, domain_id="default")
        where, what = conn.identity.find_project(project), conn.identity.find_role(role)
        conn.identity.assign_project_role_to_user(where, made, what)
    return conn


@pytest.fixture(scope="module")
def cloud(keystone: RealKeystone, admin: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("lamina")
    file = directory / "keystone.toml"
    file.touch(mode=0o600)
    file.write_text(f'auth_url = "{keystone.url}"\nusername = "lamina"\npassword = "{PASSWORD}"\n')
    with running(Cloud(directory, [host("host1", gpu("0000:81:00.0", "mdev"))], "--keystone", str(file))) as made:
        for kind, path in SERVICES.items():
            service = admin.identity.create_service(name=f"lamina-{kind}", type=kind)
            admin.identity.create_endpoint(service_id=service.id, interface="public", url=made.url + path, region_id="RegionOne")
        yield made


def user(keystone: RealKeystone, name: str, project: str) -> Any:
    return keystone.connect(name, PASSWORD, project_name=project, project_domain_id="default")


def test_users_of_keystone_have_servers_and_strangers_see_nothing_of_them(cloud: Cloud, keystone: RealKeystone) -> None:
    operator = keystone.connect("admin", keystone.password)
    flavor = cloud.flavor(operator, "g1", resources__VGPU="1")
    mia, eve = user(keystone, "mia", "blue"), user(keystone, "eve", "red")
    made = cloud.server(mia, "mine", flavor)
    assert (made.status, cloud.counts(operator, "host1")) == ("ACTIVE", 1)
    assert made.project_id == mia.current_project_id
    assert [s.id for s in eve.compute.servers()] == []
    with pytest.raises(refusals.NotFoundException):
        eve.compute.get_server(made.id)
    assert made.id in [s.id for s in operator.compute.servers(all_projects=True)]
    cloud.delete(mia, made.id)
    assert cloud.counts(operator, "host1") == 0


def test_roles_of_keystone_are_what_lamina_asks(cloud: Cloud, keystone: RealKeystone) -> None:
    operator = keystone.connect("admin", keystone.password)
    flavor = cloud.flavor(operator, "g2")
    mia, rita, max_ = user(keystone, "mia", "blue"), user(keystone, "rita", "blue"), user(keystone, "max", "blue")
    made = cloud.server(mia, "ours", flavor)
    assert made.id in [s.id for s in rita.compute.servers()]
    with pytest.raises(refusals.ForbiddenException):
        cloud.server(rita, "not hers", flavor, wait=False)
    for conn, status in ((mia, 403), (max_, 202)):
        answer = conn.compute.post(f"/servers/{made.id}/action", json={"migrate": None}, microversion="2.96")
        assert answer.status_code == status, answer.text
    with pytest.raises(refusals.ForbiddenException):
        mia.compute.create_flavor(name="no", vcpus=1, ram=1, disk=1)
    cloud.settled(mia, made.id)
    cloud.delete(mia, made.id)


def test_a_token_that_keystone_does_not_know_lets_nobody_in(cloud: Cloud, keystone: RealKeystone, admin: Any) -> None:
    def servers(token: str, **spoofed: str) -> int:
        headers = {"X-Auth-Token": token} | spoofed
        return httpx.get(f"{cloud.url}/compute/v2.1/servers", headers=headers, trust_env=False).status_code

    spoofed = {"X-User-Id": "admin", "X-Project-Id": "admin", "X-Roles": "admin", "X-Identity-Status": "Confirmed"}
    assert [servers("nonsense"), servers("nonsense", **spoofed), servers("no\ttoken")] == [401, 401, 401]
    assert httpx.get(f"{cloud.url}/identity/v3", trust_env=False).status_code != 200, "there is one that knows the users"
    mia = user(keystone, "mia", "blue")
    token = mia.auth_token
    assert servers(token) == 200
    admin.identity.delete("/auth/tokens", headers={"X-Subject-Token": token})
    eventually(lambda: servers(token), lambda status: status == 401, REVOKED_WITHIN)


def test_an_administrator_of_a_domain_is_none_of_the_cloud(cloud: Cloud, keystone: RealKeystone, admin: Any) -> None:
    dora = admin.identity.create_user(name="dora", password=PASSWORD, domain_id="default")
    admin.identity.assign_domain_role_to_user(admin.identity.get_domain("default"), dora, admin.identity.find_role("admin"))
    of_domain: Any = keystone.connect("dora", PASSWORD, domain_id="default")
    answer = httpx.get(f"{cloud.url}/fleet/v1/hosts", headers={"X-Auth-Token": of_domain.auth_token}, trust_env=False)
    assert answer.status_code == 403


def test_while_keystone_is_away_nobody_is_let_in(cloud: Cloud, keystone: RealKeystone) -> None:
    known, unknown = user(keystone, "mia", "blue").auth_token, user(keystone, "eve", "red").auth_token

    def servers(token: str) -> int:
        return httpx.get(f"{cloud.url}/compute/v2.1/servers", headers={"X-Auth-Token": token}, trust_env=False).status_code

    assert servers(known) == 200
    keystone.stop()
    assert servers(unknown) == 503
    eventually(lambda: servers(known), lambda status: status == 503, REVOKED_WITHIN)
    keystone.start()
    assert [servers(known), servers(unknown)] == [200, 200]
