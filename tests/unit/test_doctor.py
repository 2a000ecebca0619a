"""The doctor's checks on made-up machines: what is well, what is missing, what is broken."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lamina.cli.checks import installation, machine, running
from lamina.cli.checks.finding import Finding, Verdict
from lamina.cli.doctor import command
from lamina.store import schema
from lamina.store.database import Database

OK, MISSING, PROBLEM = Verdict.OK, Verdict.MISSING, Verdict.PROBLEM


def yes(_path: Path) -> bool:
    return True


def no(_path: Path) -> bool:
    return False


def plenty(_path: Path) -> int:
    return 1 << 40


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {f.check: f.verdict for f in findings}


# ---------------------------------------------------------------------------------------------------- the machine


@pytest.fixture
def full_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with everything a host of real vGPUs needs, its sysfs laid out as the kernel does."""
    put(tmp_path / "dev/kvm")
    (tmp_path / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    put(tmp_path / "run/libvirt/libvirt-sock").chmod(0o770)
    put(tmp_path / "usr/sbin/mdevctl")
    put(tmp_path / "sys/class/mdev_bus/0000:41:00.0/mdev_supported_types/nvidia-11/create")
    gpu = tmp_path / "sys/bus/pci/devices/0000:81:00.0"
    put(gpu / "vendor", "0x10de\n")
    put(gpu / "sriov_totalvfs", "32\n")
    put(gpu / "sriov_numvfs", "32\n")
    put(tmp_path / "sys/bus/pci/devices/0000:81:00.4/nvidia/current_vgpu_type", "0\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return tmp_path


def test_a_full_host_is_well(full_host: Path) -> None:
    findings = machine.machine(full_host, yes)
    assert [f for f in findings if f.verdict is not OK] == []
    assert verdicts(findings).keys() == {"KVM", "IOMMU", "libvirt", "libvirt-python", "mdevctl", "mdev", "SR-IOV", "sysfs", "settings"}


def test_an_empty_machine_lacks_everything_and_needs_none_of_it_for_simulated_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = machine.machine(tmp_path, yes)
    found = verdicts(findings)
    assert found.pop("settings") is OK
    assert set(found.values()) == {MISSING}
    assert not any(f.bad for f in findings)
    assert all(f.mend for f in findings if f.verdict is not OK), "each with what mends it"
    as_host = machine.machine(tmp_path, yes, is_host=True)
    assert {f.check for f in as_host if f.bad} == found.keys()


def test_a_machine_with_settings_of_a_host_is_one(tmp_path: Path) -> None:
    assert not machine.is_host(tmp_path)
    put(tmp_path / "etc/lamina/agent.toml")
    assert machine.is_host(tmp_path)


def test_settings_that_are_wrong_and_bridges_that_are_not_there(tmp_path: Path) -> None:
    toml = put(tmp_path / "etc/lamina/agent.toml", '[networks.public]\nbridge = "br0"\n[networks.other]\nlibvirt = "default"\n')
    well, bridge = machine.settings(tmp_path)
    assert (well.verdict, bridge.verdict, bridge.mend) == (OK, PROBLEM, "sudo ip link add br0 type bridge")
    (tmp_path / "sys/class/net/br0/bridge").mkdir(parents=True)
    assert [f.verdict for f in machine.settings(tmp_path)] == [OK]
    toml.write_text("[networks.public]\n")
    (wrong,) = machine.settings(tmp_path)
    assert wrong.verdict is PROBLEM
    assert "either a bridge or a network" in wrong.told


def test_debians_mdevctl_is_called_where_it_is_not(full_host: Path) -> None:
    (full_host / "usr/sbin/mdevctl").rename(put(full_host / "usr/bin/mdevctl"))
    rule = 'ACTION=="change", ENV{MDEV_STATE}=="registered", RUN+="/usr/sbin/mdevctl start-parent-mdevs %k"\n'
    put(full_host / "lib/udev/rules.d/60-mdevctl.rules", rule)
    finding = machine.mdevctl(full_host)
    assert (finding.verdict, finding.mend) == (PROBLEM, "sudo ln -s /usr/bin/mdevctl /usr/sbin/mdevctl")
    put(full_host / "usr/sbin/mdevctl")
    assert machine.mdevctl(full_host).verdict is OK


def test_libvirt_that_is_stopped_closed_or_open_to_all(full_host: Path) -> None:
    socket = full_host / "run/libvirt/libvirt-sock"
    assert machine.libvirt(full_host, no).mend == "sudo usermod -aG libvirt $USER"
    socket.chmod(0o777)
    assert machine.libvirt(full_host, yes).mend == "sudo chmod o-rwx /run/libvirt/libvirt-sock"
    socket.unlink()
    put(full_host / "usr/sbin/libvirtd")
    assert machine.libvirt(full_host, yes).mend == "sudo systemctl enable --now libvirtd"


def test_virtual_functions_that_are_off_are_named_with_the_command(full_host: Path) -> None:
    put(full_host / "sys/bus/pci/devices/0000:81:00.0/sriov_numvfs", "0\n")
    (finding,) = machine.sriov(full_host)
    assert finding.verdict is PROBLEM
    assert finding.mend is not None
    assert finding.mend.startswith("echo 32 | sudo tee /sys/bus/pci/devices/0000:81:00.0/sriov_numvfs")
    put(full_host / "usr/lib/nvidia/sriov-manage")
    (finding,) = machine.sriov(full_host)
    assert finding.mend is not None
    assert finding.mend.startswith("sudo /usr/lib/nvidia/sriov-manage -e 0000:81:00.0")


@pytest.mark.parametrize(("file", "content"), [("vendor", "0x8086\n"), ("sriov_totalvfs", "0\n"), ("sriov_totalvfs", "many\n")])
def test_other_cards_are_not_asked_for_virtual_functions(full_host: Path, file: str, content: str) -> None:
    put(full_host / "sys/bus/pci/devices/0000:81:00.0" / file, content)
    (finding,) = machine.sriov(full_host)
    assert finding.verdict is MISSING


def test_files_closed_to_the_user_are_told(full_host: Path) -> None:
    found = verdicts(machine.machine(full_host, no))
    assert found["KVM"] is PROBLEM
    assert found["sysfs"] is PROBLEM


@pytest.mark.parametrize("socket", ["run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock"])
def test_either_daemon_of_libvirt_will_do(tmp_path: Path, socket: str) -> None:
    put(tmp_path / socket).chmod(0o770)
    assert machine.libvirt(tmp_path, yes).told == f"/{socket}"


# ---------------------------------------------------------------------------------------------------- the installation


def test_an_old_python_is_a_problem() -> None:
    assert installation.python((3, 10)).bad
    assert not installation.python((3, 11)).bad


REQUIREMENTS = ["click>=8.2", "uvicorn[standard]>=0.40", "pytest>=9.0; extra == 'dev'"]


@pytest.mark.parametrize(
    ("versions", "wrong"),
    [
        ({"click": "8.10.0", "uvicorn": "0.40"}, None),
        ({"click": "8.10.0"}, "uvicorn is not installed"),
        ({"click": "8.1.7", "uvicorn": "0.54"}, "click 8.1.7 is older than 8.2"),
    ],
)
def test_packages(versions: dict[str, str], wrong: str | None) -> None:
    finding = installation.packages(REQUIREMENTS, versions.get)
    assert finding.bad == (wrong is not None)
    assert wrong is None or finding.told == wrong


def test_a_state_directory_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    (finding,) = installation.state_directory(tmp_path / "state", yes, plenty)
    assert (finding.verdict, finding.bad) == (MISSING, False)


@pytest.mark.parametrize(
    ("mode", "may_write", "free", "wrong"),
    [
        (0o700, yes, plenty, set()),
        (0o700, no, plenty, {"state directory"}),
        (0o755, yes, plenty, {"privacy"}),
        (0o700, yes, lambda _path: 5 << 20, {"free space"}),
    ],
)
def test_state_directory(
    tmp_path: Path, mode: int, may_write: Callable[[Path], bool], free: Callable[[Path], int], wrong: set[str]
) -> None:
    tmp_path.chmod(mode)
    assert {f.check for f in installation.state_directory(tmp_path, may_write, free) if f.bad} == wrong


def test_a_file_in_the_place_of_the_state_directory_is_a_problem(tmp_path: Path) -> None:
    (finding,) = installation.state_directory(put(tmp_path / "state"), yes, plenty)
    assert finding.bad


def test_a_database_of_this_version_is_well(tmp_path: Path) -> None:
    db = Database.at(tmp_path)
    schema.upgrade(db)
    db.close()
    finding = installation.database(tmp_path, schema.HEAD)
    assert (finding.verdict, finding.told) == (OK, f"sound, schema {schema.HEAD}")


def test_a_database_that_has_not_been_made_is_no_fault(tmp_path: Path) -> None:
    finding = installation.database(tmp_path, schema.HEAD)
    assert (finding.verdict, finding.bad) == (MISSING, False)
    assert not (tmp_path / "lamina.db").exists()


def test_a_damaged_database_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path / "lamina.db", "no database at all, by any means" * 100)
    assert installation.database(tmp_path, schema.HEAD).bad


def test_a_database_of_a_newer_version_is_a_problem(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "lamina.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    finding = installation.database(tmp_path, schema.HEAD)
    assert finding.bad
    assert "newer" in finding.told


# ---------------------------------------------------------------------------------------------------- a running Lamina


def host(name: str, state: str = "up", *problems: str) -> dict[str, Any]:
    return {"name": name, "state": state, "problems": list(problems)}


def vgpu(**what: Any) -> dict[str, Any]:
    return {"uuid": "u", "type": "t", "host": "host1", "server_id": "s1", "state": "attached", "on_host": True} | what


def test_hosts_that_are_up_are_counted_and_the_others_named() -> None:
    told = [(f.verdict, f.told) for f in running.hosts([host("a"), host("b", "down"), host("c", "up", "GPU x cannot be read")])]
    assert told == [(OK, "2 of 3 are up"), (PROBLEM, "b does not answer"), (PROBLEM, "c: GPU x cannot be read")]


def test_each_record_that_cannot_be_read_is_a_problem() -> None:
    told = [(f.verdict, f.told) for f in running.records(["The record a in the table images is damaged and cannot be read."])]
    assert told == [(PROBLEM, "The record a in the table images is damaged and cannot be read.")]
    assert running.records([]) == []


def test_no_host_at_all_is_a_problem() -> None:
    assert all(f.bad for f in running.hosts([]))
    assert all(f.bad for f in running.hosts([host("a", "down")]))


def test_a_stuck_operation_is_told_with_its_verb() -> None:
    operation = {"id": "o1", "kind": "confirm", "server_id": "s1", "state": "stuck", "error": {"message": "refused"}}
    (finding,) = running.operations([operation, operation | {"state": "running", "error": None}])
    assert finding.mend == "lamina operation resume o1"
    assert finding.told.endswith("refused")


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ({}, False),
        ({"on_host": False}, True),
        ({"on_host": None}, False),
        ({"state": "orphan", "server_id": None}, True),
        ({"state": "foreign", "server_id": None}, False),
    ],
)
def test_vgpus_are_held_against_the_hosts(what: dict[str, Any], bad: bool) -> None:
    assert any(f.bad for f in running.vgpus([vgpu(**what)], [])) is bad


def test_a_server_that_is_being_worked_on_may_differ_for_a_moment() -> None:
    assert not any(f.bad for f in running.vgpus([vgpu(on_host=False)], [{"server_id": "s1"}]))


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_is_content_before_the_first_start(tmp_path: Path) -> None:
    answer = CliRunner().invoke(command, ["--state", str(tmp_path / "state"), "--json"])
    assert answer.exit_code == 0, answer.output
    found = {f["check"]: f for f in json.loads(answer.output)}
    assert found["server"]["mend"] == f"lamina up --fleet demo --state {tmp_path / 'state'}"
    assert not (tmp_path / "state").exists()


def test_the_command_fails_on_a_damaged_database_and_says_how_to_mend_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    put(state / "lamina.db", "no database at all, by any means" * 100)
    answer = CliRunner().invoke(command, ["--state", str(state)])
    assert answer.exit_code == 1
    assert "restore a backup" in answer.output
