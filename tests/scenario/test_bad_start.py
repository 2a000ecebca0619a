"""`lamina up` given nonsense: one clear sentence that names what to mend, exit code 2, nothing begun."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.scenario.cloud import Cloud, gpu, host

A = "0000:81:00.0"


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lamina.cli.main", "up", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refused(answer: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal."""
    assert answer.returncode == 2, answer
    assert answer.stdout == ""
    (sentence,) = answer.stderr.strip().splitlines()
    return sentence


def fleet(tmp_path: Path, *hosts: dict[str, Any]) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"hosts": list(hosts)}))
    return str(path)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        (host("h") | {"vcpu": 3}, "hosts[0]: object contains unknown field `vcpu`"),
        (host("h", gpu(A, "mdev"), gpu(A, "mdev")), "hosts[0].gpus[1].address: 0000:81:00.0 is already used by hosts[0].gpus[0]"),
        (host("h", gpu("0000:81:00.0\n", "mdev")), "hosts[0].gpus[0].address:"),
        (host("h", gpu("0000:81:00x0", "mdev")), "hosts[0].gpus[0].address:"),
        (host("h", gpu(A, "mdev", enabled=["nvidia-999"])), "hosts[0].gpus[0].enabled_types[0]:"),
        (host("h", gpu(A, "sysfs")), "hosts[0].gpus[0].framework:"),
        (host("h", gpu(A, "mdev", max_instances=0)), "hosts[0].gpus[0].max_instances:"),
        (host("h", gpu(A, "mdev", resource_class="vgpu")), "hosts[0].gpus[0].resource_class:"),
        (host("h", {"address": A, "framework": "vfio", "model": "voodoo-2"}), "hosts[0].gpus[0].model:"),
        (host("h") | {"vcpus": -1}, "hosts[0].vcpus:"),
        (host("h") | {"memory_mb": 10**12}, "hosts[0].memory_mb:"),
        (host("../h"), "hosts[0].name:"),
    ],
)
def test_a_fleet_file_that_is_wrong(tmp_path: Path, described: dict[str, Any], told: str) -> None:
    state = tmp_path / "state"
    assert told in refused(up("--fleet", fleet(tmp_path, described), "--state", str(state)))
    assert not state.exists(), "nothing is begun"


def test_two_hosts_of_one_name(tmp_path: Path) -> None:
    assert "hosts[1].name: there are two hosts 'h'" in refused(up("--fleet", fleet(tmp_path, host("h"), host("h"))))


def test_a_fleet_file_that_is_not_there_or_no_yaml(tmp_path: Path) -> None:
    assert "cannot be read" in refused(up("--fleet", str(tmp_path / "none.yaml")))
    (tmp_path / "bad.yaml").write_text("hosts: [")
    assert "not YAML" in refused(up("--fleet", str(tmp_path / "bad.yaml")))


def test_no_fleet(tmp_path: Path) -> None:
    assert "--fleet" in refused(up("--state", str(tmp_path / "s")))


@pytest.mark.parametrize("listen", ["8774", "127.0.0.1:99999", "127.0.0.1:http", ":1", "not a host:80"])
def test_an_address_that_is_none(tmp_path: Path, listen: str) -> None:
    assert "--listen" in refused(up("--fleet", "demo", "--state", str(tmp_path / "s"), "--listen", listen))


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"{listen} is in use" in refused(up("--fleet", "demo", "--state", str(tmp_path / "s"), "--listen", listen))
    assert not (tmp_path / "s").exists(), "nothing is begun"


def test_a_state_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used as state directory" in refused(up("--fleet", "demo", "--state", str(tmp_path / "file")))


def test_a_state_directory_of_a_newer_version_and_one_in_use(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, [host("h", gpu(A, "mdev"))])
    cloud.start()
    try:
        arguments = ("--fleet", str(cloud.fleet_file), "--state", str(cloud.state), "--listen", "127.0.0.1:0")
        assert "another lamina is running" in refused(up(*arguments))
    finally:
        assert cloud.stop() == 0
    with sqlite3.connect(cloud.state / "lamina.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    assert "newer" in refused(up(*arguments))
    with sqlite3.connect(cloud.state / "lamina.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",), "left as it was"
    database.close()


def test_unknown_words() -> None:
    for arguments in (["up", "--nonsense"], ["sideways"]):
        command = [sys.executable, "-m", "lamina.cli.main", *arguments]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 2
