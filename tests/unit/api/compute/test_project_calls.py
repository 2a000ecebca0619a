"""What a project is told of its limits, and the documented calls that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.api.compute.conftest import MISSING, Call, why

from lamina.api.compute import not_here

Boot = Callable[..., str]


def absolute(call: Call, query: str = "", **asked: Any) -> dict[str, int]:
    body = call("GET", f"/limits{query}", **asked).json()
    assert body["limits"]["rate"] == []
    shown: dict[str, int] = body["limits"]["absolute"]
    return shown


def test_what_a_project_uses_is_counted(call: Call, boot: Boot, project_ids: dict[str, str]) -> None:
    boot()
    boot(flavorRef="huge")  # one that ended in ERROR counts until it is deleted, but holds nothing
    used = ("totalInstancesUsed", "totalCoresUsed", "totalRAMUsed")
    assert [absolute(call)[name] for name in used] == [2, 1, 64]
    assert [absolute(call, user="admin")[name] for name in used] == [0, 0, 0]
    demos = f"?tenant_id={project_ids['demo']}"
    assert [absolute(call, demos, user="admin")[name] for name in used] == [2, 1, 64]
    assert absolute(call, demos) == absolute(call)
    assert why(call("GET", f"/limits?tenant_id={project_ids['admin']}"))[0] == 403
    assert {absolute(call)[name] for name in ("maxTotalInstances", "maxTotalCores", "maxTotalRAMSize", "maxTotalKeypairs")} == {-1}


@pytest.mark.parametrize(
    ("version", "name", "there"),
    [
        ("2.35", "maxTotalFloatingIps", True),
        ("2.36", "maxTotalFloatingIps", False),
        ("2.35", "maxSecurityGroups", True),
        ("2.36", "maxSecurityGroups", False),
        ("2.38", "maxImageMeta", True),
        ("2.39", "maxImageMeta", False),
        ("2.56", "maxPersonality", True),
        ("2.57", "maxPersonality", False),
        ("2.96", "maxServerMeta", True),
    ],
)
def test_each_version_has_its_own_limits(call: Call, version: str, name: str, there: bool) -> None:
    assert (name in absolute(call, version=version)) == there


def test_quotas_are_unlimited(call: Call, boot: Boot, project_ids: dict[str, str]) -> None:
    boot()
    own = f"/os-quota-sets/{project_ids['demo']}"
    shown = call("GET", own).json()["quota_set"]
    assert shown.pop("id") == project_ids["demo"]
    assert shown.pop("metadata_items") == 128
    assert set(shown.values()) == {-1}
    assert call("GET", f"{own}/defaults").json()["quota_set"] == shown | {"id": project_ids["demo"], "metadata_items": 128}
    detail = call("GET", f"{own}/detail").json()["quota_set"]
    assert detail["instances"] == {"limit": -1, "in_use": 1, "reserved": 0}
    assert detail["ram"]["in_use"] == 64
    for path in ("", "/detail"):
        assert why(call("GET", f"/os-quota-sets/{project_ids['admin']}{path}"))[0] == 403
        assert call("GET", own + path, user="admin").status_code == 200


@pytest.mark.parametrize(
    ("version", "gone"),
    [("2.35", set()), ("2.36", {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}), ("2.57", {"injected_files"})],
)
def test_each_version_has_its_own_quotas(call: Call, project_ids: dict[str, str], version: str, gone: set[str]) -> None:
    shown = call("GET", f"/os-quota-sets/{project_ids['demo']}", version=version).json()["quota_set"]
    assert not gone & shown.keys()
    assert gone or {"fixed_ips", "floating_ips", "security_groups", "security_group_rules", "injected_files"} <= shown.keys()


def test_what_there_is_none_of_is_empty(call: Call) -> None:
    assert call("GET", "/extensions").json() == {"extensions": []}


@pytest.mark.parametrize("route", not_here.ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_what_is_documented_and_not_done_is_said_to_be_so(call: Call, route: Any) -> None:
    path = route.path.format(server=MISSING, project=MISSING, port=MISSING, aggregate=1)
    status, message = why(call(route.method, path, {}, user="admin"))
    assert status == 501
    assert "here" in message
    assert message.endswith(".")


@pytest.mark.parametrize("path", ["/os-networks", "/images", "/os-floating-ips", "/os-hosts", "/os-cells", "/servers/x/y/z"])
def test_what_the_api_itself_gave_up_is_not_found(call: Call, path: str) -> None:
    assert why(call("GET", path))[0] == 404
