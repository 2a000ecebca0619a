"""The contract suites, the same code as on simulated machines, run inside the lab's machine on the real thing."""

from __future__ import annotations

import json
import re

import pytest
from lab.machine import Machine
from lab.stages import PROJECT, say


@pytest.mark.parametrize("suite", ["test_sysfs.py", "test_frameworks.py", "test_refusals.py", "test_hypervisor.py"])
def test_the_simulation_keeps_its_word(host: Machine, suite: str) -> None:
    """Every test passes, and none is skipped."""
    host.put_tree("/root/project", PROJECT / "tests/__init__.py", PROJECT / "tests/contract", PROJECT / "pyproject.toml")
    command = f"cd /root/project; LAMINA_TEST_REAL=1 python3 -m pytest -q -p no:cacheprovider tests/contract/{suite}"
    code, output = host.do("bash", "-c", command)
    say(f"\nlab: {suite} on the real thing: {output.strip().splitlines()[-1]}")
    assert code == 0, output[-6000:]
    assert re.search(r"(?m)^[1-9][0-9]* passed in [0-9.]+s", output), output[-2000:]


def doctor(host: Machine, *before: str) -> dict[str, dict[str, str]]:
    """What the doctor finds, by the name of the check, run by `before` as somebody else."""
    _, output = host.do(*before, "lamina", "doctor", "--host", "--state", "/nowhere", "--json")
    return {finding["check"]: finding for finding in json.loads(output)}


def test_the_doctor_names_what_a_host_lacks(host: Machine) -> None:
    """Each with the command that mends it, and the command does."""
    host.sh("rm -f /usr/sbin/mdevctl; for d in /sys/bus/pci/devices/*; do [ ! -e $d/sriov_numvfs ] || echo 0 >$d/sriov_numvfs; done")
    host.sh("pkill -x libvirtd; while pgrep -x libvirtd; do sleep 0.2; done; rm -f /run/libvirt/libvirt-sock")
    found = doctor(host)
    lacking = {name: f["mend"] for name, f in found.items() if f["verdict"] != "ok" and f["needed"]}
    say("\n" + "\n".join(f"lab: doctor: {name}: {found[name]['told']} | {mend}" for name, mend in lacking.items()))
    assert {"KVM", "IOMMU", "libvirt", "mdevctl", "SR-IOV"} <= lacking.keys()
    assert all(lacking.values())
    assert "intel_iommu=on" in lacking["IOMMU"]
    host.sh(lacking["mdevctl"].replace("sudo ", ""))
    host.sh(lacking["SR-IOV"].partition("  (")[0].replace("sudo ", ""))
    host.sh("libvirtd -d; until virsh version >/dev/null; do sleep 0.3; done")
    mended = doctor(host)
    assert {mended[name]["verdict"] for name in ("libvirt", "mdevctl", "mdev", "sysfs")} == {"ok"}
    closed = doctor(host, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert "closed to this user" in closed["sysfs"]["told"]
    assert "not open to this user" in closed["libvirt"]["told"]
    assert closed["sysfs"]["mend"]


def test_one_process_serves_this_machine(host: Machine) -> None:
    """`lamina up` without a fleet, on the machine itself."""
    host.sh("setsid lamina up --state /root/state >/var/log/up.log 2>&1 </dev/null &")
    host.wait_for("grep '^ready http://127.0.0.1:8774' /var/log/up.log")
    shown = host.sh("lamina fleet show --state /root/state")
    assert "NVIDIA LAB-0Q" in shown
    assert "0000:00:05.0" in shown
    host.sh("pkill -TERM -f '[l]amina up'; while pgrep -f '[l]amina up'; do sleep 0.2; done")


def test_one_process_says_what_it_lacks(host: Machine) -> None:
    host.sh("pkill -x libvirtd; while pgrep -x libvirtd; do sleep 0.2; done; rm -f /run/libvirt/libvirt-sock")
    code, output = host.do("lamina", "up", "--state", "/root/other")
    assert code == 2
    assert "cannot run servers" in output
    assert "--fleet demo" in output
