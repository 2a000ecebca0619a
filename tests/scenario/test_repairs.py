"""What is out of order on a host or in Placement is mended, and nothing else is touched, over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.cloud import Cloud, cloud_of, eventually, gpu, host

A, B = "0000:81:00.0", "0000:82:00.0"
ONE = {"resources__VGPU": "1"}


@pytest.fixture
def cloud(tmp_path: Path, framework: str) -> Any:
    """One that removes what it has seen twice, however soon; hosts are looked at when somebody asks."""
    hosts = [host("host1", gpu(A, framework), gpu(B, framework, enabled=["nvidia-11"]))]
    with cloud_of(tmp_path, hosts, "--orphan-grace", "0", "--service-down", "3600") as running:
        yield running


def look(cloud: Cloud, conn: Any, **said: Any) -> Any:
    answer = conn.session.post(f"{cloud.url}/fleet/v1/repairs", json=said)
    assert answer.status_code == 200, answer.text
    return answer.json()


def behind_its_back(cloud: Cloud, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the machine's state and the journal of host1 while Lamina is not there."""
    cloud.stop()
    files = [cloud.state / folder / "host1.json" for folder in ("machines", "agents")]
    machine, journal = (json.loads(file.read_text()) for file in files)
    change(machine, journal)
    for file, content in zip(files, (machine, journal), strict=True):
        file.write_text(json.dumps(content))
    cloud.start()


def lamina(cloud: Cloud, *verb: str) -> tuple[int, str]:
    """The exit code of a verb, and what it prints."""
    command = [sys.executable, "-m", "lamina.cli.main", *verb, "--state", str(cloud.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_what_is_left_over_goes_and_what_is_foreign_stays(cloud: Cloud, framework: str) -> None:
    conn = cloud.connect("lamina")
    keeper = cloud.server(conn, "keeper", cloud.flavor(conn, "v1", **ONE))
    stranger, nobody = str(uuid.uuid4()), str(uuid.uuid4())

    def change(machine: dict[str, Any], journal: dict[str, Any]) -> None:
        """Ours, of a server that nobody knows: a vGPU and the domain that holds it. Somebody else's: the same."""
        ((made, record),) = journal["vgpus"].items()
        orphan = dict(record, uuid=nobody, server_id=nobody)
        handle, other = nobody, stranger
        if framework == "mdev":
            machine["mdevs"][nobody] = machine["mdevs"][made]
            machine["mdevs"][stranger] = machine["mdevs"][made]
        else:
            card = record["gpu"]
            free = [f"0000:{card['bus']:02x}:01.{n}" for n in range(2)]
            handle, other = free
            machine["vf_types"] |= dict.fromkeys(free, record["type_id"])
            orphan["parent"] = dict(card, slot=1, function=0)
        journal["vgpus"][nobody] = orphan
        domain = machine["domains"][keeper.id]
        machine["domains"][nobody] = dict(domain, name="left", devices={nobody: handle}, nics=[])
        machine["domains"][stranger] = dict(domain, name="stranger", devices={stranger: other}, ours=False, nics=[])

    behind_its_back(cloud, change)  # the first look is at the start
    conn = cloud.connect("lamina")
    states = {v["uuid"]: v["state"] for v in cloud.devices(conn, "host1")}
    assert sorted(states.values()) == ["attached", "foreign", "orphan"]
    told = look(cloud, conn, mend=False)
    assert {(one["what"], one["object"]) for one in told["repairs"]} == {("orphan-vgpu", nobody), ("orphan-domain", nobody)}
    assert cloud.fleet(conn, "/repairs")["repairs"] == [], "nothing was done"

    done = look(cloud, conn)
    assert {(one["what"], one["object"]) for one in done["repairs"]} == {("orphan-vgpu", nobody), ("orphan-domain", nobody)}
    eventually(lambda: cloud.fleet(conn, "/operations")["operations"], lambda left: left == [])
    assert sorted(v["state"] for v in cloud.devices(conn, "host1")) == ["attached", "foreign"]
    machine = json.loads((cloud.state / "machines" / "host1.json").read_text())
    assert machine["domains"].keys() == {keeper.id, stranger}
    assert cloud.settled(conn, keeper.id).status == "ACTIVE"
    listed = cloud.fleet(conn, "/repairs")["repairs"]
    assert {(one["what"], one["object"], one["outcome"]) for one in listed} == {
        ("orphan-vgpu", nobody, "done"),
        ("orphan-domain", nobody, "done"),
    }
    assert look(cloud, conn) == {"mend": True, "repairs": [], "waiting": [], "silent": []}


def test_a_stale_allocation_of_ours_goes_and_a_strangers_stays(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    gone = cloud.server(conn, "gone", cloud.flavor(conn, "v1", **ONE))
    cloud.delete(conn, gone.id)
    provider = next(iter(cloud.providers(conn, "host1").values()))
    stranger = str(uuid.uuid4())
    for consumer in (gone.id, stranger):
        allocations = {
            "allocations": {provider: {"resources": {"VGPU": 1}}},
            "project_id": conn.current_project_id,
            "user_id": conn.current_user_id,
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
        }
        headers = {"OpenStack-API-Version": "placement 1.39"}
        put = conn.session.put(f"{cloud.url}/placement/allocations/{consumer}", json=allocations, headers=headers)
        assert put.status_code == 204, put.text
    assert cloud.usage(conn, "host1") == 2
    first = look(cloud, conn)
    assert first["repairs"] == []
    assert [(one["what"], one["object"]) for one in first["waiting"]] == [("allocation", gone.id)]
    assert [(one["what"], one["object"]) for one in look(cloud, conn)["repairs"]] == [("allocation", gone.id)]
    eventually(lambda: cloud.usage(conn, "host1"), lambda used: used == 1)
    assert cloud.placement(conn, f"/allocations/{stranger}")["allocations"].keys() == {provider}
    assert look(cloud, conn)["waiting"] == []


def test_a_domain_that_was_stopped_outside_is_shutoff(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    flavor = cloud.flavor(conn, "v1", **ONE)
    running, paused = (cloud.server(conn, name, flavor) for name in ("running", "paused"))
    conn.compute.pause_server(paused)
    cloud.settled(conn, paused.id, "PAUSED")

    def change(machine: dict[str, Any], _journal: dict[str, Any]) -> None:
        for server in (running, paused):
            machine["domains"][server.id]["power_state"] = 4

    behind_its_back(cloud, change)
    conn = cloud.connect("lamina")
    for server in (running, paused):
        shown = cloud.settled(conn, server.id, "SHUTOFF")
        assert (shown.vm_state, shown.power_state) == ("stopped", 4)
    listed = cloud.fleet(conn, "/repairs?limit=1")
    assert [(one["what"], one["outcome"]) for one in listed["repairs"]] == [("power-state", "done")]
    more = cloud.fleet(conn, f"/repairs?limit=1&marker={listed['next']}")["repairs"]
    assert {listed["repairs"][0]["object"], more[0]["object"]} == {running.id, paused.id}
    conn.compute.start_server(running.id)
    assert cloud.settled(conn, running.id, "ACTIVE").power_state == 1
    assert cloud.counts(conn, "host1") == 2


def test_the_doctor_tells_and_mends(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s", cloud.flavor(conn, "v1", **ONE))

    def change(machine: dict[str, Any], _journal: dict[str, Any]) -> None:
        machine["domains"]["11111111-1111-4111-8111-111111111111"] = dict(machine["domains"][server.id], devices={}, power_state=4)

    behind_its_back(cloud, change)

    code, told = lamina(cloud, "doctor", "--json")
    found = [one for one in json.loads(told) if one["check"] == "repair"]
    assert (code, [one["mend"] for one in found]) == (1, ["lamina doctor --repair"])
    assert "its server is not known" in found[0]["told"]
    _, told = lamina(cloud, "doctor", "--repair", "--json")
    assert [one["verdict"] for one in json.loads(told) if one["check"] == "repair"] == ["ok"]
    eventually(lambda: cloud.fleet(cloud.connect(), "/operations")["operations"], lambda left: left == [])
    _, told = lamina(cloud, "doctor", "--json")
    assert [one["told"] for one in json.loads(told) if one["check"] == "repairs"] == ["nothing is to be mended"]
    code, told = lamina(cloud, "fleet", "repairs", "--json")
    assert (code, [one["what"] for one in json.loads(told)]) == (0, ["orphan-domain"])
    code, told = lamina(cloud, "fleet", "repairs", "--host", "host1")
    assert code == 0
    assert "orphan-domain" in told
    code, told = lamina(cloud, "fleet", "repairs", "--host", "another")
    assert (code, "orphan-domain" in told) == (0, False)
    assert lamina(cloud, "doctor", "--trust-records")[0] == 2


def test_a_damaged_record_of_a_hosts_journal_is_named_and_mended(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    server = cloud.server(conn, "s", cloud.flavor(conn, "v1", **ONE))
    (before,) = cloud.devices(conn, "host1")

    def change(_machine: dict[str, Any], journal: dict[str, Any]) -> None:
        journal["vgpus"][before["uuid"]]["type"] = 7

    behind_its_back(cloud, change)
    conn = cloud.connect("lamina")
    assert cloud.devices(conn, "host1") == [before]
    _, told = lamina(cloud, "doctor", "--json")
    assert any(before["uuid"] in one["told"] and "damaged" in one["told"] for one in json.loads(told))
    cloud.delete(conn, server.id)
    assert cloud.devices(conn, "host1") == []


def test_an_older_copy_of_the_database_has_no_newer_server_removed(cloud: Cloud) -> None:
    conn = cloud.connect("lamina")
    cloud.stop()
    copy = {file: file.read_bytes() for file in cloud.state.glob("lamina.db*")}
    cloud.start()
    conn = cloud.connect("lamina")
    cloud.server(conn, "s", cloud.flavor(conn, "v1", **ONE))
    cloud.stop()
    for file in cloud.state.glob("lamina.db*"):
        file.unlink()
    for file, content in copy.items():
        file.write_bytes(content)
    cloud.start()
    conn = cloud.connect("lamina")
    for _ in range(3):
        assert look(cloud, conn)["repairs"] == []
    assert [v["state"] for v in cloud.devices(conn, "host1")] == ["orphan"]
    (host1,) = cloud.fleet(conn, "/hosts")["hosts"]
    assert any("an older copy was put back" in problem for problem in host1["problems"])

    for _ in range(2):
        lamina(cloud, "doctor", "--repair", "--trust-records")
    eventually(lambda: cloud.devices(conn, "host1"), lambda left: left == [])
    assert cloud.fleet(conn, "/hosts")["hosts"][0]["problems"] == []


def test_who_may_look_and_what_is_refused(cloud: Cloud) -> None:
    admin, member = cloud.connect("lamina"), cloud.connect("lamina-demo")
    url = f"{cloud.url}/fleet/v1/repairs"
    assert member.session.get(url, raise_exc=False).status_code == 403
    assert member.session.post(url, json={}, raise_exc=False).status_code == 403
    for query in ("limit=-1", "limit=x", "marker=7", "marker=x"):
        assert admin.session.get(f"{url}?{query}", raise_exc=False).status_code == 400, query
    for body in ({"mend": 7}, {"all": True}, {"mend": False, "trust_records": True}):
        assert admin.session.post(url, json=body, raise_exc=False).status_code == 400, body
    assert admin.session.post(url, json={"host": "no such"}, raise_exc=False).status_code == 404
