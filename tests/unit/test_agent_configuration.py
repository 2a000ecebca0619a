"""``agent.toml``: what may be said in it, and what is told of what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.agent.configuration import DEFAULT_PATH, HostNetwork, load, parse
from lamina.model.errors import BadRequest
from lamina.model.gpus import GpuSettings, VgpuType
from lamina.model.ids import PciAddress

EXAMPLE = Path(__file__).parents[2] / "deploy" / "agent.toml"
GPU = PciAddress.parse("0000:81:00.0")


def test_nothing_said_enables_everything() -> None:
    known = parse("")
    assert (known.libvirt_uri, known.settings, known.networks, known.vnc) == ("qemu:///system", {}, (), "127.0.0.1")
    assert known.host


def test_everything_said() -> None:
    known = parse(
        """
        host = "node-7"
        libvirt_uri = "qemu+unix:///system"
        shutdown_grace = 5
        [gpus."0000:81:00.0"]
        enabled_types = ["NVIDIA A40-8Q", "nvidia-560"]
        resource_class = "CUSTOM_A40"
        max_instances = 4
        enable_functions = true
        types = [{name = "NVIDIA A40-8Q", max_instances = 6, framebuffer_mb = 8192}]
        [networks.public]
        bridge = "br0"
        [networks.inner]
        libvirt = "default"
        [console]
        vnc = true
        listen = "::1"
        """
    )
    types = (VgpuType("NVIDIA A40-8Q", "NVIDIA A40-8Q", 8192, 6),)
    assert (known.host, known.shutdown_grace, known.vnc) == ("node-7", 5.0, "::1")
    assert known.settings == {GPU: GpuSettings(GPU, ("NVIDIA A40-8Q", "nvidia-560"), "CUSTOM_A40", 4, types, enable_functions=True)}
    assert known.networks == (HostNetwork("public", bridge="br0"), HostNetwork("inner", libvirt="default"))


def test_the_example_is_what_holds_when_nothing_is_said() -> None:
    """Every key of the example is a comment that shows its default, or an example of one that has none."""
    text = EXAMPLE.read_text()
    assert parse(text) == parse("")
    uncommented = "\n".join(line.removeprefix("# ") if line.startswith("# ") and _is_toml(line[2:]) else "" for line in text.splitlines())
    known = parse(uncommented)
    assert known.settings
    assert {n.bridge is not None for n in known.networks} == {True, False}


def _is_toml(line: str) -> bool:
    return line.startswith("[") or " = " in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("host = 'a b'", "agent.toml: host: 'a b' is not a host name"),
        ("hots = 'a'", "unknown field `hots`"),
        ("host = 7", "host: expected `str | null`, got `int`"),
        ("host = ", "agent.toml is not TOML"),
        ("[gpus.'81:00.0']", "gpus.'81:00.0'"),
        ("[gpus.'0000:81:00.0']\nmax_instances = 0", "max_instances"),
        ("[gpus.'0000:81:00.0']\nresource_class = 'GPU'", "resource_class"),
        ("[gpus.'0000:81:00.0']\nenabled_types = ['../x']", "enabled_types"),
        ("[gpus.'0000:81:00.0']\nenabled_types = ['a\\nb']", "enabled_types"),
        ("[networks.public]", "a network has either a bridge or a network of libvirt's"),
        ("[networks.public]\nbridge = 'a'\nlibvirt = 'b'", "either a bridge"),
        ("[networks.public]\nbridge = '../etc'", "is not the name of an interface"),
        ("[networks.public]\nbridge = '..'", "is not the name of an interface"),
        ("[networks.public]\nlibvirt = 'a b'", "is not the name of a libvirt network"),
        ("[networks.'a/b']\nbridge = 'br0'", "a network's name is"),
        ("[console]\nlisten = 'everywhere'", "is not an IP address"),
        ("shutdown_grace = -1", "shutdown_grace"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert told in caught.value.message


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"--config: .* is not there"):
        load(tmp_path / "agent.toml")
    with pytest.raises(BadRequest, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="UTF-8"):
        load(tmp_path / "binary")
    (tmp_path / "good").write_text("host = 'h'")
    assert load(tmp_path / "good").host == "h"


def test_the_default_place_is_where_packages_put_settings() -> None:
    assert str(DEFAULT_PATH) == "/etc/lamina/agent.toml"
