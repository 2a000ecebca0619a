"""What a server wrote, and where its display is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import Call, why

from lamina.agent.compute import ComputeService
from lamina.hosts.directory import Hosts
from lamina.model.errors import HostUnreachable
from lamina.model.hosts import Console

Boot = Callable[..., str]
NOVNC = {"remote_console": {"protocol": "vnc", "type": "novnc"}}


def output(call: Call, server_id: str, **value: Any) -> list[str]:
    answer = call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": value})
    assert answer.status_code == 200, answer.text
    told: str = answer.json()["output"]
    return told.splitlines()


def test_the_console_has_what_the_domain_wrote(call: Call, boot: Boot) -> None:
    server_id = boot(flavorRef="vgpu", networks="auto")
    whole = output(call, server_id)
    (interface,) = call("GET", f"/servers/{server_id}/os-interface").json()["interfaceAttachments"]
    assert f"network interface: {interface['mac_addr']} on public" in whole
    assert output(call, server_id, length=2) == output(call, server_id, length="2") == whole[-2:]
    assert output(call, server_id, length=-1) == output(call, server_id, length=None) == whole
    assert output(call, server_id, length=0) == []


def test_a_locked_server_still_shows_its_console(call: Call, boot: Boot) -> None:
    server_id = boot()
    call("POST", f"/servers/{server_id}/action", {"lock": None}, user="admin")
    assert output(call, server_id)


def test_half_a_character_is_no_obstacle(call: Call, boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    server_id = boot()
    monkeypatch.setattr(ComputeService, "console_output", lambda *_: "a\udc80\x1b[0mb\x00ä\n")
    answer = call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}})
    assert answer.json() == {"output": "a?\x1b[0mb\x00ä\n"}


@pytest.mark.parametrize("how", [{"settled": False}, {"flavorRef": "huge"}], ids=str)
def test_a_server_without_a_host_is_not_ready(call: Call, boot: Boot, how: dict[str, Any]) -> None:
    server_id = boot(**how)
    status, message = why(call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}}))
    assert (status, message) == (409, f"Instance {server_id} is not ready")
    assert why(call("POST", f"/servers/{server_id}/remote-consoles", NOVNC))[0] == 409


def test_a_host_that_does_not_answer_is_told(call: Call, boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    server_id = boot()

    def silent(_hosts: Hosts, name: str) -> Any:
        raise HostUnreachable(f"Host {name} does not answer.")

    monkeypatch.setattr(Hosts, "of", silent)
    answer = call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}})
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["serviceUnavailable"]["message"]


def test_a_domain_that_is_gone_has_no_console(world: World, call: Call, boot: Boot) -> None:
    server_id = boot()
    host = world.server(server_id).host
    assert host is not None
    world.hosts[host].machine.state.domains.clear()
    assert why(call("POST", f"/servers/{server_id}/action", {"os-getConsoleOutput": {}}))[0] == 404
    assert why(call("POST", f"/servers/{server_id}/remote-consoles", NOVNC))[0] == 404


# ---------------------------------------------------------------------------------------------------- displays


def test_a_domain_without_a_display_says_so(call: Call, boot: Boot) -> None:
    server_id = boot()
    assert why(call("POST", f"/servers/{server_id}/remote-consoles", NOVNC)) == (400, "Unavailable console type novnc.")
    old = call("POST", f"/servers/{server_id}/action", {"os-getVNCConsole": {"type": "novnc"}}, version="2.5")
    assert why(old) == (400, "Unavailable console type novnc.")


@pytest.mark.parametrize(
    ("console", "protocol", "kind", "url"),
    [
        (Console("vnc", "192.0.2.7", 5901), "vnc", "novnc", "vnc://192.0.2.7:5901"),
        (Console("spice", "2001:db8::7", 5902), "spice", "spice-html5", "spice://[2001:db8::7]:5902"),
    ],
)
def test_a_display_is_where_the_host_serves_it(
    call: Call, boot: Boot, monkeypatch: pytest.MonkeyPatch, console: Console, protocol: str, kind: str, url: str
) -> None:
    server_id = boot()
    monkeypatch.setattr(ComputeService, "console", lambda *_: console)
    asked = {"protocol": protocol, "type": kind}
    answer = call("POST", f"/servers/{server_id}/remote-consoles", {"remote_console": asked})
    assert (answer.status_code, answer.json()) == (200, {"remote_console": asked | {"url": url}})
    action = {"vnc": "os-getVNCConsole", "spice": "os-getSPICEConsole"}[protocol]
    old = call("POST", f"/servers/{server_id}/action", {action: {"type": kind}}, version="2.1")
    assert old.json() == {"console": {"type": kind, "url": url}}
    assert why(call("POST", f"/servers/{server_id}/action", {action: {"type": kind}}, version="2.6"))[0] == 404
    other = {"protocol": "serial", "type": "serial"}
    assert why(call("POST", f"/servers/{server_id}/remote-consoles", {"remote_console": other}))[0] == 400


@pytest.mark.parametrize("asked", [{"protocol": "vnc", "type": "serial"}, {"protocol": "telnet", "type": "novnc"}, {"protocol": "vnc"}, {}])
def test_a_console_of_no_kind_is_refused(call: Call, boot: Boot, asked: dict[str, str]) -> None:
    assert why(call("POST", f"/servers/{boot()}/remote-consoles", {"remote_console": asked}))[0] == 400


def test_mks_came_with_a_version(call: Call, boot: Boot) -> None:
    body = {"remote_console": {"protocol": "mks", "type": "webmks"}}
    status, message = why(call("POST", f"/servers/{boot()}/remote-consoles", body, version="2.7"))
    assert status == 400
    assert "2.8" in message
