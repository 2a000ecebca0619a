"""Whatever is said in an address or a body, the answer is never that Lamina met an unexpected error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.api.compute.conftest import Call

from lamina.api import compute
from lamina.api.compute.answers import MICROVERSIONS
from lamina.api.routing import Route

Boot = Callable[..., str]

PARAMETERS = (
    *("limit", "marker", "sort_key", "sort_dir", "status", "name", "flavor", "image", "host", "node", "power_state", "task_state"),
    *("all_tenants", "project_id", "tenant_id", "deleted", "changes-since", "changes-before", "tags", "not-tags-any", "locked"),
    *("user_id", "binary", "hypervisor_hostname_pattern", "with_servers", "instance_uuid", "migration_type", "source_compute"),
    *("is_public", "minRam", "minDisk", "uuid", "config_drive", "description", "hostname"),
)
#: every refusal there is, what is documented and not done among them
EXPECTED = frozenset({*range(200, 500), 501})
MOMENTS = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
VALUES = (*MOMENTS, "", "x", "-1", "1e9", "9" * 40, "ä\U0001f600", "%", "'; --", "a" * 900, "²")
JSON: tuple[Any, ...] = (-1, 10**30, "\U0001f600", [None], {}, {"": None})


def names_of(route: Route, server_id: str, said: str) -> str:
    return route.path.replace("{server}", server_id).replace("{flavor}", "small").format_map(_Said(said))


class _Said(dict[str, str]):
    """Every other name in a path is this."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self._said = said

    def __missing__(self, _name: str) -> str:
        return self._said


@pytest.mark.parametrize("version", ["2.1", "2.52", "2.96"])
@pytest.mark.weakness(20)
def test_nonsense_in_an_address(call: Call, boot: Boot, version: str) -> None:
    server_id = boot()
    for route in {r.path: r for r in compute.ROOM.routes if r.method == "GET"}.values():
        for value in VALUES:
            answer = call("GET", names_of(route, server_id, "x"), params=dict.fromkeys(PARAMETERS, value), user="admin", version=version)
            assert answer.status_code in EXPECTED, f"{route.path} {value[:40]}: {answer.text}"
        for said in ("-1", "9" * 40, "ä", "%25", "a" * 3000):
            answer = call("GET", names_of(route, server_id, said), user="admin", version=version)
            assert answer.status_code in EXPECTED, f"{route.path} {said[:40]}: {answer.text}"


@pytest.mark.parametrize("path", ["/servers/detail", "/flavors/detail", "/os-migrations", "/os-keypairs", "/os-hypervisors/detail"])
def test_nonsense_in_one_parameter(call: Call, path: str) -> None:
    for name in PARAMETERS:
        for value in VALUES:
            answer = call("GET", path, params={name: value}, user="admin")
            assert answer.status_code in EXPECTED, f"{path}?{name}={value[:40]}: {answer.text}"


@pytest.mark.weakness(20)
def test_nonsense_in_a_body(call: Call, boot: Boot) -> None:
    server_id = boot()
    wrappers = ["server", "flavor", "keypair", "metadata", "meta", "tags", "extra_specs", "resize", "reboot", "lock", "migrate", "a"]
    wrappers += ["remote_console", "os-getConsoleOutput", "os-getVNCConsole"]
    wrappers += ["aggregate", "add_host", "remove_host", "set_metadata", "server_group"]
    for route in compute.ROOM.routes:
        if route.method not in ("POST", "PUT"):
            continue
        path, version = names_of(route, server_id, "a"), str(route.until or MICROVERSIONS.most)
        for value in JSON:
            for body in (value, *({wrapper: value} for wrapper in wrappers)):
                answer = call(route.method, path, body, user="admin", version=version)
                assert answer.status_code in EXPECTED, f"{route.method} {path} {body!r}: {answer.text}"
        answer = call(route.method, path, content=b'{"server": "\\ud800"}', user="admin", version=version)
        assert answer.status_code in EXPECTED, f"{route.method} {path}: {answer.text}"
