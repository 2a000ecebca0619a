"""The command line's client, its verbs against a stand-in for a server, and what the demo and the benchmark decide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from click.testing import CliRunner

from lamina.cli import bench, demo_checks, demo_plan, fleet, operation
from lamina.cli.client import Client, read_cloud, sentence_of
from lamina.cli.main import VERBS, group
from lamina.cli.state import default_state
from lamina.model.errors import Conflict, Forbidden, LaminaError, NotFound, Unavailable

URL = "http://127.0.0.1:1/identity/v3"
CLOUD = {
    "auth": {
        "auth_url": URL,
        "username": "admin",
        "password": "secret",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    },
    "compute_api_version": "2.96",
    "placement_api_version": "1.39",
}
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"lamina": CLOUD}}))
    return tmp_path


class Server:
    """Answers as a Lamina would: a token with a catalog, and what a test puts under ``(method, path)``."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/identity/v3/auth/tokens":
            catalog = [
                {"type": service, "endpoints": [{"interface": "public", "url": f"http://127.0.0.1:1/{service}"}]}
                for service in ("fleet", "compute", "placement")
            ]
            return httpx.Response(201, json={"token": {"catalog": catalog}}, headers={"X-Subject-Token": "a-token"})
        status, body = self.answers[request.method, request.url.raw_path.decode()]
        return httpx.Response(status, json=body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server, real = Server(), httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=httpx.MockTransport(server), **options))
    return server


def test_the_default_state_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    assert default_state() == Path("/elsewhere/lamina")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state() == Path("/home/someone/.local/state/lamina")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_state() == Path("/home/someone/.local/state/lamina")


# ---------------------------------------------------------------------------------------------------- the client


def test_without_a_server_the_client_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="start it with 'lamina up --fleet demo --state"):
        Client.connect(tmp_path)


def test_a_server_that_has_stopped_is_told_alike(state: Path) -> None:
    with pytest.raises(Unavailable, match="start it with 'lamina up --fleet demo --state"):
        Client.connect(state)


@pytest.mark.parametrize("content", ["[", "clouds: {}", "- 1", "clouds: {lamina: {auth: 3}}"])
def test_a_damaged_file_is_told(state: Path, content: str) -> None:
    (state / "clouds.yaml").write_text(content)
    with pytest.raises(Conflict, match="damaged"):
        read_cloud(state)


def test_calls_carry_the_token_and_the_microversion(state: Path, server: Server) -> None:
    server.answers["GET", "/compute/servers"] = (200, {"servers": []})
    with Client.connect(state) as client:
        assert client.call("compute", "GET", "/servers") == {"servers": []}
    sent = server.requests[-1].headers
    assert sent["X-Auth-Token"] == "a-token"
    assert sent["OpenStack-API-Version"] == "compute 2.96"


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (404, NotFound), (409, Conflict), (503, Unavailable), (400, LaminaError)])
def test_refusals_come_back_as_errors_with_their_sentence(state: Path, server: Server, status: int, error: type[LaminaError]) -> None:
    server.answers["GET", "/fleet/hosts"] = (status, {"error": {"message": "because"}})
    with Client.connect(state) as client, pytest.raises(error, match="because") as told:
        client.call("fleet", "GET", "/hosts")
    assert type(told.value) is error


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"itemNotFound": {"code": 404, "message": "compute"}}, "compute"),
        ({"errors": [{"status": 409, "detail": "placement"}]}, "placement"),
        ({"error": {"code": 401, "message": "identity"}}, "identity"),
        ({"NeutronError": {"type": "x", "message": "network", "detail": ""}}, "network"),
        ({"errors": []}, None),
        ([], None),
    ],
)
def test_every_api_has_its_own_fault_body(body: Any, sentence: str | None) -> None:
    assert sentence_of(json.dumps(body).encode()) == sentence


def test_what_is_no_json_has_no_sentence() -> None:
    assert sentence_of(b"<html>") is None


# ---------------------------------------------------------------------------------------------------- the verbs


def run(verb: click.Command, *words: str, state: Path) -> Any:
    return CliRunner().invoke(verb, [*words, "--state", str(state)])


def test_every_verb_can_be_asked_for_help() -> None:
    for verb in VERBS:
        answer = CliRunner().invoke(group, [verb, "--help"])
        assert answer.exit_code == 0, (verb, answer.output)


GPU: dict[str, Any] = {
    "host": "host1",
    "address": "0000:81:00.0",
    "model": "card",
    "framework": "mdev",
    "partitioning": "same-size",
    "framebuffer_mb": 8192,
    "slots": None,
    "present": True,
    "resource_class": "VGPU",
    "provider_id": "p",
    "total": 8,
    "used": 0,
    "foreign": 0,
    "types": [{"name": "nvidia-12", "framebuffer_mb": 1024, "max_instances": 8, "enabled": True, "room": 8, "room_repacked": 8}],
    "vgpus": [],
}
HOST = {"name": "host 1", "state": "down", "problems": ["a GPU cannot be read"]}


def test_fleet_show_draws_the_gpus_and_names_the_problems(state: Path, server: Server) -> None:
    server.answers["GET", "/fleet/hosts/host%201"] = (200, {"host": HOST})
    server.answers["GET", "/fleet/gpus?host=host%201"] = (200, {"gpus": [GPU]})
    answer = run(fleet.command, "show", "--host", "host 1", state=state)
    assert answer.exit_code == 0, answer.output
    assert "8 more of nvidia-12" in answer.output
    assert "host 1 is down." in answer.output
    assert "host 1: a GPU cannot be read" in answer.output
    plain = run(fleet.command, "show", "--host", "host 1", "--json", state=state)
    assert json.loads(plain.output) == {"hosts": [HOST], "gpus": [GPU]}


def test_fleet_capacity_tells_what_fits_now_and_repacked(state: Path, server: Server) -> None:
    types = [{"name": "nvidia-12", "now": 3, "repacked": 5}]
    closed = {"host": "host2", "usable": False, "types": types, "gpus": []}
    told = {"types": types, "hosts": [{"host": "host1", "usable": True, "types": types, "gpus": []}, closed]}
    server.answers["GET", "/fleet/capacity"] = (200, {"capacity": told})
    answer = run(fleet.command, "capacity", state=state)
    rows = [line.split() for line in answer.output.splitlines()]
    assert rows[1:] == [["fleet", "nvidia-12", "3", "5"], ["host1", "nvidia-12", "3", "5"], ["host2", "(closed)", "nvidia-12", "3", "5"]]
    assert json.loads(run(fleet.command, "capacity", "--json", state=state).output) == told


def test_fleet_gpu_set_chooses_types(state: Path, server: Server) -> None:
    server.answers["PUT", "/fleet/hosts/host1/gpus/0000%3A81%3A00.0"] = (200, {"gpu": GPU})
    answer = run(fleet.command, "gpu", "set", "host1", "0000:81:00.0", "nvidia-12", state=state)
    assert answer.output == "GPU 0000:81:00.0 of host1 makes nvidia-12.\n"
    assert json.loads(server.requests[-1].content) == {"enabled_types": ["nvidia-12"]}
    assert run(fleet.command, "gpu", "set", "host1", "0000:81:00.0", "--as-host-says", "--json", state=state).exit_code == 0
    assert json.loads(server.requests[-1].content) == {"enabled_types": None}
    for wrong in ([], ["nvidia-12", "--as-host-says"]):
        assert run(fleet.command, "gpu", "set", "host1", "0000:81:00.0", *wrong, state=state).exit_code == 2


def test_fleet_reboot_tells_what_is_restored(state: Path, server: Server) -> None:
    repairs = [{"server_id": "s1", "why": "its domain is missing"}]
    server.answers["POST", "/fleet/hosts/host1/reboot"] = (202, {"host": "host1", "repairs": repairs})
    answer = run(fleet.command, "reboot", "host1", state=state)
    assert "server s1 is being restored: its domain is missing" in answer.output


OPERATION: dict[str, Any] = {
    "id": "o1",
    "kind": "confirm",
    "server_id": "s1",
    "state": "stuck",
    "updated_at": 0,
    "events": [{"step": "source_removed"}],
    "error": {"message": "the kernel says no"},
    "abandoned_reason": None,
}


def test_operation_list_shows_where_an_operation_stands(state: Path, server: Server) -> None:
    server.answers["GET", "/fleet/operations"] = (200, {"operations": [OPERATION]})
    answer = run(operation.command, "list", state=state)
    assert answer.exit_code == 0, answer.output
    for word in ("o1", "confirm", "stuck", "source_removed", "1970-01-01 00:00:00", "the kernel says no"):
        assert word in answer.output
    assert json.loads(run(operation.command, "list", "--json", state=state).output) == [OPERATION]


def test_operation_list_of_one_server(state: Path, server: Server) -> None:
    server.answers["GET", "/fleet/operations?server_id=s1"] = (200, {"operations": []})
    assert run(operation.command, "list", "--server", "s1", state=state).output == "There are no operations.\n"


def test_an_operator_may_resume_and_abandon(state: Path, server: Server) -> None:
    server.answers["POST", "/fleet/operations/o1/resume"] = (202, None)
    server.answers["POST", "/fleet/operations/o1/abandon"] = (202, None)
    assert run(operation.command, "resume", "o1", state=state).exit_code == 0
    assert run(operation.command, "abandon", "o1", "--reason", "card replaced", state=state).exit_code == 0
    assert json.loads(server.requests[-1].content) == {"reason": "card replaced"}
    assert run(operation.command, "abandon", "o1", "--reason", "  ", state=state).exit_code == 2
    assert run(operation.command, "abandon", "o1", state=state).exit_code == 2


# ---------------------------------------------------------------------------------------------------- what the demo can show


def gpu(address: str, partitioning: str = "same-size", resource_class: str = "VGPU", **room: int) -> dict[str, Any]:
    sizes = {"small": 1024, "large": 4096}
    types = [{"name": name, "framebuffer_mb": sizes[name], "enabled": True, "room": count} for name, count in room.items()]
    return GPU | {"address": address, "partitioning": partitioning, "resource_class": resource_class, "types": types}


@pytest.mark.parametrize(
    ("gpus", "small", "large"),
    [
        ([gpu("a", small=8), gpu("b", large=2)], "small", "large"),
        ([gpu(a, small=8, large=2) for a in "abc"], "small", "large"),
        # both small servers might bind the only two GPUs to their size
        ([gpu(a, small=8, large=2) for a in "ab"], "small", "small"),
        ([gpu("a", small=8)], "small", "small"),
        ([gpu("a", small=1), gpu("b", large=3)], "large", "large"),
    ],
)
def test_the_demo_chooses_types_that_leave_room_to_resize(gpus: list[dict[str, Any]], small: str, large: str) -> None:
    chosen = demo_plan.plan(gpus)
    assert (chosen.small, chosen.large) == (small, large)


@pytest.mark.parametrize("gpus", [[], [gpu("a", small=2)], [gpu("a", small=8) | {"present": False}]])
def test_the_demo_says_when_there_is_no_room(gpus: list[dict[str, Any]]) -> None:
    with pytest.raises(Conflict, match="room"):
        demo_plan.plan(gpus)


def test_one_type_for_both_is_counted_once() -> None:
    assert demo_plan.DemoPlan("VGPU", "a", "a").held(small=2, large=1) == {"a": 3}
    assert demo_plan.DemoPlan("VGPU", "a", "b").held(small=2, large=1) == {"a": 2, "b": 1}


# ---------------------------------------------------------------------------------------------------- what the demo checks


def vgpu(**what: Any) -> dict[str, Any]:
    return {"uuid": "u1", "type": "a", "host": "host1", "state": "attached", "on_host": True} | what


@pytest.mark.parametrize(
    ("vgpus", "used", "paid", "why"),
    [
        ([vgpu()], 1, 1, None),
        ([], 1, 1, "have no vGPU and should have 1 x a"),
        ([vgpu(), vgpu(uuid="u2")], 2, 2, "have 2 x a and should have 1 x a"),
        ([vgpu(type="b")], 1, 1, "have 1 x b and should have 1 x a"),
        ([vgpu(on_host=False)], 1, 1, "not on its host"),
        ([vgpu(on_host=None)], 1, 1, "not on its host"),
        ([vgpu()], 1, 2, "holds 1 vGPUs and allocations pay for 2"),
    ],
)
def test_the_demo_sees_what_is_not_so(vgpus: list[dict[str, Any]], used: int, paid: int, why: str | None) -> None:
    told = demo_checks.disagreement({"a": 1}, vgpus, [GPU | {"used": used}], {"p": paid})
    assert told is None if why is None else why in (told or "")


@pytest.mark.parametrize("now", [[], [vgpu(uuid="u2")], [vgpu(type="b")], [vgpu(on_host=False)], [vgpu(state="present")]])
def test_the_demo_sees_what_has_not_come_back(now: list[dict[str, Any]]) -> None:
    assert demo_checks.came_back([vgpu()], [vgpu()])
    assert not demo_checks.came_back([vgpu()], now)


# ---------------------------------------------------------------------------------------------------- the benchmark's figures


def test_a_figure_has_median_and_ninetieth_percentile() -> None:
    figure = bench.figure("create to ACTIVE", [float(n) for n in range(1, 101)])
    assert (figure.median, figure.p90, figure.met) == (50.5, 90.0, True)
    assert bench.figure("memory", [200.0]) == bench.Figure("memory", "MiB", 200.0, None, 180, None)
    assert not bench.figure("memory", [200.0]).met


def test_resident_memory_is_read_from_the_kernels_text() -> None:
    assert bench.resident_mib("Name:\tpython\nVmHWM:\t 9 kB\nVmRSS:\t  2048 kB\n") == 2.0
