"""Fleet files: what is described comes out, and what is wrong is told in one sentence that names the field."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.agent.simulated.fleet import demo_fleet, load_fleet, parse_fleet
from lamina.agent.simulated.host import simulated_host
from lamina.model.errors import BadRequest
from lamina.model.gpus import Framework, Partitioning
from lamina.model.ids import PciAddress
from tests.contract.machines import StillClock

BY_HAND = "{name: nvidia-11, max_instances: 4, framebuffer_mb: 512}"


def fleet(gpus: str = "", host: str = "", name: str = "h") -> str:
    """One host's file, with these entries for its GPUs, and more fields of the host."""
    return f"hosts: [{{name: {name}, vcpus: 4, memory_mb: 4096, disk_gb: 10, gpus: [{gpus}]{host}}}]"


def card(address: str = "0000:81:00.0", what: str = "model: nvidia-a40, framework: vfio", more: str = "") -> str:
    return f'{{address: "{address}", {what}{more}}}'


HAND = f"framework: mdev, types: [{BY_HAND}]"
HAND_VFIO = f"framework: vfio, types: [{BY_HAND}]"
A, B = "0000:81:00.0", "0000:82:00.0"

WRONG: dict[str, tuple[str, str]] = {
    "nothing": ("", "the fleet file: expected `object`, got `null`"),
    "a list": ("[1, 2]", "the fleet file: expected `object`, got `array`"),
    "a word": ("hosts", "the fleet file: expected `object`, got `str`"),
    "not YAML": ("hosts: [", "the fleet file is not YAML (line 1)"),
    "not YAML, later": ("hosts:\n  - a: 1\n b: 2\n", "the fleet file is not YAML (line 3)"),
    "a tag": ("hosts: !!python/object:os.system {}", "the fleet file is not YAML (line 1)"),
    "a date that is none": ("hosts: 2026-99-99", "the fleet file has a value that cannot be read"),
    "half of a character": ('"hosts\\ud800": 1', "the fleet file has a value that cannot be read"),
    "nested without end": ("[" * 5000, "the fleet file has a value that cannot be read"),
    "a NUL": ("hosts: \0", "the fleet file is not YAML"),
    "no hosts": ("hosts: []", "hosts: expected `array` of length >= 1"),
    "hosts missing": ("{}", "the fleet file: object missing required field `hosts`"),
    "unknown field": (fleet() + "\nhost: 1", "the fleet file: object contains unknown field `host`"),
    "unknown field of a host": (fleet(host=", ram: 1"), "hosts[0]: object contains unknown field `ram`"),
    "unknown field of a GPU": (fleet(card(more=", size: 1")), "hosts[0].gpus[0]: object contains unknown field `size`"),
    "missing field": ("hosts: [{name: h, vcpus: 1, memory_mb: 512}]", "hosts[0]: object missing required field `disk_gb`"),
    "number in quotes": (fleet().replace("vcpus: 4", 'vcpus: "4"'), "hosts[0].vcpus: expected `int`, got `str`"),
    "a truth for a number": (fleet().replace("vcpus: 4", "vcpus: true"), "hosts[0].vcpus: expected `int`, got `bool`"),
    "no vcpus": (fleet().replace("vcpus: 4", "vcpus: 0"), "hosts[0].vcpus: expected `int` >= 1"),
    "too many vcpus": (fleet().replace("vcpus: 4", "vcpus: 4097"), "hosts[0].vcpus: expected `int` <= 4096"),
    "little memory": (fleet().replace("memory_mb: 4096", "memory_mb: 511"), "hosts[0].memory_mb: expected `int` >= 512"),
    "huge memory": (fleet().replace("memory_mb: 4096", f"memory_mb: {10**30}"), "hosts[0].memory_mb: expected `int` <= 134217728"),
    "negative disk": (fleet().replace("disk_gb: 10", "disk_gb: -1"), "hosts[0].disk_gb: expected `int` >= 0"),
    "a network twice": (fleet(host=", networks: [a, b, a]"), "hosts[0].networks: one of them is there twice"),
    "a network without a name": (fleet(host=', networks: [""]'), "hosts[0].networks[0]: expected `str` of length >= 1"),
    "count 0": (fleet(host=", count: 0"), "hosts[0].count: expected `int` >= 1"),
    "count too high": (fleet(host=", count: 100001"), "hosts[0].count: expected `int` <= 100000"),
    "a name with a slash": (
        fleet(name="a/b"),
        "hosts[0].name: 'a/b' is not a host name: letters, digits, '.', '-' and '_', a letter or digit at both ends",
    ),
    "two hosts of one name": (
        "hosts: [" + ", ".join(["{name: h, vcpus: 1, memory_mb: 512, disk_gb: 1}"] * 2) + "]",
        "hosts[1].name: there are two hosts 'h'",
    ),
    "a counted name again": (
        "hosts: [{name: h, count: 2, vcpus: 1, memory_mb: 512, disk_gb: 1}, {name: h2, vcpus: 1, memory_mb: 512, disk_gb: 1}]",
        "hosts[1].name: there are two hosts 'h2'",
    ),
    "no PCI address": (
        fleet(card("81:00.0")),
        "hosts[0].gpus[0].address: '81:00.0' is not a PCI address: a PCI address looks like 0000:81:00.0",
    ),
    "two GPUs at one address": (
        fleet(f"{card(A)}, {card(A)}"),
        "hosts[0].gpus[1].address: 0000:81:00.0 is already used by hosts[0].gpus[0]",
    ),
    "a GPU among another's functions": (
        fleet(f"{card(A)}, {card('0000:81:01.0', HAND)}"),
        "hosts[0].gpus[1].address: 0000:81:01.0 is already used by hosts[0].gpus[0]",
    ),
    "an unknown framework": (
        fleet(card(what="model: nvidia-a40, framework: sriov")),
        "hosts[0].gpus[0].framework: invalid enum value 'sriov'",
    ),
    "model and types": (
        fleet(card(what=f"model: nvidia-a40, {HAND}")),
        "hosts[0].gpus[0]: a GPU has either a model from the catalog or types given by hand",
    ),
    "neither model nor types": (
        fleet(card(what="framework: mdev")),
        "hosts[0].gpus[0]: a GPU has either a model from the catalog or types given by hand",
    ),
    "no type by hand": (
        fleet(card(what="framework: mdev, types: []")),
        "hosts[0].gpus[0].types: a GPU given by hand has at least one type",
    ),
    "a type twice": (
        fleet(card(what=f"framework: mdev, types: [{BY_HAND}, {BY_HAND}]")),
        "hosts[0].gpus[0].types[1].name: 'nvidia-11' is there twice",
    ),
    "two types of one number": (
        fleet(card(what=f"framework: vfio, types: [{BY_HAND}, {BY_HAND.replace('11', '011')}]")),
        "hosts[0].gpus[0].types[1].name: 'nvidia-011' has the same number as another type",
    ),
    "the number that means none": (
        fleet(card(what=HAND_VFIO.replace("11", "0"))),
        "hosts[0].gpus[0].types[0].name: under vfio the number 0 means that there is no vGPU",
    ),
    "no instances": (
        fleet(card(what=HAND.replace("max_instances: 4", "max_instances: 0"))),
        "hosts[0].gpus[0].types[0].max_instances: expected `int` >= 1",
    ),
    "no framebuffer": (
        fleet(card(what=HAND.replace("512", "0"))),
        "hosts[0].gpus[0].types[0].framebuffer_mb: expected `int` >= 1",
    ),
    "a type that is a path": (
        fleet(card(what=HAND.replace("nvidia-11", '"../x"'))),
        r"hosts[0].gpus[0].types[0].name: expected `str` matching regex '\\A[A-Za-z0-9][A-Za-z0-9 ._-]*\\Z'",
    ),
    "an unknown type": (
        fleet(card(more=", enabled_types: [NVIDIA A40-8Q, NVIDIA A40-7Q]")),
        "hosts[0].gpus[0].enabled_types[1]: no card of the catalog or of this file has a vGPU type 'NVIDIA A40-7Q'",
    ),
    "a standard class": (
        fleet(card(more=", resource_class: VCPU")),
        "hosts[0].gpus[0].resource_class: 'VCPU' is not a custom resource class: "
        "it is CUSTOM_ and upper-case letters, digits and '_', at most 255",
    ),
    "a limit of none": (fleet(card(more=", max_instances: 0")), "hosts[0].gpus[0].max_instances: expected `int` >= 1"),
    "how a known card is cut": (
        fleet(card(more=", partitioning: shared-pool")),
        "hosts[0].gpus[0].partitioning: a NVIDIA A40 under vfio can be cut same-size or mixed-size",
    ),
    "vfio without functions": (
        fleet(card(what="model: nvidia-t4, framework: vfio")),
        "hosts[0].gpus[0].framework: a NVIDIA T4 has no SR-IOV, which vfio needs",
    ),
    "functions of a card without them": (
        fleet(card(what="model: nvidia-t4, framework: mdev, virtual_functions: 4")),
        "hosts[0].gpus[0].virtual_functions: a NVIDIA T4 has no SR-IOV",
    ),
    "too many functions": (fleet(card(more=", virtual_functions: 65")), "hosts[0].gpus[0].virtual_functions: expected `int` <= 64"),
    "functions past the last bus": (
        fleet(card("0000:ff:1f.0")),
        "hosts[0].gpus[0].virtual_functions: 32 do not fit behind 0000:ff:1f.0 on its bus",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fleet(text)
    assert caught.value.message == sentence


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequest, match=r"^hosts\[0\]\.gpus\[0\]\.model: 'a41' is not in the card catalog; known are nvidia-a10, "):
        parse_fleet(fleet(card(what="model: a41, framework: vfio")))


@given(st.text(alphabet="hosts:[]{}-\n ,\"'&*!#|>%@0123.eE\\\0\ufeff", max_size=40))
def test_any_text_is_a_fleet_or_a_sentence(text: str) -> None:
    with contextlib.suppress(BadRequest):
        assert parse_fleet(text).hosts


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"^--fleet: .*missing\.yaml cannot be read: No such file or directory$"):
        load_fleet(tmp_path / "missing.yaml")
    with pytest.raises(BadRequest, match="cannot be read: Is a directory"):
        load_fleet(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"hosts: \xe4")
    with pytest.raises(BadRequest, match=r"latin\.yaml is not a text file in UTF-8$"):
        load_fleet(tmp_path / "latin.yaml")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(fleet())
    assert load_fleet(tmp_path / "fleet.yaml") == parse_fleet(fleet())


def test_a_count_makes_names_of_a_prefix() -> None:
    hosts = parse_fleet(fleet(card(), host=", count: 3", name="rack-")).hosts
    assert [h.name for h in hosts] == ["rack-1", "rack-2", "rack-3"]
    assert hosts[0].cards == hosts[2].cards
    assert [h.name for h in parse_fleet(fleet(host=", count: 1")).hosts] == ["h1"]


def test_a_card_of_the_catalog() -> None:
    (host,) = parse_fleet(fleet(card(more=", enabled_types: [A40-8Q, nvidia-558]".replace("A40-8Q", "NVIDIA A40-8Q")))).hosts
    (gpu,) = (c.gpu for c in host.cards)
    assert (gpu.framework, gpu.partitioning, gpu.virtual_functions, gpu.framebuffer_mb) == (
        Framework.VFIO,
        Partitioning.SAME_SIZE,
        32,
        49152,
    )
    settings = host.settings[PciAddress.parse(A)]
    assert settings.enabled_types == ("NVIDIA A40-8Q", "nvidia-558")
    assert settings.types == (), "the catalog has the facts"


def test_a_card_given_by_hand() -> None:
    text = fleet(card(what=HAND, more=", resource_class: CUSTOM_X, max_instances: 3, numa_node: 1, partitioning: shared-pool"))
    (host,) = parse_fleet(text).hosts
    (made,) = host.cards
    assert (made.gpu.partitioning, made.gpu.virtual_functions, made.gpu.numa_node) == (Partitioning.SHARED_POOL, None, 1)
    settings = host.settings[PciAddress.parse(A)]
    assert (settings.enabled_types, settings.resource_class, settings.max_instances) == (None, "CUSTOM_X", 3)
    assert [t.name for t in settings.types] == ["nvidia-11"]


def test_vfio_types_by_hand_have_numbers() -> None:
    types = "[{name: nvidia-11, max_instances: 40, framebuffer_mb: 1}, {name: Special, max_instances: 1, framebuffer_mb: 2}]"
    (made,) = parse_fleet(fleet(card(what=f"framework: vfio, types: {types}"))).hosts[0].cards
    assert [t.id for t in made.gpu.types] == ["11", "90001"]
    assert made.gpu.virtual_functions == 40


def test_a_type_of_another_card_is_told_by_the_host(tmp_path: Path) -> None:
    """Known elsewhere and not offered here: the GPU stays, with nothing enabled, and the host says why."""
    (host,) = parse_fleet(fleet(card(more=", enabled_types: [NVIDIA L40S-4Q]"))).hosts
    report = simulated_host(host, tmp_path, StillClock()).compute.report()
    assert report.gpus[0].gpu.enabled_types == ()
    assert report.problems == ("GPU 0000:81:00.0 does not offer the enabled type 'NVIDIA L40S-4Q'",)


def test_a_host_tells_its_networks(tmp_path: Path) -> None:
    (described, plain) = (parse_fleet(fleet(host=more)).hosts[0] for more in (", networks: [public, lab 2]", ""))
    assert (described.networks, plain.networks) == (("public", "lab 2"), ())
    assert simulated_host(described, tmp_path, StillClock()).compute.report().networks == ("public", "lab 2")


def test_the_demo_is_in_order(tmp_path: Path) -> None:
    hosts = demo_fleet().hosts
    assert len(hosts) == 3
    seen = set()
    for host in hosts:
        report = simulated_host(host, tmp_path, StillClock()).compute.report()
        assert report.problems == ()
        assert all(g.gpu.enabled_types for g in report.gpus)
        seen |= {g.gpu.framework for g in report.gpus}
    assert seen == set(Framework)
