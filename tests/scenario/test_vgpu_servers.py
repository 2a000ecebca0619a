"""What Nova's users do with vGPUs, over HTTP with openstacksdk, on simulated hosts of both frameworks.

Each scenario is the operator's configuration and then what a user does; vGPUs are counted in Placement's usage, in the
records and in the devices present on the host, and the three must agree.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from openstack import exceptions

from tests.scenario.cloud import gpu, host
from tests.scenario.conftest import Launch

A, B = "0000:81:00.0", "0000:82:00.0"
ONE = {"resources__VGPU": "1"}


def test_create_and_delete(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)))
    conn = cloud.connect()
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v1", **ONE))
    assert (server.status, server.compute_host, server.power_state) == ("ACTIVE", "host1", 1)
    assert cloud.counts(conn, "host1") == 1
    (device,) = cloud.devices(conn, "host1")
    assert (device["server_id"], device["type"], device["gpu"], device["state"]) == (server.id, "nvidia-11", A, "attached")
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_resize_between_hosts_with_revert_and_confirm(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)), host("host2", gpu(A, framework)))
    conn = cloud.connect()
    small, large = cloud.flavor(conn, "v1", **ONE), cloud.flavor(conn, "v1-large", **ONE)
    server = cloud.server(conn, "s1", small)
    source = server.compute_host
    target = "host2" if source == "host1" else "host1"
    before = cloud.devices(conn, source)[0]["uuid"]

    server = cloud.resize(conn, server.id, large)
    assert (server.status, server.compute_host, server.flavor.original_name) == ("VERIFY_RESIZE", target, "v1-large")
    assert (cloud.counts(conn, source), cloud.counts(conn, target)) == (1, 1)

    conn.compute.revert_server_resize(server.id)
    server = cloud.settled(conn, server.id, "ACTIVE")
    assert (server.compute_host, server.flavor.original_name) == (source, "v1")
    assert (cloud.counts(conn, source), cloud.counts(conn, target)) == (1, 0)
    assert cloud.devices(conn, source)[0]["uuid"] == before, "a revert gives the same vGPU back"

    server = cloud.resize(conn, server.id, large)
    conn.compute.confirm_server_resize(server.id)
    server = cloud.settled(conn, server.id, "ACTIVE")
    assert (server.compute_host, server.flavor.original_name) == (target, "v1-large")
    assert (cloud.counts(conn, source), cloud.counts(conn, target)) == (0, 1)

    (migration, *_) = conn.compute.migrations(instance_uuid=server.id)
    assert (migration.status, migration.migration_type) == ("confirmed", "resize")


def test_resize_to_a_vgpu_and_back_to_none(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)))
    conn = cloud.connect()
    plain, with_vgpu = cloud.flavor(conn, "plain"), cloud.flavor(conn, "v1", **ONE)
    server = cloud.server(conn, "s1", plain)
    assert cloud.counts(conn, "host1") == 0
    for flavor, count in ((with_vgpu, 1), (plain, 0)):
        server = cloud.resize(conn, server.id, flavor)
        assert server.status == "VERIFY_RESIZE"
        assert cloud.counts(conn, "host1") == 1, "both sides are held until the resize is confirmed"
        conn.compute.confirm_server_resize(server.id)
        cloud.settled(conn, server.id, "ACTIVE")
        assert cloud.counts(conn, "host1") == count
    cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_multi_create_is_found_by_its_reservation(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)))
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "v1", **ONE)
    body = {
        "server": {
            "name": "many",
            "flavorRef": flavor.id,
            "imageRef": cloud.image(conn).id,
            "networks": "none",
            "min_count": 2,
            "max_count": 2,
            "return_reservation_id": True,
        }
    }
    answer = conn.compute.post("/servers", json=body, microversion="2.96")
    assert answer.status_code == 202, answer.text
    reservation = answer.json()["reservation_id"]
    found = list(conn.compute.servers(reservation_id=reservation))
    assert sorted(s.name for s in found) == ["many-1", "many-2"]
    assert {cloud.settled(conn, s.id).status for s in found} == {"ACTIVE"}
    assert cloud.counts(conn, "host1") == 2


def test_two_large_servers_fill_two_gpus(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework), gpu(B, framework)))
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "v16", resources__VGPU="16")
    body = {"name": "full", "flavorRef": flavor.id, "imageRef": cloud.image(conn).id, "networks": "none", "min_count": 2, "max_count": 2}
    answer = conn.compute.post("/servers", json={"server": body}, microversion="2.96")
    assert answer.status_code == 202, answer.text
    servers = [cloud.settled(conn, s.id) for s in conn.compute.servers()]
    assert [s.status for s in servers] == ["ACTIVE", "ACTIVE"]
    per_gpu = [cloud.placement(conn, f"/resource_providers/{u}/usages")["usages"]["VGPU"] for u in cloud.providers(conn, "host1").values()]
    assert per_gpu == [16, 16]
    assert cloud.counts(conn, "host1") == 32


def test_one_more_than_fits(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)))
    conn = cloud.connect()
    cloud.server(conn, "full", cloud.flavor(conn, "v16", resources__VGPU="16"))
    refused = cloud.server(conn, "refused", cloud.flavor(conn, "v1", **ONE))
    assert (refused.status, refused.host_id, refused.compute_host) == ("ERROR", "", None)
    assert "No valid host" in refused.fault["message"]
    assert "VGPU" in refused.fault["message"], "the fault tells what is lacking"
    (action,) = conn.compute.server_actions(refused.id)
    assert action.action == "create"
    events = conn.compute.get_server_action(action.request_id, refused.id).events
    assert "Error" in [e["result"] for e in events]
    assert cloud.counts(conn, "host1") == 16
    assert cloud.placement(conn, f"/allocations/{refused.id}")["allocations"] == {}
    cloud.delete(conn, refused.id)


def test_two_isolated_vgpus(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework), gpu(B, framework)))
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "v1v1", resources1__VGPU="1", resources2__VGPU="1", group_policy="isolate")
    server = cloud.server(conn, "s1", flavor)
    assert server.status == "ACTIVE"
    assert sorted(d["gpu"] for d in cloud.devices(conn, "host1")) == [A, B]
    assert cloud.counts(conn, "host1") == 2


def test_two_types_by_configuration(launch: Launch, framework: str) -> None:
    only_11 = [{"name": "nvidia-11", "max_instances": 16, "framebuffer_mb": 512}]
    lacking = gpu("0000:83:00.0", framework, types=only_11, enabled=["nvidia-12"])
    cloud = launch(host("host1", gpu(A, framework, enabled=["nvidia-11"]), gpu(B, framework, enabled=["nvidia-12"]), lacking))
    conn = cloud.connect()
    providers = cloud.providers(conn, "host1")
    assert sorted(providers) == ["host1_pci_0000_81_00_0", "host1_pci_0000_82_00_0"], "a GPU without its type has no provider"
    assert cloud.inventory(conn, providers["host1_pci_0000_81_00_0"])["total"] == 16
    assert cloud.inventory(conn, providers["host1_pci_0000_82_00_0"])["total"] == 8
    (problem,) = cloud.fleet(conn, "/hosts/host1")["host"]["problems"]
    assert "nvidia-12" in problem
    assert "0000:83:00.0" in problem
    for type_name, address in (("nvidia-11", A), ("nvidia-12", B)):
        trait = "CUSTOM_" + type_name.upper().replace("-", "_")
        flavor = cloud.flavor(conn, type_name, **ONE, **{f"trait__{trait}": "required"})
        server = cloud.server(conn, type_name, flavor)
        assert server.status == "ACTIVE"
        assert [(d["type"], d["gpu"]) for d in cloud.devices(conn, "host1") if d["server_id"] == server.id] == [(type_name, address)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_operators_trait_picks_its_gpu_and_stays(launch: Launch, framework: str, how: signal.Signals) -> None:
    cloud = launch(host("host1", gpu(A, framework), gpu(B, framework)))
    conn = cloud.connect()
    uuid = cloud.providers(conn, "host1")["host1_pci_0000_82_00_0"]
    version = {"OpenStack-API-Version": "placement 1.39"}
    assert conn.session.put(f"{cloud.url}/placement/traits/CUSTOM_GOLD", headers=version).status_code == 201
    traits = cloud.placement(conn, f"/resource_providers/{uuid}/traits")
    body = {"resource_provider_generation": traits["resource_provider_generation"], "traits": [*traits["traits"], "CUSTOM_GOLD"]}
    answer = conn.session.put(f"{cloud.url}/placement/resource_providers/{uuid}/traits", json=body, headers=version)
    assert answer.status_code == 200, answer.text
    flavor = cloud.flavor(conn, "gold", **ONE, trait__CUSTOM_GOLD="required")
    for name in ("before", "after"):
        server = cloud.server(conn, name, flavor)
        assert [d["gpu"] for d in cloud.devices(conn, "host1") if d["server_id"] == server.id] == [B]
        if name == "before":
            cloud.restart(how)
            conn = cloud.connect()
            assert "CUSTOM_GOLD" in cloud.placement(conn, f"/resource_providers/{uuid}/traits")["traits"]


def test_max_instances_limits_a_gpu(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework, max_instances=2)))
    conn = cloud.connect()
    (uuid,) = cloud.providers(conn, "host1").values()
    assert cloud.inventory(conn, uuid)["total"] == 2
    flavor = cloud.flavor(conn, "v1", **ONE)
    assert [cloud.server(conn, f"s{n}", flavor).status for n in range(3)] == ["ACTIVE", "ACTIVE", "ERROR"]
    assert cloud.inventory(conn, uuid)["total"] == 2
    assert cloud.counts(conn, "host1") == 2


def test_a_custom_class_beside_vgpu(launch: Launch, framework: str) -> None:
    def described(name: str) -> dict[str, Any]:
        return host(name, gpu(A, framework), gpu(B, framework, enabled=["nvidia-12"], resource_class="CUSTOM_NOTVGPU"))

    cloud = launch(described("host1"), described("host2"))
    conn = cloud.connect()
    vgpu, other = cloud.flavor(conn, "v1", **ONE), cloud.flavor(conn, "n1", resources__CUSTOM_NOTVGPU="1")
    first, second = cloud.server(conn, "s1", vgpu), cloud.server(conn, "s2", other)
    assert [d["gpu"] for d in cloud.devices(conn, first.compute_host) if d["server_id"] == first.id] == [A]
    assert [(d["gpu"], d["type"]) for d in cloud.devices(conn, second.compute_host) if d["server_id"] == second.id] == [(B, "nvidia-12")]

    larger = cloud.flavor(conn, "n1-large", resources__CUSTOM_NOTVGPU="1")
    source = second.compute_host
    second = cloud.resize(conn, second.id, larger)
    target = second.compute_host
    assert (second.status, target != source) == ("VERIFY_RESIZE", True)
    assert (cloud.counts(conn, source, "CUSTOM_NOTVGPU"), cloud.counts(conn, target, "CUSTOM_NOTVGPU")) == (1, 1)
    conn.compute.revert_server_resize(second.id)
    cloud.settled(conn, second.id, "ACTIVE")
    assert (cloud.counts(conn, source, "CUSTOM_NOTVGPU"), cloud.counts(conn, target, "CUSTOM_NOTVGPU")) == (1, 0)
    second = cloud.resize(conn, second.id, larger)
    conn.compute.confirm_server_resize(second.id)
    cloud.settled(conn, second.id, "ACTIVE")
    assert (cloud.counts(conn, source, "CUSTOM_NOTVGPU"), cloud.counts(conn, target, "CUSTOM_NOTVGPU")) == (0, 1)
    assert cloud.counts(conn, "host1") + cloud.counts(conn, "host2") == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_running_database_is_taken_up_again(launch: Launch, framework: str, how: signal.Signals) -> None:
    cloud = launch(host("host1", gpu(A, framework)), host("host2", gpu(A, framework)))
    conn = cloud.connect()
    flavor, larger = cloud.flavor(conn, "v1", **ONE), cloud.flavor(conn, "v1-large", **ONE)
    steady, moving = cloud.server(conn, "steady", flavor), cloud.server(conn, "moving", flavor)
    before = {(d["uuid"], d["type"], d["parent"], d["host"]) for h in ("host1", "host2") for d in cloud.devices(conn, h)}
    cloud.restart(how)
    conn = cloud.connect()
    after = {(d["uuid"], d["type"], d["parent"], d["host"]) for h in ("host1", "host2") for d in cloud.devices(conn, h)}
    assert after == before
    assert {s.name: s.status for s in conn.compute.servers()} == {"steady": "ACTIVE", "moving": "ACTIVE"}

    # stopped in the middle of creations and of a resize, it carries them on
    conn.compute.resize_server(moving.id, larger.id)
    fresh = [cloud.server(conn, f"fresh{n}", flavor, wait=False).id for n in range(5)]
    cloud.restart(how)
    conn = cloud.connect()
    assert cloud.settled(conn, moving.id, "VERIFY_RESIZE").flavor.original_name == "v1-large"
    assert {cloud.settled(conn, server_id).status for server_id in fresh} == {"ACTIVE"}
    assert cloud.counts(conn, "host1") + cloud.counts(conn, "host2") == 1 + 2 + 5
    for server in list(conn.compute.servers()):
        cloud.delete(conn, server.id)
    assert (cloud.counts(conn, "host1"), cloud.counts(conn, "host2")) == (0, 0)
    assert steady.id not in [s.id for s in conn.compute.servers()]


def test_a_host_that_reboots_comes_back(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework), gpu(B, framework, enabled=["nvidia-12"])))
    conn = cloud.connect()
    plain = cloud.server(conn, "plain", cloud.flavor(conn, "plain"))
    small = cloud.server(conn, "small", cloud.flavor(conn, "v11", **ONE, trait__CUSTOM_NVIDIA_11="required"))
    pair = cloud.server(conn, "pair", cloud.flavor(conn, "v12", resources__VGPU="2", trait__CUSTOM_NVIDIA_12="required"))
    stopped = cloud.server(conn, "stopped", cloud.flavor(conn, "v11b", **ONE, trait__CUSTOM_NVIDIA_11="required"))
    conn.compute.stop_server(stopped.id)
    cloud.settled(conn, stopped.id, "SHUTOFF")
    before = {(d["uuid"], d["type"], d["server_id"]) for d in cloud.devices(conn, "host1")}
    assert len(before) == 4

    answer = conn.session.post(f"{cloud.url}/fleet/v1/hosts/host1/reboot")
    assert answer.status_code == 202, answer.text

    def back() -> set[tuple[str, str, str]]:
        return {(d["uuid"], d["type"], d["server_id"]) for d in cloud.devices(conn, "host1")}

    deadline = time.monotonic() + 20
    while cloud.fleet(conn, "/operations")["operations"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert back() == before
    states = {s.name: (s.status, s.power_state) for s in conn.compute.servers()}
    assert states == {"plain": ("ACTIVE", 1), "small": ("ACTIVE", 1), "pair": ("ACTIVE", 1), "stopped": ("SHUTOFF", 4)}
    for server in (plain, small, pair, stopped):
        cloud.delete(conn, server.id)
    assert cloud.counts(conn, "host1") == 0


def test_a_named_host_is_the_one_or_none(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)), host("host2", gpu(A, framework)))
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "v1", **ONE)
    assert cloud.server(conn, "s1", flavor, availability_zone="nova:host2").compute_host == "host2"
    assert cloud.server(conn, "s2", flavor, host="host1").compute_host == "host1"
    with pytest.raises(exceptions.BadRequestException):
        cloud.server(conn, "s3", flavor, availability_zone="nova:elsewhere")


def test_a_cold_migration_leaves_its_host(launch: Launch, framework: str) -> None:
    cloud = launch(host("host1", gpu(A, framework)), host("host2", gpu(A, framework)))
    conn = cloud.connect()
    server = cloud.server(conn, "s1", cloud.flavor(conn, "v1", **ONE), host="host1")
    conn.compute.migrate_server(server.id)
    moved = cloud.settled(conn, server.id)
    assert (moved.status, moved.compute_host) == ("VERIFY_RESIZE", "host2")
    conn.compute.confirm_server_resize(server.id)
    cloud.settled(conn, server.id, "ACTIVE")
    assert (cloud.counts(conn, "host1"), cloud.counts(conn, "host2")) == (0, 1)
