"""Drivers held against what NVIDIA has published: by numbers, branch by branch; and who is told, and who is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.checks import machine
from lamina.cli.checks.finding import Verdict
from lamina.cli.trusting import FLAG, REFUSE, read_trust
from lamina.model.driver_advisories import DriverTrust, DriverVersion, parse, shipped
from lamina.model.errors import BadRequest
from tests.faults.desk import Desk
from tests.faults.world import FLEET, ONE, PLAIN, World

ONE_ROW = """
[1]
date = "2026-01-02"
severity = "high"
cves = ["CVE-2026-0001"]
fixed_in = { 550 = "550.9" }
source = "made up"
"""

numbers = st.lists(st.integers(0, 99999), min_size=2, max_size=4)


@given(numbers, numbers)
@pytest.mark.weakness(697)
def test_versions_are_in_the_order_of_their_numbers(one: list[int], other: list[int]) -> None:
    parsed = [DriverVersion.parse(".".join(map(str, each))) for each in (one, other)]
    assert (parsed[0] < parsed[1]) == (one < other)
    assert (parsed[0] == parsed[1]) == (one == other)
    assert str(parsed[0]) == ".".join(map(str, one))


@pytest.mark.parametrize(
    "text", ["", "550", "550.", ".1", "550.90.05\n", "550.90.x", "5 50.1", "550.1.2.3.4", "\u0665\u0665\u0660.90", "1" * 6 + ".1"]
)
@pytest.mark.weakness(185)
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(BadRequest):
        DriverVersion.parse(text)


@pytest.mark.parametrize(
    ("version", "cves"),
    [
        ("470.82", {"CVE-2022-21816", "CVE-2022-31609", "CVE-2023-25516"}),
        ("470.256.02", set()),
        ("510.73.06", {"CVE-2022-31609"}),
        ("510.85.03", set()),
        ("525.105.14", {"CVE-2023-25516", "CVE-2023-25517"}),
        ("535.54.03", {"CVE-2023-31018", "CVE-2024-0127"}),  # as text it would be after 535.109.03
        ("535.261.04", {"CVE-2025-23352", "CVE-2026-24187"}),
        ("535.274.03", {"CVE-2026-24187"}),
        ("550.163.02", set()),
        ("580.159.01", {"CVE-2026-47574"}),
        ("580.178.05", set()),
        ("390.157", set()),
        ("600.1", set()),
    ],
)
def test_the_table_that_comes_along(version: str, cves: set[str]) -> None:
    found = DriverTrust().against(version)
    told = {cve for advisory in found for cve in advisory.cves}
    assert told >= cves
    assert bool(told) == bool(cves)
    assert [a.date for a in found] == sorted((a.date for a in found), reverse=True)


def test_every_row_of_the_table_has_its_source_and_its_date() -> None:
    assert {advisory.branch for advisory in shipped()} == {418, 450, 470, 510, 525, 535, 550, 570, 580, 595}
    for advisory in shipped():
        assert advisory.source.startswith("NVIDIA/product-security, ")
        edge = advisory.fixed_in or advisory.through
        assert edge is not None
        assert advisory.affects(edge) == (advisory.fixed_in is None)
        assert advisory.affects(DriverVersion.parse(f"{advisory.branch}.0"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1", "advisories.toml"),
        (ONE_ROW.replace("fixed_in", "fixed"), "unknown field"),
        (ONE_ROW.replace("550.9", "535.9"), "not of branch 550"),
        (ONE_ROW.replace('"550.9"', '"soon"'), "not a version"),
        (ONE_ROW.replace("{ 550 = ", "{ } #"), "names no version"),
        (ONE_ROW + 'affected_through = { 550 = "550.8" }\n', "two things"),
        (ONE_ROW.replace("CVE-2026-0001", "none"), "cves"),
        (ONE_ROW.replace("high", "dreadful"), "severity"),
    ],
)
def test_a_file_that_is_wrong_is_told_so(text: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        parse(text, "advisories.toml")


def test_an_operators_file_takes_the_place_of_the_one_that_comes_along(tmp_path: Path) -> None:
    path = tmp_path / "newer.toml"
    path.write_text(ONE_ROW)
    trust = read_trust(REFUSE, path)
    assert trust.refuse
    assert trust.told("550.8") == "its NVIDIA driver 550.8 has 1 known vulnerabilities (CVE-2026-0001): 550.9 has the updates"
    assert trust.told("550.10") is None
    assert trust.told("470.82") is None
    assert not read_trust(FLAG, None).refuse
    with pytest.raises(BadRequest, match="cannot be read"):
        read_trust(FLAG, tmp_path / "none")


# ------------------------------------------------------------------------------------------------ on a machine


@pytest.mark.parametrize(
    ("content", "verdicts"), [("535.54.03\n", [Verdict.PROBLEM]), ("595.91.04\n", [Verdict.OK]), ("?", [Verdict.OK]), ("", [])]
)
def test_the_doctor_of_a_machine(tmp_path: Path, content: str, verdicts: list[Verdict]) -> None:
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    (tmp_path / "sys/module/nvidia/version").write_text(content)
    assert [finding.verdict for finding in machine.driver(tmp_path)] == verdicts


# ------------------------------------------------------------------------------------------------ who is refused


def world(desk: Desk, monkeypatch: pytest.MonkeyPatch, version: str, *, refuse: bool) -> World:
    """Two hosts with this driver."""
    fleet = FLEET.replace("    networks", f'    driver_version: "{version}"\n    networks')
    monkeypatch.setattr("tests.faults.world.FLEET", fleet)
    made = World.on(desk, "vfio")
    made.plane.index.trust = made.plane.index._field.trust = DriverTrust(refuse=refuse)
    return made


@pytest.mark.parametrize(("version", "placed"), [("535.54.03", False), ("580.178.05", True), ("7.7", True)])
@pytest.mark.weakness(1104)
def test_a_vulnerable_driver_is_given_no_new_vgpu(desk: Desk, monkeypatch: pytest.MonkeyPatch, version: str, *, placed: bool) -> None:
    made = world(desk, monkeypatch, version, refuse=True)
    server = made.created(ONE)
    assert (server.host is not None) == placed
    if not placed:
        assert server.fault is not None
        assert f"its NVIDIA driver {version} has" in server.fault.message
    assert made.created(PLAIN).host is not None, "what needs no vGPU is none of the driver's business"
    made.check()


def test_flagged_hosts_go_on_taking_servers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world(desk, monkeypatch, "535.54.03", refuse=False).created(ONE).host is not None


def test_the_claim_asks_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index does not know yet that the driver is not trusted any more; the transaction of the claim does."""
    made = world(desk, monkeypatch, "535.54.03", refuse=True)
    made.plane.index._field.trust = None
    assert made.created(ONE).host is None
    assert made.free() == {}


def test_a_gpu_without_a_version_is_not_judged() -> None:
    trust = DriverTrust(refuse=True)
    assert trust.told(None) is None
    assert trust.problem([]) is None
    assert dataclasses.replace(trust, advisories=()).told("470.82") is None
