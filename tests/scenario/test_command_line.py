"""The verbs against a running Lamina, as somebody at a terminal has them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.cloud import Cloud, gpu, host
from tests.scenario.conftest import Launch


def lamina(cloud: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lamina.cli.main", *words, "--state", str(cloud.state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cloud(launch: Launch, framework: str) -> Cloud:
    both = ["nvidia-11", "nvidia-12"]
    first = host("one", gpu("0000:81:00.0", framework, enabled=both), gpu("0000:82:00.0", framework, enabled=both))
    return launch(first, host("two", gpu("0000:81:00.0", framework, enabled=both)))


def test_the_demo_runs_as_often_as_one_likes_and_leaves_nothing(cloud: Cloud) -> None:
    conn = cloud.connect()
    flavors = {f.id for f in conn.compute.flavors()}
    for _ in range(2):
        shown = lamina(cloud, "demo")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        for told in ("Resized to nvidia-12", "Reverted", "Confirmed", "rebooted", "Both servers deleted", "Every check held"):
            assert told in shown.stdout
    assert list(conn.compute.servers()) == []
    assert {f.id for f in conn.compute.flavors()} == flavors
    assert list(conn.image.images()) == []
    assert cloud.fleet(conn, "/vgpus")["vgpus"] == []


def test_the_demo_clears_away_what_an_interrupted_one_has_left_and_nothing_else(cloud: Cloud) -> None:
    conn = cloud.connect()
    flavor = cloud.flavor(conn, "f", resources__VGPU="1")
    cloud.server(conn, "lamina-demo-one", flavor, metadata={"lamina-demo": "yes"})
    mine = cloud.server(conn, "lamina-demo-like", flavor)
    shown = lamina(cloud, "demo")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert [s.id for s in conn.compute.servers()] == [mine.id]


def test_the_demo_fails_in_a_sentence_where_there_is_no_room(launch: Launch, framework: str) -> None:
    shown = lamina(launch(host("one", gpu("0000:81:00.0", framework, max_instances=2))), "demo")
    assert shown.returncode == 1
    assert shown.stderr.startswith("lamina: No GPU here has room for the demo")


def test_fleet_show_draws_what_a_server_holds(cloud: Cloud) -> None:
    conn = cloud.connect()
    server = cloud.server(conn, "s", cloud.flavor(conn, "f", resources__VGPU="1", trait__CUSTOM_NVIDIA_12="required"))
    shown = lamina(cloud, "fleet", "show")
    assert shown.returncode == 0, shown.stderr
    assert "▕AAAAA ·····" in shown.stdout
    assert f"A  {server.id}  1 x nvidia-12" in shown.stdout
    told = json.loads(lamina(cloud, "fleet", "show", "--json", "--host", "one").stdout)
    assert [h["name"] for h in told["hosts"]] == ["one"]
    assert {g["host"] for g in told["gpus"]} == {"one"}


def test_operation_list_has_every_operation_of_a_server(cloud: Cloud) -> None:
    conn = cloud.connect()
    server = cloud.server(conn, "s", cloud.flavor(conn, "f", resources__VGPU="1"))
    told = json.loads(lamina(cloud, "operation", "list", "--server", server.id, "--json").stdout)
    assert [(o["kind"], o["state"]) for o in told] == [("create", "done")]
    assert lamina(cloud, "operation", "list").stdout == "No operation is under way.\n"
    refused = lamina(cloud, "operation", "resume", told[0]["id"])
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_the_doctor_is_content_with_a_healthy_lamina_and_says_when_it_has_stopped(cloud: Cloud) -> None:
    found = {f["check"]: f["verdict"] for f in json.loads(lamina(cloud, "doctor", "--json").stdout)}
    assert {name: found[name] for name in ("database", "server", "hosts", "operations", "vGPUs")} == dict.fromkeys(
        ("database", "server", "hosts", "operations", "vGPUs"), "ok"
    )
    cloud.stop()
    shown = lamina(cloud, "doctor", "--json")
    assert shown.returncode == 0
    assert {f["check"]: f["verdict"] for f in json.loads(shown.stdout)}["server"] == "missing"


def test_a_verb_without_a_server_says_how_to_start_one(cloud: Cloud) -> None:
    cloud.stop()
    for words in (("fleet", "show"), ("operation", "list")):
        shown = lamina(cloud, *words)
        assert shown.returncode == 1
        assert f"start it with 'lamina up --fleet demo --state {cloud.state}'" in shown.stderr
        assert shown.stderr.count("\n") == 1


def test_without_a_server_the_demo_brings_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lamina.cli.main", "demo", "--state", str(tmp_path / "none")]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Every check held" in shown.stdout
    assert not (tmp_path / "none").exists()
