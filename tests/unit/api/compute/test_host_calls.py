"""Hosts as administrators see them: hypervisors, services, zones and migrations, at each microversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, why

from lamina.store import hosts

Boot = Callable[..., str]
HYPERVISORS = "/os-hypervisors"
SERVICES = "/os-services"
NEW = {"id", "hypervisor_hostname", "state", "status", "hypervisor_type", "hypervisor_version", "host_ip", "service"}
FIGURES = {
    *("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used", "free_disk_gb"),
    *("disk_available_least", "running_vms", "current_workload"),
}


def host_ids(world: World) -> dict[str, hosts.Host]:
    with world.plane.db.read() as tx:
        return {host.name: host for host in hosts.all_hosts(tx)}


# ---------------------------------------------------------------------------------------------------- hypervisors


@pytest.mark.parametrize(
    ("version", "keys"),
    [("2.1", NEW | FIGURES | {"cpu_info"}), ("2.87", NEW | FIGURES | {"cpu_info"}), ("2.88", NEW | {"uptime"})],
)
def test_each_version_shows_its_own_keys(call: Call, version: str, keys: set[str]) -> None:
    listed = call("GET", f"{HYPERVISORS}/detail", user="admin", version=version).json()["hypervisors"]
    assert [h["hypervisor_hostname"] for h in listed] == ["host1", "host2"]
    for hypervisor in listed:
        assert hypervisor.keys() == keys
        assert call("GET", f"{HYPERVISORS}/{hypervisor['id']}", user="admin", version=version).json() == {"hypervisor": hypervisor}


def test_ids_are_numbers_and_then_uuids(call: Call, world: World) -> None:
    known = host_ids(world)
    old = call("GET", HYPERVISORS, user="admin", version="2.52").json()["hypervisors"]
    new = call("GET", HYPERVISORS, user="admin", version="2.53").json()["hypervisors"]
    assert all(isinstance(h["id"], int) and 0 < h["id"] < 2**53 for h in old)
    assert len({h["id"] for h in old}) == 2
    assert [h["id"] for h in new] == [known["host1"].id, known["host2"].id]
    services = {s["host"]: s["id"] for s in call("GET", SERVICES, user="admin", version="2.52").json()["services"]}
    shown = call("GET", f"{HYPERVISORS}/detail", user="admin", version="2.52").json()["hypervisors"]
    assert all(h["service"]["id"] == services[h["hypervisor_hostname"]] for h in shown)


def test_cpu_info_was_text_once(call: Call) -> None:
    for version, wanted in (("2.27", "{}"), ("2.28", {})):
        (first, _) = call("GET", f"{HYPERVISORS}/detail", user="admin", version=version).json()["hypervisors"]
        assert first["cpu_info"] == wanted


def test_what_servers_take_is_counted(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    host = call("GET", f"/servers/{server_id}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"]
    shown = {h["hypervisor_hostname"]: h for h in call("GET", f"{HYPERVISORS}/detail", user="admin", version="2.87").json()["hypervisors"]}
    for name, hypervisor in shown.items():
        used = 1 if name == host else 0
        figures = ("running_vms", "vcpus_used", "memory_mb_used", "local_gb_used")
        assert [hypervisor[f] for f in figures] == [used, used, used * 64, used]
        assert hypervisor["free_ram_mb"] == 65536 - used * 64
        assert hypervisor["free_disk_gb"] == 500 - used
    sums = call("GET", f"{HYPERVISORS}/statistics", user="admin", version="2.87").json()["hypervisor_statistics"]
    assert sums["count"] == 2
    assert sums["running_vms"] == 1
    assert sums["memory_mb"] == 2 * 65536
    assert sums.keys() == FIGURES | {"count"}


def test_servers_are_listed_with_their_hypervisors(call: Call, boot: Boot) -> None:
    server_id = boot()
    for version, empty in (("2.53", 0), ("2.74", 0), ("2.75", 1)):
        shown = call("GET", f"{HYPERVISORS}?with_servers=true", user="admin", version=version).json()["hypervisors"]
        named = [s["uuid"] for h in shown for s in h.get("servers", ())]
        assert named == [server_id]
        assert sum(h.get("servers") == [] for h in shown) == empty
    assert all("servers" not in h for h in call("GET", HYPERVISORS, user="admin").json()["hypervisors"])
    assert why(call("GET", f"{HYPERVISORS}?with_servers=perhaps", user="admin"))[0] == 400


def test_hypervisors_come_in_pages(call: Call) -> None:
    ids = [h["id"] for h in call("GET", HYPERVISORS, user="admin").json()["hypervisors"]]
    for path in (HYPERVISORS, f"{HYPERVISORS}/detail"):
        first = call("GET", f"{path}?limit=1", user="admin").json()
        assert [h["id"] for h in first["hypervisors"]] == ids[:1]
        query = first["hypervisors_links"][0]["href"].partition("?")[2]
        assert [h["id"] for h in call("GET", f"{path}?{query}", user="admin").json()["hypervisors"]] == ids[1:]
    assert len(call("GET", f"{HYPERVISORS}?limit=1", user="admin", version="2.32").json()["hypervisors"]) == 2
    for query in (f"marker={MISSING}", "limit=x", f"hypervisor_hostname_pattern=host&marker={ids[0]}"):
        assert why(call("GET", f"{HYPERVISORS}?{query}", user="admin"))[0] == 400


def test_hypervisors_are_found_by_a_part_of_their_name(call: Call) -> None:
    found = call("GET", f"{HYPERVISORS}?hypervisor_hostname_pattern=t2", user="admin").json()["hypervisors"]
    assert [h["hypervisor_hostname"] for h in found] == ["host2"]
    assert call("GET", f"{HYPERVISORS}/t2/search", user="admin", version="2.52").json()["hypervisors"][0]["hypervisor_hostname"] == "host2"
    assert why(call("GET", f"{HYPERVISORS}?hypervisor_hostname_pattern=none", user="admin"))[0] == 404
    assert why(call("GET", f"{HYPERVISORS}/none/search", user="admin", version="2.52"))[0] == 404


def test_what_is_no_hypervisor_is_refused(call: Call) -> None:
    assert why(call("GET", f"{HYPERVISORS}/{MISSING}", user="admin"))[0] == 404
    assert why(call("GET", f"{HYPERVISORS}/1", user="admin"))[0] == 400
    assert why(call("GET", f"{HYPERVISORS}/1", user="admin", version="2.52"))[0] == 404


@pytest.mark.parametrize(
    ("path", "last"), [("statistics", "2.87"), (f"{MISSING}/uptime", "2.87"), ("host/search", "2.52")]
)
def test_what_later_versions_do_without_is_gone(call: Call, path: str, last: str) -> None:
    later = f"2.{int(last.partition('.')[2]) + 1}"
    gone = call("GET", f"{HYPERVISORS}/{path}", user="admin", version=later)
    assert gone.status_code in (400, 404)
    if MISSING not in path:
        assert call("GET", f"{HYPERVISORS}/{path}", user="admin", version=last).status_code == 200


# ---------------------------------------------------------------------------------------------------- services


def compute(call: Call, host: str, version: str = "2.96") -> dict[str, Any]:
    (found,) = call("GET", f"{SERVICES}?host={host}&binary=nova-compute", user="admin", version=version).json()["services"]
    service: dict[str, Any] = found
    return service


def test_each_host_and_this_process_is_a_service(call: Call) -> None:
    shown = call("GET", SERVICES, user="admin").json()["services"]
    assert [(s["binary"], s["zone"]) for s in shown] == [
        ("nova-compute", "nova"),
        ("nova-compute", "nova"),
        ("nova-conductor", "internal"),
        ("nova-scheduler", "internal"),
    ]
    keys = {"id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason", "forced_down"}
    assert all(s.keys() == keys and s["status"] == "enabled" and s["state"] == "up" for s in shown)
    old = call("GET", SERVICES, user="admin", version="2.10").json()["services"]
    assert all(s.keys() == keys - {"forced_down"} and isinstance(s["id"], int) for s in old)
    assert [s["host"] for s in call("GET", f"{SERVICES}?binary=nova-compute", user="admin").json()["services"]] == ["host1", "host2"]


def test_a_silent_host_is_down(call: Call, world: World) -> None:
    world.clock.sleep(61)
    assert compute(call, "host1")["state"] == "down"
    assert {h["state"] for h in call("GET", HYPERVISORS, user="admin").json()["hypervisors"]} == {"down"}
    (zone,) = call("GET", "/os-availability-zone").json()["availabilityZoneInfo"]
    assert zone["zoneState"] == {"available": False}


def test_a_service_is_disabled_and_enabled(call: Call, boot: Boot) -> None:
    path = f"{SERVICES}/{compute(call, 'host1')['id']}"
    changed = call("PUT", path, {"status": "disabled", "disabled_reason": "new card"}, user="admin").json()["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("disabled", "new card")
    (hypervisor, _) = call("GET", f"{HYPERVISORS}/detail", user="admin").json()["hypervisors"]
    assert (hypervisor["status"], hypervisor["service"]["disabled_reason"]) == ("disabled", "new card")
    for _ in range(2):
        assert call("GET", f"/servers/{boot()}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"] == "host2"
    changed = call("PUT", path, {"status": "enabled"}, user="admin").json()["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("enabled", None)


def test_a_host_is_forced_down(call: Call) -> None:
    path = f"{SERVICES}/{compute(call, 'host1')['id']}"
    changed = call("PUT", path, {"forced_down": True}, user="admin").json()["service"]
    assert (changed["forced_down"], changed["state"], changed["status"]) == (True, "down", "enabled")
    assert call("PUT", path, {"forced_down": False}, user="admin").json()["service"]["state"] == "up"


def test_services_were_changed_by_name_once(call: Call) -> None:
    def put(verb: str, version: str = "2.52", **more: Any) -> dict[str, Any]:
        body = {"host": "host1", "binary": "nova-compute"} | more
        shown: dict[str, Any] = call("PUT", f"{SERVICES}/{verb}", body, user="admin", version=version).json()["service"]
        return shown

    assert put("disable", "2.1") == {"host": "host1", "binary": "nova-compute", "status": "disabled", "disabled_reason": None}
    assert put("disable-log-reason", disabled_reason="card")["disabled_reason"] == "card"
    assert compute(call, "host1")["disabled_reason"] == "card"
    assert put("enable")["status"] == "enabled"
    assert put("force-down", forced_down=True)["forced_down"] is True
    assert compute(call, "host1")["state"] == "down"
    assert compute(call, "host2")["state"] == "up"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"status": "asleep"}, 400),
        ({"status": "enabled", "disabled_reason": "x"}, 400),
        ({"status": "disabled", "disabled_reason": ""}, 400),
        ({"status": "disabled", "disabled_reason": "x" * 256}, 400),
        ({"status": "disabled", "disabled_reason": "a\x00b"}, 400),
        ({"disabled_reason": "x"}, 400),
        ({"forced_down": "yes"}, 400),
        ({"colour": "red"}, 400),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(call: Call, body: Any, status: int) -> None:
    before = compute(call, "host1")
    assert why(call("PUT", f"{SERVICES}/{before['id']}", body, user="admin"))[0] == status
    assert compute(call, "host1") | {"updated_at": None} == before | {"updated_at": None}


def test_a_service_that_is_not_there_is_not_changed(call: Call) -> None:
    assert why(call("PUT", f"{SERVICES}/{MISSING}", {"status": "enabled"}, user="admin"))[0] == 404
    assert why(call("PUT", f"{SERVICES}/1", {"status": "enabled"}, user="admin"))[0] == 400
    old = {"host": "none", "binary": "nova-compute"}
    assert why(call("PUT", f"{SERVICES}/enable", old, user="admin", version="2.1"))[0] == 404
    assert why(call("PUT", f"{SERVICES}/enable", old | {"host": "host1", "binary": "nova-x"}, user="admin", version="2.1"))[0] == 404
    assert why(call("PUT", f"{SERVICES}/fly", old | {"host": "host1"}, user="admin", version="2.1"))[0] == 404
    forced = old | {"host": "host1", "forced_down": True}
    assert why(call("PUT", f"{SERVICES}/force-down", forced, user="admin", version="2.10"))[0] == 404
    assert why(call("PUT", f"{SERVICES}/disable-log-reason", old | {"host": "host1"}, user="admin", version="2.1"))[0] == 400


# ---------------------------------------------------------------------------------------------------- migrations

COMMON = {
    *("id", "instance_uuid", "source_compute", "source_node", "dest_compute", "dest_node", "dest_host", "status"),
    *("old_instance_type_id", "new_instance_type_id", "created_at", "updated_at"),
}


@pytest.mark.parametrize(
    ("version", "more"),
    [
        ("2.1", set()),
        ("2.22", set()),
        ("2.23", {"migration_type", "links"}),
        ("2.59", {"migration_type", "links", "uuid"}),
        ("2.80", {"migration_type", "links", "uuid", "user_id", "project_id"}),
    ],
)
def test_each_version_shows_a_migration_its_own_way(call: Call, boot: Boot, world: World, version: str, more: set[str]) -> None:
    server_id = boot()
    assert call("POST", f"/servers/{server_id}/action", {"migrate": None}, user="admin").status_code == 202
    world.settle()
    (shown,) = call("GET", "/os-migrations", user="admin", version=version).json()["migrations"]
    assert shown.keys() == COMMON | more
    assert (shown["instance_uuid"], shown["status"]) == (server_id, "finished")
    assert {shown["source_compute"], shown["dest_compute"]} == {"host1", "host2"}


def test_migrations_are_filtered_and_come_in_pages(call: Call, boot: Boot, world: World) -> None:
    moved, resized = boot(), boot()
    call("POST", f"/servers/{moved}/action", {"migrate": None}, user="admin")
    call("POST", f"/servers/{resized}/action", {"resize": {"flavorRef": "vgpu"}})
    world.settle()
    call("POST", f"/servers/{moved}/action", {"confirmResize": None})
    world.settle()

    def found(query: str, version: str = "2.96") -> list[str]:
        answer = call("GET", f"/os-migrations?{query}", user="admin", version=version)
        return [m["instance_uuid"] for m in answer.json()["migrations"]]

    assert found("") == [resized, moved]
    assert found("status=confirmed") == [moved]
    assert found(f"instance_uuid={resized}") == found("migration_type=resize") == [resized]
    source = call("GET", "/os-migrations?status=confirmed", user="admin").json()["migrations"][0]["source_compute"]
    assert moved in found(f"source_compute={source}")
    assert moved in found(f"host={source}")
    assert found("host=none") == found("project_id=none") == found("user_id=none") == []
    assert found("project_id=none", "2.79") == [resized, moved]
    assert found("changes-since=2999-01-01T00:00:00Z") == found("changes-before=2000-01-01T00:00:00Z") == []
    assert found("changes-before=2000-01-01T00:00:00Z", "2.65") == [resized, moved]
    first = call("GET", "/os-migrations?limit=1", user="admin").json()
    assert [m["instance_uuid"] for m in first["migrations"]] == [resized]
    assert found(first["migrations_links"][0]["href"].partition("?")[2]) == [moved]
    for query in ("limit=x", f"marker={MISSING}", "changes-since=yesterday"):
        assert why(call("GET", f"/os-migrations?{query}", user="admin"))[0] == 400


def test_a_live_migration_under_way_is_shown_with_its_server(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    path = f"/servers/{server_id}/migrations"
    assert call("GET", path, user="admin").json() == {"migrations": []}
    call("POST", f"/servers/{server_id}/action", LIVE, user="admin")
    world.step()
    (shown,) = call("GET", path, user="admin").json()["migrations"]
    assert (shown["server_uuid"], shown["status"]) == (server_id, "preparing")
    assert call("GET", f"{path}/{shown['id']}", user="admin").json() == {"migration": shown}
    assert why(call("GET", path, user="admin", version="2.22"))[0] == 404
    world.settle()
    assert call("GET", path, user="admin").json() == {"migrations": []}
    assert why(call("GET", f"{path}/{shown['id']}", user="admin"))[0] == 404


LIVE = {"os-migrateLive": {"host": None, "block_migration": "auto"}}


def test_a_cold_migration_under_way_is_not_among_the_live_ones(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    call("POST", f"/servers/{server_id}/action", {"migrate": None}, user="admin")
    world.step()
    assert call("GET", f"/servers/{server_id}/migrations", user="admin").json() == {"migrations": []}


@pytest.mark.parametrize(
    ("version", "body", "status"),
    [
        ("2.1", {"host": None, "block_migration": True, "disk_over_commit": False}, 202),
        ("2.1", {"host": None, "block_migration": True}, 400),
        ("2.24", {"host": None, "block_migration": "auto", "disk_over_commit": False}, 400),
        ("2.25", {"host": None, "block_migration": "auto"}, 202),
        ("2.25", {"host": None, "block_migration": "auto", "disk_over_commit": False}, 400),
        ("2.25", {"host": None, "block_migration": "auto", "force": False}, 400),
        ("2.30", {"host": None, "block_migration": True, "force": False}, 202),
        ("2.30", {"host": None, "block_migration": True, "force": True}, 400),
        ("2.68", {"host": None, "block_migration": True, "force": False}, 400),
        ("2.96", {"host": None, "block_migration": False}, 400),
        ("2.96", {"host": None, "block_migration": "perhaps"}, 400),
        ("2.96", {"host": "nowhere", "block_migration": "auto"}, 400),
        ("2.96", {"block_migration": "auto"}, 400),
        ("2.96", {"host": None}, 400),
        ("2.96", None, 400),
    ],
)
def test_each_version_asks_for_a_live_migration_its_own_way(call: Call, boot: Boot, version: str, body: object, status: int) -> None:
    answer = call("POST", f"/servers/{boot()}/action", {"os-migrateLive": body}, user="admin", version=version)
    assert answer.status_code == status, answer.text


def test_a_live_migration_is_kept_to_administrators_and_to_other_hosts(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert why(call("POST", f"/servers/{server_id}/action", LIVE))[0] == 403
    here = call("GET", f"/servers/{server_id}", user="admin").json()["server"]["OS-EXT-SRV-ATTR:host"]
    body = {"os-migrateLive": {"host": here, "block_migration": "auto"}}
    code, told = why(call("POST", f"/servers/{server_id}/action", body, user="admin"))
    assert (code, "to current host" in told) == (400, True)


def test_a_live_migration_is_aborted_before_it_begins_to_move(call: Call, boot: Boot, world: World) -> None:
    server_id = boot()
    call("POST", f"/servers/{server_id}/action", LIVE, user="admin")
    (shown,) = call("GET", f"/servers/{server_id}/migrations", user="admin").json()["migrations"]
    path = f"/servers/{server_id}/migrations/{shown['id']}"
    assert why(call("DELETE", path))[0] == 403
    assert why(call("DELETE", path, user="admin", version="2.23"))[0] == 404
    code, told = why(call("DELETE", path, user="admin", version="2.64"))
    assert (code, "accepted" in told) == (400, True)
    assert why(call("POST", f"{path}/action", {"force_complete": None}, user="admin"))[0] == 501
    assert why(call("POST", f"{path}/action", {"hurry": None}, user="admin"))[0] == 400
    assert call("DELETE", path, user="admin").status_code == 202
    world.settle()
    assert why(call("DELETE", path, user="admin"))[0] == 404
    (ended,) = call("GET", "/os-migrations", user="admin").json()["migrations"]
    assert (ended["status"], ended["migration_type"]) == ("cancelled", "live-migration")
    server = call("GET", f"/servers/{server_id}", user="admin").json()["server"]
    assert (server["status"], server["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", ended["source_compute"])
    world.check()


# ---------------------------------------------------------------------------------------------------- zones, and who may


def test_zones_are_shown(call: Call) -> None:
    assert call("GET", "/os-availability-zone").json() == {
        "availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]
    }
    internal, zone = call("GET", "/os-availability-zone/detail", user="admin").json()["availabilityZoneInfo"]
    assert internal["zoneName"] == "internal"
    assert [services.keys() for services in internal["hosts"].values()] == [{"nova-conductor", "nova-scheduler"}]
    assert zone["hosts"].keys() == {"host1", "host2"}
    service = zone["hosts"]["host1"]["nova-compute"]
    assert (service["active"], service["available"]) == (True, True)
    assert service["updated_at"] == compute(call, "host1")["updated_at"]


@pytest.mark.parametrize(
    ("method", "path", "rule"),
    [
        ("GET", HYPERVISORS, "os-hypervisors:list"),
        ("GET", f"{HYPERVISORS}/detail", "os-hypervisors:list-detail"),
        ("GET", f"{HYPERVISORS}/{MISSING}", "os-hypervisors:show"),
        ("GET", SERVICES, "os-services:list"),
        ("PUT", f"{SERVICES}/{MISSING}", "os-services:update"),
        ("GET", "/os-migrations", "os-migrations:index"),
        ("GET", f"/servers/{MISSING}/migrations", "servers:migrations:index"),
        ("GET", "/os-availability-zone/detail", "os-availability-zone:detail"),
        ("GET", "/os-aggregates", "os-aggregates:index"),
    ],
)
def test_hosts_are_for_administrators(call: Call, method: str, path: str, rule: str) -> None:
    assert why(call(method, path)) == (403, f"Policy doesn't allow os_compute_api:{rule} to be performed.")
