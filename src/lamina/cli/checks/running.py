"""A running Lamina: what its Fleet API says of hosts, operations and vGPUs. Pure functions of the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lamina.cli.checks.finding import Finding, Verdict

Answer = Mapping[str, Any]


def hosts(known: Sequence[Answer]) -> list[Finding]:
    """One line for all hosts that are well, one for each that is not."""
    findings = []
    for host in known:
        if host["state"] != "up":
            findings.append(Finding("host", Verdict.PROBLEM, f"{host['name']} does not answer", f"lamina fleet show --host {host['name']}"))
        findings += [Finding("host", Verdict.PROBLEM, f"{host['name']}: {problem}") for problem in host["problems"]]
    if not known:
        return [Finding("hosts", Verdict.PROBLEM, "no host has ever reported", "lamina up --fleet demo")]
    up = sum(1 for host in known if host["state"] == "up")
    return [Finding("hosts", Verdict.OK, f"{up} of {len(known)} are up"), *findings] if up else findings


def records(damaged: Iterable[str]) -> list[Finding]:
    """One line for each record that cannot be read."""
    return [Finding("records", Verdict.PROBLEM, sentence) for sentence in damaged]


def versions(known: Iterable[Answer]) -> list[Finding]:
    """What runs the servers, and what makes their vGPUs, on how many hosts each."""
    counted: dict[str, int] = {}
    for host in known:
        told = [f"{host['hypervisor_type']} {_version(host['hypervisor_version'])}"]
        told += [f"libvirt {_version(host['libvirt_version'])}"] if host["libvirt_version"] else []
        told += [f"NVIDIA driver {host['driver']}"] if host["driver"] is not None else []
        counted[", ".join(told)] = counted.get(", ".join(told), 0) + 1
    return [Finding("versions", Verdict.OK, f"{what} ({count} host{'s' * (count > 1)})") for what, count in sorted(counted.items())]


def _version(number: int) -> str:
    """libvirt's form: major * 1000000 + minor * 1000 + release."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def operations(unfinished: Iterable[Answer]) -> list[Finding]:
    findings = []
    for one in unfinished:
        if one["state"] == "stuck":
            why = (one["error"] or {}).get("message", "it does not say why")
            told = f"{one['kind']} of server {one['server_id']} is stuck: {why}"
            findings.append(Finding("operation", Verdict.PROBLEM, told, f"lamina operation resume {one['id']}"))
    return findings or [Finding("operations", Verdict.OK, "none is stuck")]


def vgpus(known: Iterable[Answer], unfinished: Iterable[Answer]) -> list[Finding]:
    """Records held against devices; a server that an operation is at work on may differ for a moment."""
    busy = {one["server_id"] for one in unfinished}
    findings, count = [], 0
    for vgpu in known:
        count += vgpu["state"] != "foreign"
        if vgpu["server_id"] is not None and vgpu["server_id"] in busy:
            continue
        where = f"vGPU {vgpu['uuid']} ({vgpu['type']}) on {vgpu['host']}"
        if vgpu["state"] == "orphan":
            told = f"{where} was made by Lamina and no record pays for it"
            findings.append(Finding("vGPU", Verdict.PROBLEM, told, "lamina doctor --repair"))
        elif vgpu["on_host"] is False:
            told = f"{where} is recorded and the host does not have it"
            findings.append(Finding("vGPU", Verdict.PROBLEM, told, f"openstack server reboot --hard {vgpu['server_id']}"))
    return findings or [Finding("vGPUs", Verdict.OK, f"{count} recorded, and the hosts have each of them")]


#: what -> how its object is called
_OBJECTS = {
    "restore": "server",
    "power-state": "server",
    "evacuated": "what is left of server",
    "orphan-vgpu": "vGPU",
    "orphan-domain": "the domain of server",
    "allocation": "the allocation of",
    "orphan-disk": "the disk in the depot of server",
}


def repairs(looked: Answer) -> list[Finding]:
    """What a look at all hosts found: what was mended, or would be, and what is looked at once more before it is removed."""
    done, findings = looked["mend"], []
    for one in looked["repairs"]:
        if done:
            findings.append(Finding("repair", Verdict.OK, f"{_what(one)}: {'being mended' if one['operation_id'] else 'mended'}"))
        else:
            findings.append(Finding("repair", Verdict.PROBLEM, _what(one), "lamina doctor --repair"))
    for one in looked["waiting"]:
        told = f"{_what(one)}; it is looked at once more before it is removed"
        findings.append(Finding("repair", Verdict.MISSING, told, needed=False))
    return findings or [Finding("repairs", Verdict.OK, "nothing is to be mended")]


def _what(one: Answer) -> str:
    where = f" on {one['host']}" if one["host"] else ""
    return f"{_OBJECTS.get(one['what'], one['what'])} {one['object']}{where}: {one['why']}"
