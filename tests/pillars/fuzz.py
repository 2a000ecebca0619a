"""``python -m tests.pillars.fuzz [--runs N] [PARSER…]``: everything that reads what others have written, fed with nonsense.

For each parser: good inputs to begin with, what may come out of it, and what must be so of what it takes. Inputs are drawn by the seeded
dice of `tests.pillars.mutators`: the same runs each time. What atheris adds, its coverage and its hook for regular expressions, is
`--atheris`, a process a parser. An error that a parser does not name is a crash.

A file in YAML is fuzzed twice: what is made of the loaded value as often as everything else, and the whole file, of which most of the
time is PyYAML's, one time in forty.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import inspect
import io
import json
import logging
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

import lamina.api
from lamina.agent import configuration, gpu_instances, journal
from lamina.agent.frameworks.vfio import parse_creatable
from lamina.agent.hypervisors import domain_xml
from lamina.agent.simulated.fleet import fleet_of, parse_fleet
from lamina.api import policy
from lamina.api.placement import queries
from lamina.api.routing import PERSONAS, Request, Version
from lamina.hosts.join_tokens import JoinToken
from lamina.model import decoding, ids, policies, queueing, requests, resources
from lamina.model.errors import BadRequest, HypervisorError
from lamina.model.flavors import Flavor
from lamina.model.gpus import framebuffer_of_name
from lamina.model.ids import PciAddress
from lamina.operations import image_contents
from tests.pillars.mutators import TextMutator, ValueMutator

RUNS = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Parser:
    """What `parse` gives has to be the same when `again` is made of it and parsed."""

    parse: Callable[[Any], Any]
    seeds: tuple[Any, ...]
    refuses: tuple[type[Exception], ...] = (BadRequest,)
    again: Callable[[Any], Any] | None = None
    takes: Literal["text", "bytes", "values"] = "text"
    #: of the runs that are asked for, one in so many
    share: int = 1


class _Asked:
    """As much of a request as the parsers of query strings look at."""

    def __init__(self, text: str) -> None:
        self.query = tuple((name, value) for name, _, value in (pair.partition("=") for pair in text.split("&")))
        self.version = Version(1, 39)

    values = Request.values
    value = Request.value


def _query(text: str) -> object:
    asked: Any = _Asked(text)
    found: list[object] = [queries.traits(asked, "required"), queries.aggregates(asked, "member_of")]
    found += [queries.amounts(value) for value in asked.values("resources")]
    found += [queries.uuid(value, "in_tree") for value in asked.values("in_tree")]
    return found


def _specs(text: str) -> object:
    """``key=value`` lines as a flavor's extra specs."""
    specs = dict(line.partition("=")[::2] for line in text.split("\n"))
    return Flavor("f", "f", 1, 512, 1, extra_specs=specs).checked().request


def _journal(content: bytes) -> object:
    kept = journal._content(decoding.from_json(content, journal._File))
    return sorted(kept.vgpus.items()), sorted(kept.fences), kept.epoch


def _in_a_file(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108

    def parse(content: bytes) -> Any:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(content)
            file.flush()
            return read(Path(file.name))

    return parse


_POLICY_FILE = Path("policy.yaml")
_KNOWN_RULES = dict(PERSONAS) | dict.fromkeys(("context_is_admin", "project_manager_or_admin", "admin_or_owner", "reader"), "!")


def _rules(said: object) -> object:
    return policy._understood(said, _POLICY_FILE, _KNOWN_RULES)


def _read_rules(path: Path) -> object:
    return policy._read(path, _KNOWN_RULES)


def _instances(text: str) -> object:
    return gpu_instances.GpuInstances(lambda _argv: text).of(PciAddress(0, 0x81, 0, 0))


@functools.cache
def bodies() -> tuple[type[msgspec.Struct], ...]:
    """Every Struct that a room reads a body as."""
    found: dict[str, type[msgspec.Struct]] = {}
    for info in pkgutil.walk_packages(lamina.api.__path__, "lamina.api."):
        for name, kind in vars(importlib.import_module(info.name)).items():
            if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind.__module__.startswith("lamina.api."):
                found[f"{kind.__module__}.{name}"] = kind
    return tuple(found.values())


def _bodies(content: bytes) -> object:
    """One Struct, told by the length of the content; what is taken is the same when it was written and read again."""
    kind = bodies()[len(content) % len(bodies())]
    value = decoding.from_json(content, kind)
    assert decoding.from_json(msgspec.json.encode(value), kind) == value, kind
    return value


_UUID = "6f0c52de-6a3e-4d0e-9e55-1a1c4e9f7a10"
_RECORD = {
    "uuid": _UUID,
    "server_id": _UUID,
    "framework": "mdev",
    "gpu": {"domain": 0, "bus": 129, "slot": 0, "function": 0},
    "parent": {"domain": 0, "bus": 129, "slot": 0, "function": 4},
    "type": "nvidia-11",
    "type_id": "nvidia-11",
    "boot_id": _UUID,
}
_FLEET = """hosts:
  - {name: a, count: 2, vcpus: 4, memory_mb: 4096, disk_gb: 10, gpus: [{address: "0000:81:00.0", model: nvidia-a40, framework: vfio}]}
  - name: b
    vcpus: 1
    memory_mb: 512
    disk_gb: 1
    gpus:
      - address: "0000:81:01.0"
        framework: mdev
        types: [{name: nvidia-11, max_instances: 16, framebuffer_mb: 512}]
        enabled_types: [nvidia-11]
"""
_POLICY = """context_is_admin: role:admin or role:x
project_manager_or_admin: "@"
admin_or_owner: "rule:context_is_admin or (project_id:%(project_id)s and not role:reader)"
reader: "(role:a or (role:b and not role:c)) or 'x':%(y)s"
"""
_AGENT = """host = "a"
shutdown_grace = 5
[gpus."0000:81:00.0"]
enabled_types = ["NVIDIA A40-8Q"]
max_instances = 4
[networks.public]
bridge = "br0"
[console]
listen = "127.0.0.1"
"""
_DOMAIN = f"""<domain type='kvm'><name>x</name><uuid>{_UUID}</uuid>
<metadata><lamina:server xmlns:lamina='urn:lamina:domain:1' id='{_UUID}' definition='d'>
<lamina:vgpu uuid='{_UUID}' handle='0000:26:02.3'/></lamina:server></metadata><vcpu cpuset='0-3'>1</vcpu>
<devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0' bus='0x26' slot='0x2' function='0x3'/></source>
<alias name='ua-vgpu-0'/></hostdev><graphics type='vnc' port='5900' listen='127.0.0.1'/>
<disk type='file'><source file='/d'/><target dev='vda'/></disk></devices></domain>"""
_BODY = (
    b'{"server": {"name": "s", "flavorRef": "1", "imageRef": "", "networks": "auto", "metadata": {"a": "b"}, "min_count": 1}}',
    b'{"flavor": {"name": "f", "vcpus": 1, "ram": 512, "disk": 1, "id": "auto"}}',
    b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a", "password": "b"}}}}}',
    b'{"allocations": {"6f0c52de-6a3e-4d0e-9e55-1a1c4e9f7a10": {"resources": {"VGPU": 1}}}, "project_id": "p", "user_id": "u"}',
    b'{"resource_provider_generation": 1, "inventories": {"VGPU": {"total": 4, "allocation_ratio": 1.5}}}',
    b'{"resize": {"flavorRef": "1"}}',
    b'[null, true, -1, 1e400, 18446744073709551616, "\\ud800"]',
)
_QCOW2 = b"QFI\xfb\x00\x00\x00\x03" + b"\0" * 16 + (16).to_bytes(4, "big") + (1 << 20).to_bytes(8, "big") + b"\0" * 72 + b"\0" * 512

PARSERS: dict[str, Parser] = {
    "PCI address": Parser(PciAddress.parse, ("0000:81:00.0", "ffff:FF:1f.7"), again=str),
    "node device": Parser(PciAddress.parse_node_device, ("pci_0000_81_00_0",), again=lambda address: address.node_device),
    "uuid": Parser(ids.parse_uuid, (_UUID, _UUID.replace("-", "")), again=str),
    "host name": Parser(ids.parse_host_name, ("host1", "a.b-c_d"), again=str),
    "resource class": Parser(resources.parse_custom_class, ("CUSTOM_A",), again=str),
    "trait": Parser(resources.parse_custom_trait, ("CUSTOM_NVIDIA_A40_8Q",), again=str),
    "microversion": Parser(Version.parse, ("2.96", "1.39"), again=str),
    "amount": Parser(lambda text: requests.parse_amount(text, "x"), ("1", "2147483647"), again=str),
    "lamina:wait": Parser(lambda text: queueing.parse_wait(text, "x"), ("60", "2592000"), again=lambda seconds: str(int(seconds))),
    "lamina:policy": Parser(lambda text: policies.parse_policy(text, "x"), tuple(policies.PolicyName), again=str),
    "join token": Parser(JoinToken.parse, (f"lamina-join-1.{'A' * 43}.{'0' * 64}",), again=lambda token: token.text()),
    "name of a type": Parser(framebuffer_of_name, ("NVIDIA A40-8Q", "NVIDIA A100-1-5CME", "GRID T4-0B"), ()),
    "extra specs": Parser(
        _specs, ("resources:VGPU=1\ntrait:CUSTOM_A=required", "resources1:VGPU=1\nresources_b:VGPU=2\ngroup_policy=none")
    ),
    "placement query": Parser(_query, (f"resources=VGPU:1,VCPU:2&required=A,!B&required=in:C,D&member_of=!in:{_UUID}&in_tree={_UUID}",)),
    "creatable types": Parser(parse_creatable, ("ID    : vGPU Name\n558   : NVIDIA A40-8Q\n559 : x\n",), ()),
    "GPU instances": Parser(_instances, ("| GPU\n|   0  MIG 1g.10gb   19   7   0:1   |\n| 0  MIG 2g.20gb  14  3  2:2 |\n",), ()),
    "bodies": Parser(_bodies, _BODY, (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadRequest), takes="bytes"),
    "journal": Parser(
        _journal,
        (json.dumps({"vgpus": {_UUID: _RECORD}, "fences": {_UUID: {"epoch": 1, "number": 2, "at": 3.0}}, "epoch": 4}).encode(),),
        (msgspec.DecodeError, UnicodeDecodeError, BadRequest),
        takes="bytes",
    ),
    "domain XML": Parser(
        lambda text: (domain_xml.read(text), domain_xml.hostdevs(text), domain_xml.own_disks(text)), (_DOMAIN,), (HypervisorError,)
    ),
    "agent.toml": Parser(configuration.parse, (_AGENT,)),
    "fleet file": Parser(fleet_of, (yaml.safe_load(_FLEET),), takes="values"),
    "policy file": Parser(_rules, (yaml.safe_load(_POLICY),), takes="values"),
    "image": Parser(lambda content: image_contents.read_through(io.BytesIO(content), "qcow2"), (_QCOW2,), takes="bytes"),
    "fleet file, whole": Parser(parse_fleet, (_FLEET,), share=40),
    "policy file, whole": Parser(_in_a_file(_read_rules), (_POLICY.encode(), b"a: 2001-01-01\n"), takes="bytes", share=40),
}


class Crash(AssertionError):
    """What came out that may not."""


def one(parser: Parser, text: Any) -> bool:
    """Whether it was taken. Raises `Crash`."""
    try:
        value = parser.parse(text)
        if parser.again is not None:
            written = parser.again(value)
            same = parser.again(parser.parse(written)) == written and parser.parse(written) == value
        else:
            same = True
    except parser.refuses:
        return False
    except Exception as error:
        raise Crash(f"{type(error).__name__} for {text!r}: {error}") from error
    if not same:
        raise Crash(f"{text!r} was taken, and is another when it is written and read again")
    return True


def fuzz(name: str, runs: int, seed: str = "0") -> tuple[int, int]:
    """How many runs there were, and how many of the inputs were taken. Raises `Crash`."""
    parser = PARSERS[name]
    dice = f"{name} {seed}"
    mutator = (
        ValueMutator(parser.seeds, dice) if parser.takes == "values" else TextMutator(parser.seeds, dice, binary=parser.takes == "bytes")
    )
    good, taken = [one(parser, seed) for seed in parser.seeds], 0
    count = max(1, runs // parser.share)
    for _ in range(count):
        drawn = mutator.draw()
        if one(parser, drawn):
            taken += 1
            mutator.keep(drawn)
    if not any(good) and not taken:
        raise Crash("nothing was ever taken: only the refusals were tried")
    return count, taken


def under_atheris(name: str, runs: int) -> None:
    """In this process, which ends with it. Loaded values are drawn as JSON."""
    import atheris

    parser = PARSERS[name]
    atheris.enabled_hooks.add("RegEx")
    atheris.instrument_all()

    def test_one(content: bytes) -> None:
        if parser.takes == "values":
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                one(parser, msgspec.json.decode(content))
        else:
            provider = atheris.FuzzedDataProvider(content)
            one(parser, content if parser.takes == "bytes" else provider.ConsumeUnicode(len(content)))

    with tempfile.TemporaryDirectory() as corpus:
        for number, good in enumerate(parser.seeds):
            written = good if isinstance(good, bytes) else good.encode() if isinstance(good, str) else msgspec.json.encode(good)
            (Path(corpus) / str(number)).write_bytes(written)
        atheris.Setup([sys.argv[0], corpus, f"-runs={runs}", "-max_len=4096", "-verbosity=0", "-print_final_stats=0"], test_one)
        atheris.Fuzz()


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.pillars.fuzz")
    options.add_argument("--runs", type=int, default=RUNS)
    options.add_argument("--seed", default="0")
    options.add_argument("--atheris", action="store_true", help="guided by coverage")
    options.add_argument("parsers", nargs="*", metavar="PARSER")
    given = options.parse_args()
    logging.disable()  # libraries say of every bad input that it is one
    names, failed = given.parsers or list(PARSERS), 0
    seconds = time.monotonic if given.atheris else time.process_time
    if given.atheris and len(names) == 1:
        under_atheris(names[0], given.runs)
    for name in names:
        began = seconds()
        if given.atheris:
            command = (sys.executable, "-m", "tests.pillars.fuzz", "--atheris", "--runs", str(given.runs), name)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            told = f"{given.runs} runs" if not done.returncode else done.stderr[-2000:]
        else:
            try:
                told = "{} runs, {} taken".format(*fuzz(name, given.runs, given.seed))
            except Crash as crash:
                failed, told = failed + 1, f"CRASH {crash}"
        print(f"{name:<22} {told}, {seconds() - began:.1f} s", flush=True)
    print(f"{len(names)} parsers, {failed} crashes", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
