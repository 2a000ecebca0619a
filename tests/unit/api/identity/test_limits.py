"""Unified limits over the Identity API."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.identity.calls import Caller, log_in

from lamina.api import identity as room
from lamina.api.application import application
from lamina.api.identity.catalog import SERVICES
from lamina.operations.control_plane import ControlPlane
from lamina.store import identity, limits

COMPUTE = next(service.id for service in SERVICES if service.type == "compute")
NOTHING = "0" * 32


@pytest.fixture
def ask(client: TestClient, headers: Callable[..., dict[str, str]]) -> Callable[..., Any]:
    """``ask("GET", "/limits", user="demo")``: status and body."""

    def asked(method: str, path: str, body: Any = None, user: str = "admin") -> tuple[int, Any]:
        answer = client.request(method, f"/identity/v3{path}", headers=headers(user), json=body)
        return answer.status_code, answer.json() if answer.content else None

    return asked


def registered(ask: Any, name: str = "servers", amount: int = 10, **more: Any) -> Any:
    body = {"registered_limits": [{"service_id": COMPUTE, "resource_name": name, "default_limit": amount} | more]}
    status, answer = ask("POST", "/registered_limits", body)
    assert status == 201, answer
    return answer["registered_limits"][0]


def limited(ask: Any, project_id: str, name: str = "servers", amount: int = 3, **more: Any) -> Any:
    body = {"limits": [{"service_id": COMPUTE, "resource_name": name, "resource_limit": amount, "project_id": project_id} | more]}
    status, answer = ask("POST", "/limits", body)
    assert status == 201, answer
    return answer["limits"][0]


def test_a_registered_limit_is_made_seen_changed_and_deleted(ask: Any) -> None:
    made = registered(ask, "vgpu_type:NVIDIA A40-8Q", 4, description="cards", region_id="RegionOne")
    assert made["links"]["self"].endswith(f"/identity/v3/registered_limits/{made['id']}")
    assert {k: v for k, v in made.items() if k not in ("id", "links")} == {
        "service_id": COMPUTE,
        "region_id": "RegionOne",
        "resource_name": "vgpu_type:NVIDIA A40-8Q",
        "default_limit": 4,
        "description": "cards",
    }
    path = f"/registered_limits/{made['id']}"
    assert ask("GET", path, user="demo") == (200, {"registered_limit": made})
    changes = {"registered_limit": {"default_limit": -1, "resource_name": "class:VGPU", "description": None}}
    status, changed = ask("PATCH", path, changes)
    assert status == 200
    assert changed["registered_limit"] == made | {"default_limit": -1, "resource_name": "class:VGPU", "description": None}
    assert ask("GET", "/registered_limits", user="demo")[1]["registered_limits"] == [changed["registered_limit"]]
    assert ask("DELETE", path)[0] == 204
    assert ask("GET", path)[0] == ask("PATCH", path, changes)[0] == ask("DELETE", path)[0] == 404


def test_of_a_list_all_are_made_or_none(ask: Any) -> None:
    new = {"service_id": COMPUTE, "default_limit": 1}
    names = ("servers", "class:VCPU", "servers")
    assert ask("POST", "/registered_limits", {"registered_limits": [new | {"resource_name": name} for name in names]})[0] == 409
    assert ask("GET", "/registered_limits")[1]["registered_limits"] == []
    assert ask("POST", "/registered_limits", {"registered_limits": [new | {"resource_name": name} for name in names[:2]]})[0] == 201
    assert len(ask("GET", "/registered_limits?resource_name=servers")[1]["registered_limits"]) == 1
    assert ask("GET", f"/registered_limits?service_id={NOTHING}")[1]["registered_limits"] == []


@pytest.mark.weakness(178)
def test_one_type_has_one_limit_however_it_is_spelt(ask: Any) -> None:
    made = registered(ask, "vgpu_type:NVIDIA A40-8Q")
    other = registered(ask, "servers")
    again = {"service_id": COMPUTE, "resource_name": "vgpu_type:nvidia_a40_8q", "default_limit": 9}
    assert ask("POST", "/registered_limits", {"registered_limits": [again]})[0] == 409
    changes = {"registered_limit": {"resource_name": "vgpu_type:nvidia_a40_8q"}}
    assert ask("PATCH", f"/registered_limits/{other['id']}", changes)[0] == 409
    assert ask("PATCH", f"/registered_limits/{made['id']}", changes)[0] == 200


def test_a_limit_is_made_seen_changed_and_deleted(ask: Any, project_ids: dict[str, str]) -> None:
    made = limited(ask, project_ids["demo"])
    assert {k: v for k, v in made.items() if k not in ("id", "links")} == {
        "service_id": COMPUTE,
        "region_id": None,
        "project_id": project_ids["demo"],
        "domain_id": None,
        "resource_name": "servers",
        "resource_limit": 3,
        "description": None,
    }
    path = f"/limits/{made['id']}"
    assert ask("GET", path) == ask("GET", path, user="demo") == (200, {"limit": made})
    status, changed = ask("PATCH", path, {"limit": {"resource_limit": 5, "description": "more"}})
    assert (status, changed["limit"]) == (200, made | {"resource_limit": 5, "description": "more"})
    assert ask("PATCH", path, {"limit": {}}) == (200, changed)
    assert ask("GET", f"/limits?project_id={project_ids['demo']}&resource_name=servers")[1]["limits"] == [changed["limit"]]
    assert ask("DELETE", path)[0] == 204
    assert ask("GET", path)[0] == ask("PATCH", path, {"limit": {"resource_limit": 1}})[0] == ask("DELETE", path)[0] == 404


def test_a_user_within_a_project_has_a_limit_beside_the_projects(ask: Any, project_ids: dict[str, str], user_ids: dict[str, str]) -> None:
    of_project = limited(ask, project_ids["demo"])
    of_user = limited(ask, project_ids["demo"], amount=1, user_id=user_ids["demo"])
    assert of_user["user_id"] == user_ids["demo"]
    assert "user_id" not in of_project
    assert ask("GET", f"/limits?user_id={user_ids['demo']}")[1]["limits"] == [of_user]
    again = {"service_id": COMPUTE, "resource_name": "servers", "resource_limit": 1, "project_id": project_ids["demo"]}
    assert ask("POST", "/limits", {"limits": [again]})[0] == 409


@pytest.mark.weakness(639)
def test_a_member_sees_the_limits_of_his_project_and_no_others(ask: Any, project_ids: dict[str, str]) -> None:
    own, foreign = limited(ask, project_ids["demo"]), limited(ask, project_ids["admin"])
    assert ask("GET", "/limits", user="demo")[1]["limits"] == [own]
    assert ask("GET", f"/limits?project_id={project_ids['admin']}", user="demo")[1]["limits"] == []
    assert len(ask("GET", "/limits")[1]["limits"]) == 2
    status, told = ask("GET", f"/limits/{foreign['id']}", user="demo")
    nothing, as_told = ask("GET", f"/limits/{NOTHING}", user="demo")
    assert status == nothing == 404
    assert told["error"]["message"].replace(foreign["id"], NOTHING) == as_told["error"]["message"]
    for method, path, body in (
        ("POST", "/limits", {"limits": []}),
        ("PATCH", f"/limits/{own['id']}", {"limit": {"resource_limit": -1}}),
        ("DELETE", f"/limits/{own['id']}", None),
        ("POST", "/registered_limits", {"registered_limits": []}),
    ):
        assert ask(method, path, body, user="demo")[0] == 403
    assert ask("GET", f"/limits/{own['id']}") == (200, {"limit": own})


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource_name": "cores"},
        {"resource_name": "class:"},
        {"resource_name": ""},
        {"resource_limit": -2},
        {"resource_limit": 2**31},
        {"resource_limit": "1"},
        {"service_id": NOTHING},
        {"region_id": "elsewhere"},
        {"project_id": NOTHING},
        {"project_id": None},
        {"project_id": None, "domain_id": "default"},
        {"domain_id": "default"},
        {"user_id": NOTHING},
        {"description": "\0"},
        {"more": 1},
    ],
)
@pytest.mark.weakness(20)
def test_what_is_no_limit_is_refused(ask: Any, project_ids: dict[str, str], wrong: dict[str, Any]) -> None:
    new = {"service_id": COMPUTE, "resource_name": "servers", "resource_limit": 1, "project_id": project_ids["demo"]}
    assert ask("POST", "/limits", {"limits": [new | {"resource_name": "class:VGPU"}, new | wrong]})[0] == 400
    assert ask("GET", "/limits")[1]["limits"] == []


def test_a_groups_members_are_not_limited_by_user(ask: Any, project_ids: dict[str, str], user_ids: dict[str, str]) -> None:
    new = {"service_id": COMPUTE, "resource_name": "server_group_members", "resource_limit": 1, "project_id": project_ids["demo"]}
    assert ask("POST", "/limits", {"limits": [new | {"user_id": user_ids["demo"]}]})[0] == 400


def test_the_model_is_flat(ask: Any) -> None:
    status, answer = ask("GET", "/limits/model", user="demo")
    assert (status, answer["model"]["name"]) == (200, "flat")


def test_limits_go_with_their_project_and_their_user(ask: Any, cloud: ControlPlane, stranger: Callable[..., str]) -> None:
    project_id = stranger("eve")
    with cloud.db.read() as tx:
        (eve,) = identity.list_users(tx, name="eve")
    limited(ask, project_id)
    limited(ask, project_id, amount=1, user_id=eve.id)
    assert ask("DELETE", f"/users/{eve.id}")[0] == 204
    with cloud.db.read() as tx:
        assert [limit.user_id for limit in limits.page(tx)] == [None]
    assert ask("DELETE", f"/projects/{project_id}")[0] == 204
    with cloud.db.read() as tx:
        assert limits.page(tx) == []


@pytest.mark.weakness(863)
def test_a_domains_managers_set_no_limits_whatever_a_policy_file_says(
    client: TestClient, cloud: ControlPlane, headers: Callable[..., dict[str, str]], role_ids: dict[str, str], tmp_path: Path
) -> None:
    admin = Caller(client, headers("admin"))
    domain = admin.make("domain", name="lab")["id"]
    boss = admin.make("user", name="boss", password="secret", domain_id=domain)
    project = admin.make("project", name="work", domain_id=domain)["id"]
    admin.call("PUT", f"/domains/{domain}/users/{boss['id']}/roles/{role_ids['manager']}", 204)
    token = log_in(client, "boss", "secret", "lab", {"domain": {"name": "lab"}}).headers
    rules = ("create_limits", "update_limit", "delete_limit", "create_registered_limits", "update_registered_limit")
    policy = tmp_path / "policy.yaml"
    policy.write_text("".join(f'"identity:{rule}": "@"\n' for rule in (*rules, "delete_registered_limit")))
    settings = dataclasses.replace(cloud.settings, policy_file=policy)
    one = {"service_id": COMPUTE, "resource_name": "servers"}
    with TestClient(application(dataclasses.replace(cloud, settings=settings), (room.ROOM,))) as open_client:
        anybody = Caller(open_client, headers("demo"))
        made = anybody.call("POST", "/limits", 201, {"limits": [one | {"resource_limit": 1, "project_id": project}]})["limits"][0]
        default = anybody.call("POST", "/registered_limits", 201, {"registered_limits": [one | {"default_limit": 1}]})
        of_domain = Caller(open_client, token)
        of_domain.call("POST", "/limits", 403, {"limits": [one | {"resource_limit": -1, "project_id": project}]})
        of_domain.call("POST", "/registered_limits", 403, {"registered_limits": [one | {"default_limit": -1}]})
        for path, body in (
            (f"/limits/{made['id']}", {"limit": {"resource_limit": -1}}),
            (f"/registered_limits/{default['registered_limits'][0]['id']}", {"registered_limit": {"default_limit": -1}}),
        ):
            of_domain.call("PATCH", path, 403, body)
            of_domain.call("DELETE", path, 403)
            anybody.call("DELETE", path, 204)
