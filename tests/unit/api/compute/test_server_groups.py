"""Server groups over the API: made, shown by version, kept to their project, and obeyed when servers are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, wanted, why

Boot = Callable[..., str]
GROUPS = "/os-server-groups"


def new(policy: str = "anti-affinity", **more: Any) -> dict[str, Any]:
    return {"server_group": {"name": "g", "policy": policy} | more}


def old(*policies: str, **more: Any) -> dict[str, Any]:
    return {"server_group": {"name": "g", "policies": list(policies)} | more}


def made(call: Call, policy: str = "anti-affinity", *, user: str = "demo", **more: Any) -> Any:
    answer = call("POST", GROUPS, new(policy, **more), user=user)
    assert answer.status_code == 200, answer.text
    return answer.json()["server_group"]


def hinted(group_id: Any, key: str = "os:scheduler_hints", **more: Any) -> dict[str, Any]:
    return wanted(**more) | {key: {"group": group_id}}


@pytest.mark.parametrize(
    ("version", "body", "shown"),
    [
        ("2.1", old("affinity"), {"policies": ["affinity"], "metadata": {}}),
        ("2.14", old("anti-affinity"), {"policies": ["anti-affinity"], "metadata": {}}),
        ("2.15", old("soft-affinity"), {"policies": ["soft-affinity"], "metadata": {}}),
        ("2.63", old("soft-anti-affinity"), {"policies": ["soft-anti-affinity"], "metadata": {}}),
        ("2.64", new("soft-affinity"), {"policy": "soft-affinity", "rules": {}}),
        ("2.64", new("soft-affinity", rules={}), {"policy": "soft-affinity", "rules": {}}),
        ("2.96", new(rules={"max_server_per_host": 3}), {"policy": "anti-affinity", "rules": {"max_server_per_host": 3}}),
        ("2.96", new(rules={"max_server_per_host": "3"}), {"policy": "anti-affinity", "rules": {"max_server_per_host": 3}}),
    ],
)
def test_each_version_has_its_own_words_for_a_policy(
    call: Call, project_ids: dict[str, str], user_ids: dict[str, str], version: str, body: Any, shown: Any
) -> None:
    group = call("POST", GROUPS, body, version=version).json()["server_group"]
    owners = {"project_id": project_ids["demo"], "user_id": user_ids["demo"]} if version not in ("2.1", "2.12") else {}
    assert group == {"id": group["id"], "name": "g", "members": []} | owners | shown
    assert call("GET", f"{GROUPS}/{group['id']}", version=version).json() == {"server_group": group}
    assert call("GET", GROUPS, version=version).json() == {"server_groups": [group]}
    assert call("DELETE", f"{GROUPS}/{group['id']}", version=version).status_code == 204
    assert why(call("GET", f"{GROUPS}/{group['id']}", version=version))[0] == 404
    assert why(call("DELETE", f"{GROUPS}/{group['id']}", version=version))[0] == 404


@pytest.mark.parametrize(
    ("version", "body", "names"),
    [
        ("2.1", old("soft-affinity"), "policies"),
        ("2.1", old(), "policies"),
        ("2.1", old("affinity", "anti-affinity"), "policies"),
        ("2.1", old("affinity", "affinity"), "policies"),
        ("2.63", new("affinity"), "policies"),
        ("2.63", old("anti-affinity", rules={"max_server_per_host": 2}), "rules"),
        ("2.64", old("affinity"), "policy"),
        ("2.64", new("legacy"), "policy"),
        ("2.64", new("affinity", policies=["affinity"]), "policy"),
        ("2.64", new("affinity", rules={"max_server_per_host": 2}), "rules"),
        ("2.64", new(rules={"max_server_per_host": 0}), "max_server_per_host"),
        ("2.64", new(rules={"max_server_per_host": -1}), "max_server_per_host"),
        ("2.64", new(rules={"max_server_per_host": 2**31}), "max_server_per_host"),
        ("2.64", new(rules={"max_server_per_host": "two"}), "max_server_per_host"),
        ("2.64", new(rules={"most": 2}), "most"),
        ("2.64", new(name=""), "name"),
        ("2.64", new(name=" g"), "name"),
        ("2.64", new(name="x" * 256), "name"),
        ("2.64", new(name="a\0b"), "NUL"),
        ("2.64", new(colour="red"), "colour"),
        ("2.64", {"server_group": {"policy": "affinity"}}, "name"),
        ("2.64", {"server_group": None}, "server_group"),
        ("2.64", {}, "server_group"),
    ],
)
def test_a_group_that_cannot_be_is_refused_by_name(call: Call, version: str, body: Any, names: str) -> None:
    status, message = why(call("POST", GROUPS, body, version=version))
    assert status == 400
    assert names in message
    assert call("GET", GROUPS).json() == {"server_groups": []}


def test_groups_come_in_pages(call: Call) -> None:
    ids = [made(call, name=f"g{n}")["id"] for n in range(4)]

    def listed(query: str, user: str = "demo") -> list[str]:
        return [group["id"] for group in call("GET", f"{GROUPS}?{query}", user=user).json()["server_groups"]]

    assert listed("limit=2") == ids[:2]
    assert listed("limit=2&offset=3") == ids[3:]
    assert listed("offset=9") == []
    assert listed("", user="admin") == []
    assert listed("all_projects=True", user="admin") == ids
    for query in ("limit=-1", "offset=-1", "offset=x", "limit=x"):
        assert why(call("GET", f"{GROUPS}?{query}"))[0] == 400
    assert "colour" in why(call("GET", f"{GROUPS}?colour=red"))[1]
    assert call("GET", f"{GROUPS}?colour=red", version="2.74").status_code == 200


def test_anothers_group_is_as_if_it_were_not_there(call: Call, stranger: Callable[..., str]) -> None:
    stranger("eve")
    group = made(call)
    for user, there in (("eve", False), ("demo", True), ("admin", True)):
        answer = call("GET", f"{GROUPS}/{group['id']}", user=user)
        assert (answer.status_code == 200) is there
    assert call("GET", f"{GROUPS}?all_projects=1", user="eve").json() == {"server_groups": []}
    status, message = why(call("DELETE", f"{GROUPS}/{group['id']}", user="eve"))
    assert (status, message.replace(group["id"], MISSING)) == why(call("DELETE", f"{GROUPS}/{MISSING}", user="eve"))
    assert status == 404
    status, message = why(call("POST", "/servers", hinted(group["id"]), user="eve"))
    assert status == 400
    assert f"Instance group {group['id']} could not be found" in message
    assert call("DELETE", f"{GROUPS}/{group['id']}", user="admin").status_code == 204


@pytest.mark.parametrize("key", ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"])
def test_servers_are_kept_apart_by_their_group(call: Call, world: World, key: str) -> None:
    group = made(call)
    answer = call("POST", "/servers", hinted(group["id"], key, min_count=3))
    assert answer.status_code == 202, answer.text
    world.settle()
    servers = call("GET", "/servers/detail?sort_key=name&sort_dir=asc", user="admin", params={"all_tenants": "1"}).json()["servers"]
    assert sorted(s["status"] for s in servers) == ["ACTIVE", "ACTIVE", "ERROR"]
    assert {s["OS-EXT-SRV-ATTR:host"] for s in servers} == {"host1", "host2", None}
    (refused,) = [s for s in servers if s["status"] == "ERROR"]
    assert f"has 1 of at most 1 servers of anti-affinity group {group['id']}" in refused["fault"]["message"]
    shown = call("GET", f"{GROUPS}/{group['id']}").json()["server_group"]
    assert sorted(shown["members"]) == sorted(s["id"] for s in servers)


def test_a_server_tells_its_group_and_a_deleted_one_leaves_it(call: Call, world: World, boot: Boot) -> None:
    group, alone = made(call, "affinity"), boot()
    server_id = call("POST", "/servers", hinted(group["id"])).json()["server"]["id"]
    world.settle()
    for version, shown in (("2.71", [group["id"]]), ("2.96", [group["id"]]), ("2.70", None)):
        assert call("GET", f"/servers/{server_id}", version=version).json()["server"].get("server_groups") == shown
    assert call("GET", f"/servers/{alone}").json()["server"]["server_groups"] == []
    renamed = call("PUT", f"/servers/{server_id}", {"server": {"name": "new"}}).json()["server"]
    assert renamed["server_groups"] == [group["id"]]
    assert all("server_groups" not in s for s in call("GET", "/servers/detail").json()["servers"])
    call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert call("GET", f"{GROUPS}/{group['id']}").json()["server_group"]["members"] == []


@pytest.mark.parametrize(
    ("hints", "names"),
    [
        ({"group": MISSING}, f"Instance group {MISSING} could not be found."),
        ({"group": "g"}, "os:scheduler_hints.group"),
        ({"group": 7}, "group"),
        ({"group": [MISSING]}, "group"),
        ({"different_host": "nonsense"}, "different_host"),
        ({"same_host": [MISSING, "nonsense"]}, "same_host"),
        ({"same_host": 7}, "same_host"),
        ({"query": 7}, "query"),
        ({"cidr": 7}, "cidr"),
        ([], "scheduler_hints"),
    ],
)
def test_a_hint_of_the_wrong_form_is_refused(call: Call, hints: Any, names: str) -> None:
    status, message = why(call("POST", "/servers", wanted() | {"os:scheduler_hints": hints}))
    assert status == 400
    assert names in message
    assert call("GET", "/servers").json()["servers"] == []


@pytest.mark.parametrize(
    "hints",
    [
        {},
        {"different_host": MISSING},
        {"same_host": [MISSING]},
        {"query": '[">=","$free_ram_mb",1024]'},
        {"query": {"a": 1}},
        {"build_near_host_ip": "192.0.2.1", "cidr": "/24"},
        {"target_cell": "c", "different_cell": ["d"]},
        {"my_own": {"a": [1]}},
    ],
)
def test_a_hint_to_a_filter_that_is_not_enabled_has_no_effect(call: Call, world: World, hints: Any) -> None:
    server_id = call("POST", "/servers", wanted() | {"os:scheduler_hints": hints}).json()["server"]["id"]
    world.settle()
    assert call("GET", f"/servers/{server_id}").json()["server"]["status"] == "ACTIVE"


def test_groups_are_counted_and_not_limited(call: Call, project_ids: dict[str, str]) -> None:
    made(call)
    made(call, "affinity")
    absolute = call("GET", "/limits").json()["limits"]["absolute"]
    assert (absolute["maxServerGroups"], absolute["maxServerGroupMembers"], absolute["totalServerGroupsUsed"]) == (-1, -1, 2)
    detail = call("GET", f"/os-quota-sets/{project_ids['demo']}/detail").json()["quota_set"]
    assert detail["server_groups"] == {"limit": -1, "in_use": 2, "reserved": 0}
