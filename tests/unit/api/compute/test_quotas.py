"""Quota sets: what an administrator sets holds at once, and a member sees his own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call, wanted, why

from lamina.model.servers import TaskState
from lamina.operations import queueing

Boot = Callable[..., str]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.fixture
def limit(call: Call, project_ids: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """``limit(cores=2)``: the quota set of project demo that PUT answers."""

    def put(query: str = "", *, project: str = "demo", **amounts: Any) -> dict[str, Any]:
        answer = call("PUT", f"/os-quota-sets/{project_ids[project]}{query}", {"quota_set": amounts}, user="admin")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()["quota_set"]
        return shown

    return put


@pytest.fixture
def own(call: Call, project_ids: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def get(path: str = "", user: str = "demo") -> dict[str, Any]:
        answer = call("GET", f"/os-quota-sets/{project_ids['demo']}{path}", user=user)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()["quota_set"]
        return shown

    return get


def refused(call: Call, **more: Any) -> str:
    status, message = why(call("POST", "/servers", wanted(**more)))
    assert status == 403
    return message


@pytest.mark.weakness(770)
def test_more_cores_than_a_project_may_have_are_refused_with_the_figures(call: Call, boot: Boot, limit: Any) -> None:
    limit(cores=2, ram=100)
    boot()
    said = refused(call, min_count=2)
    assert said == "Quota exceeded for cores, ram: Requested 2, 128, but already used 1, 64 of 2, 100 cores, ram"
    assert len(call("GET", "/servers").json()["servers"]) == 1, "nothing is half done"
    assert "Requested 1, but already used" not in refused(call)  # cores fit, memory does not
    limit(ram=-1)
    boot()
    assert refused(call) == "Quota exceeded for cores: Requested 1, but already used 2 of 2 cores"


def test_servers_count_from_their_request_on_until_they_are_deleted(call: Call, boot: Boot, limit: Any, world: World) -> None:
    limit(instances=2)
    lost = boot(flavorRef="huge")
    boot(settled=False)
    assert refused(call) == "Quota exceeded for instances: Requested 1, but already used 2 of 2 instances"
    assert refused(call, min_count=3).startswith("Quota exceeded for instances: Requested 3, but already used 2 of 2")
    call("DELETE", f"/servers/{lost}")
    world.settle()
    boot()


def test_vgpus_are_limited_by_class_and_by_type(call: Call, boot: Boot, limit: Any, own: Any, world: World) -> None:
    shown = limit(**{"class:VGPU": 1, "vgpu_type:nvidia-11": 1})
    assert (shown["class:VGPU"], shown["vgpu_type:nvidia-11"]) == (1, 1)
    assert own()["class:VGPU"] == 1
    assert own("/detail")["vgpu_type:nvidia-11"] == {"limit": 1, "in_use": 0, "reserved": 0}
    boot(flavorRef="vgpu")
    assert own("/detail")["class:VGPU"] == {"limit": 1, "in_use": 1, "reserved": 0}
    types = {name: of["in_use"] for name, of in own("/detail").items() if name.startswith("vgpu_type:")}
    assert sum(types.values()) == 1
    assert refused(call, flavorRef="vgpu") == "Quota exceeded for class:VGPU: Requested 1, but already used 1 of 1 class:VGPU"


def test_a_type_that_only_the_claim_knows_ends_the_creation_with_a_fault(call: Call, boot: Boot, limit: Any) -> None:
    limit(**{"vgpu_type:nvidia-11": 0, "vgpu_type:nvidia-12": 0})
    server = call("GET", f"/servers/{boot(flavorRef='vgpu')}").json()["server"]
    assert server["status"] == "ERROR"
    assert server["fault"]["message"].startswith("Quota exceeded for vgpu_type:nvidia-1")


def test_one_that_waits_for_room_waits_for_its_quota_too(call: Call, limit: Any, world: World) -> None:
    limit(cores=0)
    answer = call("POST", "/servers", wanted() | {"os:scheduler_hints": {"lamina:wait": "600"}})
    server_id = answer.json()["server"]["id"]
    world.settle()
    assert world.server(server_id).task_state is TaskState.QUEUED
    (shown,) = (s for s in call("GET", "/servers/detail").json()["servers"] if s["id"] == server_id)
    assert shown["status"] == "BUILD"
    assert queueing.look(world.plane) is None, "it is not begun only to be refused again"
    with world.plane.db.read() as tx:
        ((_, waiting),) = queueing.places(tx).values()
    assert waiting.reason == "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores"
    limit(cores=1)
    assert queueing.look(world.plane) == server_id
    world.settle()
    assert call("GET", f"/servers/{server_id}").json()["server"]["status"] == "ACTIVE"


def test_a_user_has_a_share_of_what_his_project_may_have(call: Call, boot: Boot, limit: Any, own: Any, user_ids: dict[str, str]) -> None:
    limit(cores=3)
    of_demo = f"?user_id={user_ids['demo']}"
    assert limit(of_demo, cores=1)["cores"] == 1
    assert (own()["cores"], own(of_demo)["cores"]) == (3, 1)
    boot()
    assert refused(call) == "Quota exceeded for cores of the user: Requested 1, but already used 1 of 1 cores of the user"
    assert own(f"/detail{of_demo}")["cores"] == {"limit": 1, "in_use": 1, "reserved": 0}
    assert call("DELETE", f"/os-quota-sets/{call_project(own)}{of_demo}", user="admin").status_code == 202
    assert own(of_demo)["cores"] == 3
    boot()


def call_project(own: Any) -> str:
    return str(own()["id"])


def test_the_default_class_holds_for_projects_without_a_limit_of_their_own(call: Call, boot: Boot, limit: Any, own: Any) -> None:
    answer = call("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"instances": 1, "cores": "7"}}, user="admin")
    assert (answer.status_code, answer.json()["quota_class_set"]["instances"]) == (200, 1)
    assert call("GET", "/os-quota-class-sets/default", user="admin").json()["quota_class_set"] == answer.json()["quota_class_set"] | {
        "id": "default"
    }
    assert (own()["instances"], own("/defaults")["cores"]) == (1, 7)
    boot()
    assert refused(call) == "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"
    limit(instances=-1)
    boot()
    assert own("/defaults")["instances"] == 1
    assert call("DELETE", f"/os-quota-sets/{call_project(own)}", user="admin").status_code == 202
    assert own()["instances"] == 1
    assert why(call("GET", "/os-quota-class-sets/gold", user="admin"))[0] == 404


def test_limits_show_what_holds(call: Call, boot: Boot, limit: Any) -> None:
    limit(instances=5, cores=6, ram=700, server_groups=8, server_group_members=9, key_pairs=3)
    boot()
    absolute = call("GET", "/limits").json()["limits"]["absolute"]
    most = [absolute[f"max{name}"] for name in ("TotalInstances", "TotalCores", "TotalRAMSize", "ServerGroups", "ServerGroupMembers")]
    assert most == [5, 6, 700, 8, 9]
    assert (absolute["maxTotalKeypairs"], absolute["totalInstancesUsed"], absolute["totalRAMUsed"]) == (3, 1, 64)


def test_groups_members_and_key_pairs_are_limited_where_they_are_made(call: Call, boot: Boot, limit: Any) -> None:
    limit(server_groups=1, server_group_members=1, key_pairs=1)
    group = {"server_group": {"name": "g", "policy": "soft-affinity"}}
    made = call("POST", "/os-server-groups", group)
    assert why(call("POST", "/os-server-groups", group)) == (
        403,
        "Quota exceeded for server_groups: Requested 1, but already used 1 of 1 server_groups",
    )
    hinted = {"os:scheduler_hints": {"group": made.json()["server_group"]["id"]}}
    assert call("POST", "/servers", wanted() | hinted).status_code == 202
    status, message = why(call("POST", "/servers", wanted() | hinted))
    assert (status, message.split(":")[0]) == (403, "Quota exceeded for server_group_members")
    assert call("POST", "/os-keypairs", {"keypair": {"name": "a", "public_key": KEY}}).status_code == 201
    status, message = why(call("POST", "/os-keypairs", {"keypair": {"name": "b", "public_key": KEY}}))
    assert (status, message.split(":")[0]) == (403, "Quota exceeded for key_pairs")
    assert len(call("GET", "/os-keypairs").json()["keypairs"]) == 1


def test_less_than_is_used_is_refused_unless_forced(call: Call, boot: Boot, limit: Any, project_ids: dict[str, str]) -> None:
    boot()
    path = f"/os-quota-sets/{project_ids['demo']}"
    said = why(call("PUT", path, {"quota_set": {"cores": 0}}, user="admin"))
    assert said == (400, "Quota limit 0 for cores must be greater than or equal to already used and reserved 1.")
    assert limit(cores=0, force=True)["cores"] == 0
    limit(cores=5)
    said = why(call("PUT", f"{path}?user_id={'0' * 32}", {"quota_set": {"cores": 1}}, user="admin"))
    assert said == (400, f"User ID {'0' * 32} is not a valid user.")


def test_a_user_is_given_no_more_than_his_project(call: Call, limit: Any, project_ids: dict[str, str], user_ids: dict[str, str]) -> None:
    limit(cores=5)
    path = f"/os-quota-sets/{project_ids['demo']}?user_id={user_ids['demo']}"
    said = why(call("PUT", path, {"quota_set": {"cores": 6}}, user="admin"))
    assert said == (400, "Quota limit 6 for cores must be less than or equal to 5.")
    assert why(call("PUT", path, {"quota_set": {"server_group_members": 1}}, user="admin"))[0] == 400


@pytest.mark.parametrize(
    "given",
    [
        {"cores": -2},
        {"cores": 2**31},
        {"cores": "x"},
        {"cores": None},
        {"cores": True},
        {"cores": 1.5},
        {"cores": []},
        {"disks": 1},
        {"class:vgpu": 1},
        {"vgpu_type:": 1},
        {"metadata_items": 5},
        {"injected_files": 5},
        {"cores": 1, "force": "perhaps"},
    ],
)
@pytest.mark.weakness(20)
def test_what_is_no_quota_is_refused_and_nothing_is_set(call: Call, own: Any, project_ids: dict[str, str], given: dict[str, Any]) -> None:
    before = own()
    body = {"quota_set": {"ram": 500} | given}
    assert why(call("PUT", f"/os-quota-sets/{project_ids['demo']}", body, user="admin"))[0] == 400
    assert own() == before


@pytest.mark.parametrize("project", ["nobody", "0" * 32, "x" * 300])
def test_a_project_that_is_not_is_given_no_quota(call: Call, project: str) -> None:
    assert why(call("PUT", f"/os-quota-sets/{project}", {"quota_set": {"cores": 1}}, user="admin"))[0] == 400
    assert why(call("DELETE", f"/os-quota-sets/{project}", user="admin"))[0] == 400


@pytest.mark.parametrize("path", ["", "/detail", "/defaults"])
@pytest.mark.weakness(203)
def test_a_member_cannot_tell_another_project_from_none(call: Call, project_ids: dict[str, str], path: str) -> None:
    real, none = (call("GET", f"/os-quota-sets/{project}{path}") for project in (project_ids["admin"], "0" * 32))
    assert why(real) == why(none)
    assert why(real)[0] == 403
    for project in (project_ids["demo"], project_ids["admin"], "0" * 32):
        assert why(call("PUT", f"/os-quota-sets/{project}", {"quota_set": {"cores": 1}}))[0] == 403
        assert why(call("DELETE", f"/os-quota-sets/{project}"))[0] == 403


def test_resize_unshelve_and_attach_are_refused_at_once(call: Call, boot: Boot, limit: Any, world: World) -> None:
    server_id, other = boot(), boot()
    call("POST", f"/servers/{other}/action", {"shelve": None})
    world.settle()
    limit(cores=1, **{"class:VGPU": 0})
    for body in ({"resize": {"flavorRef": "vgpu"}}, {"unshelve": None}):
        status, message = why(call("POST", f"/servers/{server_id if 'resize' in body else other}/action", body))
        assert (status, message.split(":")[0]) == (403, "Quota exceeded for " + ("class" if "resize" in body else "cores"))
    status, message = why(call("POST", f"/servers/{server_id}/lamina-vgpus", {"vgpu": {"type": "nvidia-11"}}))
    assert (status, message) == (403, "Quota exceeded for class:VGPU: Requested 1, but already used 0 of 0 class:VGPU")


def test_an_unknown_body_is_refused(client: TestClient, headers: Any, project_ids: dict[str, str]) -> None:
    for content in (b"", b"[]", b'{"quota_set": 1}', b'{"quota_set": {}, "more": 1}'):
        path = f"/compute/v2.1/os-quota-sets/{project_ids['demo']}"
        assert client.put(path, headers=headers("admin"), content=content).status_code == 400
