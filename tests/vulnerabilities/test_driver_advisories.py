"""NVIDIA's Virtual GPU Manager let a guest allocate what it had no right to (CVE-2022-31609), control what was not its own
(CVE-2023-25517), or keep its host busy with interrupts (CVE-2022-21816); and more since.

Those are not Lamina's to mend. It compares each host's driver, as a number, with a table of what NVIDIA has published, shows a host with
a vulnerable one as such, and with `--vulnerable-drivers refuse` gives it no new vGPU; the servers there go on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest

from lamina.cli.checks import running
from lamina.cli.checks.finding import Verdict
from lamina.model.driver_advisories import DriverTrust, DriverVersion
from lamina.model.hosts import PowerAction, PowerState
from lamina.model.servers import VmState
from lamina.operations import delete, power, rebuild
from tests.faults.world import CALLER, FLEET, ONE, PLAIN, World
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import Stage

#: version -> one of what there is against it
VULNERABLE = {"510.73.06": "CVE-2022-31609", "525.105.14": "CVE-2023-25517", "470.82": "CVE-2022-21816", "535.54.03": "CVE-2023-31018"}
FIXED = ("470.256.02", "510.85.03", "550.163.02", "580.178.05", "595.91.04")
#: a branch that the table does not name, and an older agent's host, which tells no version
UNKNOWN = ("600.10", None)


def with_driver(version: str | None) -> str:
    """A fleet of two hosts."""
    return FLEET if version is None else FLEET.replace("    networks", f'    driver_version: "{version}"\n    networks')


def trusting(world: World, trust: DriverTrust) -> None:
    world.plane.index.trust = world.plane.index._field.trust = trust


def a_vulnerable_host_is_given_nothing_new(world: World, version: str) -> None:
    trusting(world, DriverTrust())
    before = world.created(ONE)
    assert before.vm_state is VmState.ACTIVE, "where it is only flagged"
    trusting(world, DriverTrust(refuse=True))
    refused = world.created(ONE)
    assert refused.vm_state is VmState.ERROR, f"a vGPU is made by the driver {version}"
    assert refused.fault is not None
    assert f"its NVIDIA driver {version} has" in refused.fault.message
    world.plane.index._field.trust = None  # the index has not heard of it yet: the claim's own transaction refuses
    assert world.created(ONE).vm_state is VmState.ERROR
    assert world.created(PLAIN).vm_state is VmState.ACTIVE, "what needs no vGPU is none of its business"
    for action, seen in ((PowerAction.OFF, PowerState.SHUTDOWN), (PowerAction.ON, PowerState.RUNNING)):
        power.request(world.plane, CALLER, before.id, action)
        world.settle()
        assert world.server(before.id).power_state is seen
    rebuild.request(world.plane, CALLER, before.id, None, {})
    world.settle()
    assert world.server(before.id).vm_state is VmState.ACTIVE
    world.check()


def check(stage: Stage) -> None:
    trust = DriverTrust()
    for version, cve in VULNERABLE.items():
        assert cve in {each for advisory in trust.against(version) for each in advisory.cves}, f"{version} is not known for {cve}"
        a_vulnerable_host_is_given_nothing_new(stage.world("vfio", with_driver(version)), version)
    for known in (*FIXED, *UNKNOWN):
        assert trust.told(known) is None, known
        world = stage.world("mdev", with_driver(known))
        trusting(world, DriverTrust(refuse=True))
        server = world.created(ONE)
        assert server.vm_state is VmState.ACTIVE
        delete.request(world.plane, CALLER, server.id)
        world.settle()
    shown(stage)


def shown(stage: Stage) -> None:
    """On the host, and by the doctor of a running Lamina."""
    with mock.patch("tests.faults.world.FLEET", with_driver("535.54.03")), stage.cloud() as cloud:
        for host in cloud.ask("GET", "/fleet/v1/hosts", user="admin").json()["hosts"]:
            assert host["driver"] == "535.54.03"
            assert {"5491", "5821"} <= {each["bulletin"] for each in host["advisories"]}
            (problem,) = host["problems"]
            assert "535.309.01 has the updates" in problem
            assert [f.told for f in running.hosts([host]) if f.verdict is Verdict.PROBLEM] == [f"{host['name']}: {problem}"]


def broken() -> AbstractContextManager[Any]:
    """versions are compared as text"""
    return mock.patch.object(DriverVersion, "__lt__", lambda self, other: self.text < other.text)


ROW = Row(21, ("CVE-2022-31609", "CVE-2023-25517", "CVE-2022-21816"), 284, "a driver of the host with known vulnerabilities", check, broken)


@pytest.mark.weakness(285)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
