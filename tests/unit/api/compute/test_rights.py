"""Who may do what: routes and actions are read from the tables, so a new one is held to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.unit.api.compute.conftest import MISSING, ROOMS, Call, wanted, why

from lamina.api import compute
from lamina.api.compute import server_actions
from lamina.api.compute.answers import MICROVERSIONS
from lamina.api.routing import ADMIN, MEMBER, Route

Boot = Callable[..., str]
PUBLIC = {"/compute", "/compute/", "/compute/v2.1", "/compute/v2.1/"}
OF_A_SERVER = [route for route in compute.ROOM.routes if "{server}" in route.path]
#: keys are the user's own, whatever the role in a project
CHANGES = [route for route in compute.ROOM.routes if route.method != "GET" and not route.path.startswith("/os-keypairs")]

#: a body that each route with one would take
BODIES: dict[tuple[str, str], Any] = {
    ("PUT", "/servers/{server}"): {"server": {"name": "new"}},
    ("POST", "/servers/{server}/action"): {"os-stop": None},
    ("POST", "/servers/{server}/metadata"): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server}/metadata"): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server}/metadata/{key}"): {"meta": {"a": "b"}},
    ("PUT", "/servers/{server}/tags"): {"tags": ["a"]},
    ("POST", "/servers/{server}/lamina-vgpus"): {"vgpu": {"type": "nvidia-11"}},
    ("POST", "/servers/{server}/remote-consoles"): {"remote_console": {"protocol": "vnc", "type": "novnc"}},
}
#: what each action takes
VALUES: dict[str, Any] = {"resize": {"flavorRef": "small"}, "reboot": {"type": "SOFT"}, "rebuild": {"imageRef": MISSING}}


def version_of(route: Route) -> str:
    return str(route.until or MICROVERSIONS.most)


def at(route: Route, **names: str) -> str:
    known = {"server": MISSING, "key": "a", "tag": "a", "request": "req-1", "migration": "1", "flavor": "small", "name": "k"}
    known |= {"hypervisor": MISSING, "pattern": "host", "service": MISSING, "project": "p", "port": MISSING, "network": "public"}
    known |= {"aggregate": "1", "group": MISSING, "vgpu": MISSING, "class": "default"} | names
    return route.path.format(**known)


def test_nothing_but_versions_is_answered_without_a_token(client: TestClient) -> None:
    for room in ROOMS:
        for route in room.routes:
            path = room.prefix + at(route)
            for token in (None, "nonsense"):
                headers = {"OpenStack-API-Version": f"compute {version_of(route)}"} | ({"X-Auth-Token": token} if token else {})
                answer = client.request(route.method, path, headers=headers, content=b"{}")
                assert (answer.status_code == 401) == (path not in PUBLIC), f"{route.method} {path}"
                assert route.public == (path in PUBLIC)


@pytest.mark.parametrize("route", [r for r in compute.ROOM.routes if r.check == ADMIN], ids=lambda r: f"{r.method} {r.path}")
def test_a_member_is_kept_from_what_is_the_administrators(call: Call, route: Route) -> None:
    status, message = why(call(route.method, at(route), {}, version=version_of(route)))
    assert status == 403
    assert route.rule in message


@pytest.mark.parametrize("route", CHANGES, ids=lambda r: f"{r.method} {r.path}")
@pytest.mark.weakness(863)
def test_a_reader_changes_nothing(call: Call, stranger: Callable[..., str], route: Route) -> None:
    stranger("eve", "reader")
    assert why(call(route.method, at(route), {}, user="eve", version=version_of(route)))[0] == 403


@pytest.mark.parametrize("route", OF_A_SERVER, ids=lambda r: f"{r.method} {r.path}")
@pytest.mark.weakness(639)
def test_anothers_server_is_as_if_it_were_not_there(
    call: Call, boot: Boot, stranger: Callable[..., str], route: Route
) -> None:
    stranger("eve")
    server_id = boot(metadata={"a": "1"}, tags=["a"])
    before = call("GET", f"/servers/{server_id}").json()
    body = BODIES.get((route.method, route.path))
    version = version_of(route)

    def told(there: str, user: str = "eve") -> tuple[int, str]:
        answer = call(route.method, at(route, server=there), body, user=user, version=version)
        return answer.status_code, answer.text.replace(there, "…")

    assert told(server_id) == told(MISSING)
    # what is not done here is not done for any server
    assert told(MISSING)[0] in ({403} if route.check == ADMIN else {404, 501})
    assert told("nonsense")[0] == told(MISSING)[0]
    assert call("GET", f"/servers/{server_id}").json() == before


@pytest.mark.parametrize("action", [*server_actions.ACTIONS, *sorted(server_actions.NOT_HERE)])
@pytest.mark.weakness(639)
def test_actions_on_anothers_server_too(call: Call, boot: Boot, stranger: Callable[..., str], action: str) -> None:
    stranger("eve")
    server_id = boot()
    body = {action: VALUES.get(action)}
    answers = [call("POST", f"/servers/{there}/action", body, user="eve") for there in (server_id, MISSING)]
    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].text.replace(server_id, MISSING) == answers[1].text


@pytest.mark.parametrize("action", [name for name, action in server_actions.ACTIONS.items() if action.check != MEMBER])
def test_an_administrators_or_managers_action_is_kept_from_members(call: Call, boot: Boot, action: str) -> None:
    status, message = why(call("POST", f"/servers/{boot()}/action", {action: None}))
    assert status == 403
    assert server_actions.ACTIONS[action].rule in message


def test_a_manager_moves_servers_and_does_not_say_where(call: Call, boot: Boot, stranger: Callable[..., str]) -> None:
    server_id = boot()
    stranger("mia", "manager", project="demo")
    for action in ("migrate", "os-migrateLive"):
        value = {"host": "host1"} if action == "migrate" else {"host": "host1", "block_migration": "auto"}
        status, message = why(call("POST", f"/servers/{server_id}/action", {action: value}, user="mia"))
        assert (status, ":host to be performed" in message) == (403, True)
    assert call("POST", f"/servers/{server_id}/action", {"migrate": None}, user="mia").status_code == 202


def test_an_administrator_reaches_every_projects_servers(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert call("GET", f"/servers/{server_id}", user="admin").status_code == 200
    assert call("PUT", f"/servers/{server_id}/tags/mine", user="admin").status_code == 201
    assert call("DELETE", f"/servers/{server_id}", user="admin").status_code == 204


def test_a_server_needs_a_project(client: TestClient, headers: Callable[..., dict[str, str]]) -> None:
    sent = headers("admin", None) | {"OpenStack-API-Version": "compute 2.96"}
    assert client.post("/compute/v2.1/servers", headers=sent, json=wanted()).status_code == 403


def test_limits_and_quotas_of_others_are_for_administrators(call: Call) -> None:
    for path in ("/limits?tenant_id=other", "/os-quota-sets/other", "/os-quota-sets/other/defaults", "/os-quota-sets/other/detail"):
        assert why(call("GET", path))[0] == 403
        assert call("GET", path, user="admin").status_code == 200


def test_what_a_version_does_not_have_is_not_found(call: Call, boot: Boot) -> None:
    server_id = boot()
    for route in compute.ROOM.routes:
        shared = sum((r.method, r.path) == (route.method, route.path) for r in compute.ROOM.routes) > 1
        if route.since is None or shared:
            continue
        before = f"2.{route.since.minor - 1}"
        path = at(route, server=server_id)
        assert why(call(route.method, path, {}, user="admin", version=before))[0] == 404, path
