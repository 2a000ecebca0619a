"""Lists of servers: pages in every order, filters together with pages, and who sees whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.faults.world import World
from tests.unit.api.compute.conftest import MISSING, Call, why

from lamina.model.flavors import Flavor
from lamina.model.hosts import PowerState
from lamina.model.servers import Server, TaskState, VmState
from lamina.store import servers
from lamina.store.identity import list_projects

Boot = Callable[..., str]
FLAVOR = Flavor(id="f", name="f", vcpus=1, memory_mb=1, disk_gb=1)


@pytest.fixture
def many(world: World) -> list[Server]:
    """25 servers of the demo project, oldest first; every third rebooting, every fifth stopped and without host and key."""
    made = []
    with world.plane.db.write() as tx:
        project_id = next(p.id for p in list_projects(tx) if p.name == "demo")
        for i in range(25):
            stopped = i % 5 == 0
            made.append(
                Server(
                    id=f"66666666-6666-4666-8666-{i:012}",
                    generation=0,
                    name=f"n{i % 4}",
                    hostname="h",
                    project_id=project_id,
                    user_id="u",
                    reservation_id=f"r-{i % 2}",
                    vm_state=VmState.STOPPED if stopped else VmState.ACTIVE,
                    task_state=TaskState.REBOOTING if i % 3 == 0 and not stopped else None,
                    power_state=PowerState.RUNNING,
                    host=None if stopped else f"host{i % 2}",
                    zone="nova",
                    flavor=FLAVOR,
                    image_id=None,
                    created_at=1e9 + i // 2,
                    updated_at=1e9 + i,
                    key_name=None if stopped else f"k{i % 2}",
                    tags=tuple(t for t, n in (("two", 2), ("three", 3)) if i % n == 0),
                )
            )
            servers.insert(tx, [made[-1]])
    return made


def pages(call: Call, path: str, **asked: Any) -> list[list[str]]:
    """Follow the links to the last page; the ids of each."""
    found: list[list[str]] = []
    while True:
        body = call("GET", path, **asked).json()
        found.append([s["id"] for s in body["servers"]])
        if "servers_links" not in body:
            return found
        (link,) = body["servers_links"]
        assert link["rel"] == "next"
        parts = urlsplit(link["href"])
        path = parts.path.removeprefix("/compute/v2.1") + "?" + parts.query
        assert len(found) < 30, "the pages do not end"


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", ["created_at", "display_name", "uuid", "host", "key_name", "launched_at", "task_state", "locked"])
def test_pages_have_every_server_once_in_order(call: Call, many: list[Server], key: str, direction: str) -> None:
    query = f"sort_key={key}&sort_dir={direction}"
    (whole,) = pages(call, f"/servers/detail?{query}")
    assert sorted(whole) == sorted(s.id for s in many)
    for limit in (1, 7, 25, 40):
        cut = pages(call, f"/servers?{query}&limit={limit}")
        assert [server_id for page in cut for server_id in page] == whole
        assert all(len(page) == limit for page in cut[:-1])
    attribute = {"display_name": "name", "uuid": "id"}.get(key, key)
    by_id = {s.id: getattr(s, attribute) for s in many}
    values = [by_id[server_id] for server_id in whole]
    ordered = sorted(values, key=lambda v: (v is not None, v if v is not None else 0), reverse=direction == "desc")
    assert values == ordered


def test_the_newest_come_first(call: Call, many: list[Server]) -> None:
    (found,) = pages(call, "/servers")
    assert found == [s.id for s in reversed(many)]


def test_two_keys_sort_one_after_the_other(call: Call, many: list[Server]) -> None:
    cut = pages(call, "/servers?sort_key=name&sort_dir=asc&sort_key=host&sort_dir=desc&limit=4")
    by_id = {s.id: s for s in many}
    found = [by_id[server_id] for page in cut for server_id in page]
    wanted = sorted(many, key=lambda s: s.host or "", reverse=True)
    assert [(s.name, s.host) for s in found] == [(s.name, s.host) for s in sorted(wanted, key=lambda s: s.name)]


FILTERS: list[tuple[str, Callable[[Server], bool]]] = [
    ("status=ACTIVE", lambda s: s.status == "ACTIVE"),
    ("status=active", lambda s: s.status == "ACTIVE"),
    ("status=REBOOT", lambda s: s.status == "REBOOT"),
    ("status=SHUTOFF&status=REBOOT", lambda s: s.status in ("SHUTOFF", "REBOOT")),
    ("name=n1", lambda s: s.name == "n1"),
    ("name=n", lambda s: True),
    ("name=%25", lambda s: False),
    ("name=N1", lambda s: s.name == "n1"),
    ("reservation_id=r-1", lambda s: s.reservation_id == "r-1"),
    ("tags=two", lambda s: "two" in s.tags),
    ("tags=two,three", lambda s: len(s.tags) == 2),
    ("tags-any=two,three", lambda s: len(s.tags) > 0),
    ("not-tags=two,three", lambda s: len(s.tags) < 2),
    ("not-tags-any=two,three", lambda s: not s.tags),
    ("tags=two&not-tags=three&status=ACTIVE", lambda s: s.tags == ("two",) and s.status == "ACTIVE"),
    ("tags=tw", lambda s: False),
    ("flavor=f", lambda s: True),
    ("flavor=g", lambda s: False),
    ("key_name=k1", lambda s: s.key_name == "k1"),
    ("ip=10.", lambda s: False),
    ("locked=true", lambda s: False),
    ("changes-since=2001-09-09T01:47:00Z", lambda s: s.updated_at >= 1e9 + 20),
    ("changes-since=2001-09-09T01:46:40Z&changes-before=2001-09-09T01:46:45Z", lambda s: s.updated_at <= 1e9 + 5),
]


@pytest.mark.parametrize(("query", "kept"), FILTERS, ids=[query for query, _ in FILTERS])
def test_filters_and_pages_together(call: Call, many: list[Server], query: str, kept: Callable[[Server], bool]) -> None:
    wanted = [s.id for s in reversed(many) if kept(s)]
    for limit in (2, 5, 100):
        cut = pages(call, f"/servers/detail?{query}&limit={limit}")
        assert [server_id for page in cut for server_id in page] == wanted
        assert all(len(page) == limit for page in cut[:-1])


@pytest.mark.parametrize(
    "query",
    [
        *("limit=-1", "limit=x", f"marker={MISSING}", "marker=x", "sort_key=colour", "sort_dir=up", "changes-since=yesterday"),
        *("locked=maybe", "status=FLYING", "colour=red", "all_tenants=perhaps"),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(call: Call, many: list[Server], query: str) -> None:
    assert why(call("GET", f"/servers?{query}"))[0] == 400


def test_an_unknown_status_had_no_servers_once(call: Call, many: list[Server]) -> None:
    assert call("GET", "/servers?status=FLYING", version="2.37").json() == {"servers": []}


def test_a_marker_is_ones_own(call: Call, many: list[Server], stranger: Callable[..., str]) -> None:
    stranger("eve")
    assert why(call("GET", f"/servers?marker={many[0].id}", user="eve"))[0] == 400


def test_all_tenants_are_for_administrators(call: Call, many: list[Server], boot: Boot, stranger: Callable[..., str]) -> None:
    eves = stranger("eve")
    server_id = boot("eve")
    assert pages(call, "/servers", user="eve") == [[server_id]]
    assert why(call("GET", "/servers?all_tenants=1"))[0] == 403
    assert pages(call, "/servers", user="admin") == [[]]
    assert len(pages(call, "/servers?all_tenants=1", user="admin")[0]) == 26
    assert len(pages(call, "/servers?all_tenants", user="admin")[0]) == 26
    assert pages(call, "/servers?all_tenants=0", user="admin") == [[]]
    assert pages(call, f"/servers?all_tenants=1&project_id={eves}", user="admin") == [[server_id]]
    assert len(pages(call, "/servers?all_tenants=1&host=host1", user="admin")[0]) >= 10
    assert len(pages(call, f"/servers?project_id={eves}")[0]) == 25


def test_deleted_servers_are_for_administrators(call: Call, boot: Boot, world: World) -> None:
    kept, gone = boot(), boot()
    assert call("DELETE", f"/servers/{gone}").status_code == 204
    world.settle()
    assert pages(call, "/servers") == pages(call, "/servers?deleted=1") == [[kept]]
    assert pages(call, "/servers?all_tenants=1&deleted=1", user="admin") == [[gone]]
    assert pages(call, "/servers?changes-since=2000-01-01T00:00:00Z") == [[gone, kept]]


@pytest.mark.parametrize(
    ("pattern", "names"), [("^n1", {"n1"}), ("1$", {"n1"}), ("^n1$", {"n1"}), ("^1", set()), ("^.*2$", {"n2"}), ("_", set()), ("n.", set())]
)
def test_a_name_may_be_anchored(call: Call, many: list[Server], pattern: str, names: set[str]) -> None:
    found = call("GET", "/servers", params={"name": pattern}).json()["servers"]
    assert {s["name"] for s in found} == names


def test_an_administrator_may_ask_for_hosts_and_states(call: Call, many: list[Server], boot: Boot) -> None:
    def found(query: str, user: str = "admin") -> int:
        return len(call("GET", f"/servers?all_tenants=1&{query}" if user == "admin" else f"/servers?{query}", user=user).json()["servers"])

    assert found("host=host1") == found("node=host1") == sum(s.host == "host1" for s in many)
    assert found("vm_state=stopped") == 5
    assert found("task_state=rebooting") == sum(s.task_state is not None for s in many)
    assert found("power_state=1") == 25
    assert found("power_state=x") == 0
    assert found("host=host1", user="demo") == 25  # not a member's to ask, and no secret is told


def test_a_page_of_none_is_empty(call: Call, many: list[Server]) -> None:
    assert call("GET", "/servers?limit=0").json() == {"servers": []}


def test_deleted_is_a_status_that_administrators_may_ask_for(call: Call, boot: Boot, world: World) -> None:
    gone = boot()
    call("DELETE", f"/servers/{gone}")
    world.settle()
    assert pages(call, "/servers?status=DELETED&all_tenants=1", user="admin") == [[gone]]
    assert pages(call, "/servers?status=DELETED") == [[]]
