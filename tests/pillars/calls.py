"""What is sent in the policy matrix: for each call the things that its path and its body speak of, and the body.

A value ``$kind`` in a body is the id of the caller's own thing of that kind. A call with a body that is not told here is
sent ``{}``; where that is refused for its form before anything is looked up, the matrix fails and asks for a body.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from lamina.api.compute import server_actions
from lamina.api.routing import Room, Route
from lamina.store.identity import derived_id
from tests.pillars import expectations
from tests.pillars.identities import Right
from tests.pillars.objects import OF_PROJECTS, OF_USERS, PASSWORD, public_key

_PLACEHOLDER = re.compile(r"\{([^}]+)\}")

#: room -> placeholder of its paths -> kind of thing, empty where they are called alike; ``=word`` is the word itself
KINDS: Mapping[str, Mapping[str, str]] = {
    "identity": {"user_id": "user", "project_id": "project", "credential_id": "credential", "role_id": "role", "domain_id": "=default"}
    | {"group_id": "user group", "limit_id": "limit"},
    "compute": dict.fromkeys(("server", "port", "vgpu", "request", "migration", "group", "flavor", "project"), "")
    | {"hypervisor": "", "aggregate": "", "class": "=default"}
    | {"name": "keypair", "service": "service uuid", "pattern": "=host", "key": "=a", "tag": "=a", "network": "=public"},
    "placement": {"uuid": "provider", "consumer_uuid": "consumer", "resource_class": "=VCPU", "name": "=CUSTOM_ABSENT"},
    "image": {"image_id": "image", "tag": "=a"},
    "network": {"id": "nothing", "project_id": "project"},
    "fleet": {"host": "host", "address": "address", "token": "join token", "operation": "operation"},
    "door": {"api": "=compute"},
    "agents": {"image": "host's image", "server": "host's server"},
}
#: where a placeholder means something else in some calls: (room, part of the line, placeholder) -> kind
SPECIAL: Mapping[tuple[str, str, str], str] = {
    ("compute", "/servers/{server}/migrations", "server"): "moving",
    ("image", "PUT /images/{image_id}/file", "image_id"): "queued image",
    ("network", "/ports/", "id"): "port",
    ("network", "/networks/", "id"): "network",
    ("identity", "/services/", "id"): "catalog service",
    ("identity", "/endpoints/", "id"): "catalog endpoint",
    ("identity", "/regions/", "id"): "=RegionOne",
    ("identity", "PATCH /roles/", "role_id"): "custom role",
    ("identity", "DELETE /roles/", "role_id"): "custom role",
    ("identity", "PATCH /domains/", "domain_id"): "spare domain",
    ("identity", "DELETE /domains/", "domain_id"): "spare domain",
    ("identity", "/registered_limits/", "limit_id"): "registered limit",
    ("compute", "PUT /os-services/{service} until", "service"): "=enable",
}
_JSON_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_OCTETS = {"Content-Type": "application/octet-stream"}
#: room and line -> headers beside the caller's own
HEADERS: Mapping[str, Mapping[str, str]] = {
    "image PATCH /images/{image_id}": _JSON_PATCH,
    "image PUT /images/{image_id}/file": _OCTETS,
    "agents PUT /disks/{server}/file": _OCTETS,
    "identity GET /auth/tokens": {"X-Subject-Token": "$own token"},
    "identity DELETE /auth/tokens": {"X-Subject-Token": "$own token"},
}
#: room and line -> what stands behind the path
QUERIES: Mapping[str, str] = {
    "placement GET /usages": "?project_id=p",
    "placement GET /allocation_candidates": "?resources=VCPU:1",
}
_LOGIN = {"methods": ["password"], "password": {"user": {"id": "$user", "password": PASSWORD}}}
_LIMITED = {"service_id": derived_id("service", "compute"), "resource_name": "class:VGPU"}
_METADATA: Mapping[str, Any] = {"metadata": {"a": "b"}}
_HOLDING = {"allocations": {"$provider": {"resources": {"VCPU": 1}}}, "project_id": "$project", "user_id": "$user"}
#: room and line -> what is sent; bytes as they are
BODIES: Mapping[str, Any] = {
    "identity POST /auth/tokens": {"auth": {"identity": _LOGIN, "scope": {"project": {"id": "$own project"}}}},
    "identity POST /projects": {"project": {"name": "new"}},
    "identity PATCH /projects/{project_id}": {"project": {"description": "new"}},
    "identity POST /users": {"user": {"name": "new"}},
    "identity POST /groups": {"group": {"name": "new"}},
    "identity PATCH /groups/{group_id}": {"group": {"description": "new"}},
    "identity POST /domains": {"domain": {"name": "new"}},
    "identity PATCH /domains/{domain_id}": {"domain": {"description": "new"}},
    "identity POST /roles": {"role": {"name": "new"}},
    "identity PATCH /roles/{role_id}": {"role": {"description": "new"}},
    "identity PATCH /users/{user_id}": {"user": {"description": "new"}},
    "identity POST /users/{user_id}/password": {"user": {"password": "new", "original_password": PASSWORD}},
    "identity POST /users/{user_id}/application_credentials": {"application_credential": {"name": "new"}},
    "identity POST /registered_limits": {"registered_limits": [_LIMITED | {"default_limit": 1}]},
    "identity PATCH /registered_limits/{limit_id}": {"registered_limit": {"default_limit": 1}},
    "identity POST /limits": {"limits": [_LIMITED | {"resource_limit": 1, "project_id": "$project", "user_id": "$user"}]},
    "identity PATCH /limits/{limit_id}": {"limit": {"resource_limit": 1}},
    "compute PUT /os-quota-sets/{project}": {"quota_set": {"cores": 99}},
    "compute PUT /os-quota-class-sets/{class}": {"quota_class_set": {"cores": 99}},
    "compute POST /flavors": {"flavor": {"name": "new", "ram": 64, "vcpus": 1, "disk": 1}},
    "compute PUT /flavors/{flavor}": {"flavor": {"description": "new"}},
    "compute POST /flavors/{flavor}/os-extra_specs": {"extra_specs": {"b": "c"}},
    "compute PUT /flavors/{flavor}/os-extra_specs/{key}": {"a": "c"},
    "compute POST /flavors/{flavor}/action": {"addTenantAccess": {"tenant": "someone"}},
    "compute POST /servers": {
        "server": {"name": "new", "flavorRef": "$flavor", "imageRef": "$image", "networks": "none", "key_name": "$keypair"},
        "os:scheduler_hints": {"group": "$group"},
    },
    "compute PUT /servers/{server}": {"server": {"name": "new"}},
    "compute POST /servers/{server}/action": {"os-stop": None},
    "compute POST /servers/{server}/metadata": _METADATA,
    "compute PUT /servers/{server}/metadata": _METADATA,
    "compute PUT /servers/{server}/metadata/{key}": {"meta": {"a": "b"}},
    "compute PUT /servers/{server}/tags": {"tags": ["new"]},
    "compute POST /servers/{server}/lamina-vgpus": {"vgpu": {"type": "nvidia-11"}},
    "compute POST /servers/{server}/remote-consoles": {"remote_console": {"protocol": "vnc", "type": "novnc"}},
    "compute POST /servers/{server}/migrations/{migration}/action": {"force_complete": None},
    "compute PUT /os-services/{service}": {"status": "disabled"},
    "compute PUT /os-services/{service} until 2.52": {"host": "$host", "binary": "nova-compute"},
    "compute POST /os-aggregates": {"aggregate": {"name": "new"}},
    "compute PUT /os-aggregates/{aggregate}": {"aggregate": {"name": "new"}},
    "compute POST /os-aggregates/{aggregate}/action": {"add_host": {"host": "$host"}},
    "compute POST /os-server-groups": {"server_group": {"name": "new", "policy": "affinity"}},
    "compute POST /os-keypairs": {"keypair": {"name": "new", "public_key": public_key("new")}},
    "placement POST /resource_classes": {"name": "CUSTOM_NEW"},
    "placement PUT /resource_classes/{name} until 1.6": {"name": "CUSTOM_NEW"},
    "placement PUT /resource_classes/{name}": None,
    "placement PUT /traits/{name}": None,
    "placement POST /resource_providers": {"name": "new"},
    "placement PUT /resource_providers/{uuid}": {"name": "new"},
    "placement POST /resource_providers/{uuid}/inventories": {"resource_class": "PCPU", "total": 1, "resource_provider_generation": 0},
    "placement PUT /resource_providers/{uuid}/inventories": {"inventories": {}, "resource_provider_generation": 0},
    "placement PUT /resource_providers/{uuid}/inventories/{resource_class}": {"total": 99, "resource_provider_generation": 0},
    "placement PUT /resource_providers/{uuid}/aggregates": {"aggregates": [], "resource_provider_generation": 0},
    "placement PUT /resource_providers/{uuid}/traits": {"traits": [], "resource_provider_generation": 0},
    "placement POST /allocations": {"$consumer": _HOLDING | {"consumer_generation": 1, "consumer_type": "INSTANCE"}},
    "placement PUT /allocations/{consumer_uuid}": _HOLDING | {"consumer_generation": 1, "consumer_type": "INSTANCE"},
    "placement POST /reshaper": {"inventories": {}, "allocations": {}},
    "image POST /images": {"name": "new", "owner": "$project"},
    "image PATCH /images/{image_id}": [{"op": "replace", "path": "/name", "value": "new"}],
    "image PUT /images/{image_id}/file": b"\0" * 512,
    "fleet POST /tokens": {},
    "fleet PUT /hosts/{host}/gpus/{address}": {"enabled_types": ["nvidia-11"]},
    "fleet POST /repairs": {"mend": False},
    "fleet POST /defragmentation/plan": {"lower": True},
    "fleet POST /operations/{operation}/abandon": {"reason": "a test"},
    "agents POST /enrol": {"token": "$join secret", "host": "newcomer", "request": "$csr"},
    "agents POST /renew": {"request": "$own csr"},
    "agents POST /poll": {"session": "$fresh"},
    "agents PUT /disks/{server}/file": b"disk",
}
#: action on a server -> what it takes, and the microversion that has it where that is not the newest
VALUES: Mapping[str, Any] = {
    "resize": {"flavorRef": "$flavor"},
    "reboot": {"type": "SOFT"},
    "rebuild": {"imageRef": "$image", "key_name": "$keypair"},
    "rescue": {"rescue_image_ref": "$image"},
    "createImage": {"name": "new"},
    "createBackup": {"name": "new", "backup_type": "daily", "rotation": 1},
    "os-migrateLive": {"host": None, "block_migration": "auto"},
    "evacuate": {},
    "os-resetState": {"state": "active"},
    "os-getConsoleOutput": {},
    "os-getVNCConsole": {"type": "novnc"},
    "os-getSPICEConsole": {"type": "spice-html5"},
    "os-getRDPConsole": {"type": "rdp-html5"},
    "os-getSerialConsole": {"type": "serial"},
}
#: what stands within an action and asks for more, by the words that the expectations have for it
WITHIN: Mapping[str, Mapping[str, Any]] = {
    "migrate to a host": {"migrate": {"host": "host2"}},
    "os-migrateLive to a host": {"os-migrateLive": {"host": "host2", "block_migration": "auto"}},
    "unshelve to a host": {"unshelve": {"host": "host2"}},
    "unlock what an administrator locked": {"unlock": None},
}
_OF_OLD = re.compile(r"os-get.*Console")


@dataclasses.dataclass(frozen=True)
class Call:
    """One row of the matrix: a call, or one action on a server."""

    room: str
    method: str
    path: str
    right: Right
    version: str | None
    #: placeholder -> kind
    kinds: Mapping[str, str]
    body: Any = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    query: str = ""
    #: of the action
    name: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.name}".strip()

    def address(self, things: Mapping[str, str]) -> str:
        """The path, with a thing for each kind."""
        return _PLACEHOLDER.sub(lambda found: self.value(found[1], things), self.path)

    def value(self, placeholder: str, things: Mapping[str, str]) -> str:
        kind = self.kinds[placeholder]
        return kind[1:] if kind.startswith("=") else things[kind]

    def owned(self) -> tuple[str, ...]:
        """The kinds of things in the path that are somebody's."""
        return tuple(kind for kind in self.kinds.values() if kind in OF_PROJECTS | OF_USERS)

    def referred(self) -> tuple[str, ...]:
        """The kinds of things in the body that are somebody's."""
        found = re.findall(r"\$([a-z' ]+)", repr(self.body))
        return tuple(kind for kind in dict.fromkeys(found) if kind in OF_PROJECTS | OF_USERS)


def calls(room: Room) -> list[Call]:
    """Every row of a room, from its routes. Raises AssertionError that says what to add for a route without expectation."""
    expected = expectations.rights(room.name)
    found: list[Call] = []
    for route in room.routes:
        line = f"{route.method} {route.path}".strip()
        assert line in expected, (
            f"{room.name} has a call of which nothing says who may make it: {line!r}. Add this line to its table in "
            "tests/pillars/expectations.py under the least right that it asks for; kinds of new placeholders go to KINDS in "
            "tests/pillars/calls.py, and the body that it takes to BODIES."
        )
        made = _call(room, route, line, expected[line])
        found += _actions(made) if route.handler is server_actions.act else [made]
    return found


def _call(room: Room, route: Route, line: str, right: Right) -> Call:
    if route.until is not None:
        line += f" until {route.until}"
    kinds = {name: _kind(room.name, line, name) for name in _PLACEHOLDER.findall(route.path)}
    told = route.until or (room.microversions.most if room.microversions else None)
    service = room.microversions.service_type if room.microversions else ""
    key, path = f"{room.name} {line}", room.prefix + route.path
    version = f"{service} {told}" if told is not None else None
    body = BODIES.get(key, {} if route.method in ("POST", "PUT", "PATCH") else None)
    return Call(room.prefix, route.method, path, right, version, kinds, body, HEADERS.get(key, {}), QUERIES.get(key, ""))


def _kind(room: str, line: str, placeholder: str) -> str:
    for (of_room, part, name), kind in SPECIAL.items():
        if (of_room, name) == (room, placeholder) and part in line + "/":
            return kind
    known = KINDS.get(room, {})
    assert placeholder in known, f"{room} {line}: of what kind is {{{placeholder}}}? Say it in KINDS in tests/pillars/calls.py."
    return known[placeholder] or placeholder


def _actions(act: Call) -> list[Call]:
    """A row for each action, and for what stands within some."""
    rules = {rule for route in server_actions.ROUTES for rule in route.asks}
    known = {action.rule for action in server_actions.ACTIONS.values()} | expectations.WITHIN.keys()
    assert server_actions.ACTIONS.keys() == expectations.ACTIONS.keys(), "say in ACTIONS of tests/pillars/expectations.py whose it is"
    assert rules == known, f"rules within actions of which WITHIN of tests/pillars/expectations.py says nothing: {rules - known}"
    made = [_action(act, name, {name: VALUES.get(name)}, right) for name, right in expectations.ACTIONS.items()]
    within = [_action(act, name, WITHIN[name], Right.ADMIN) for name in expectations.WITHIN.values()]
    return made + [dataclasses.replace(one, kinds={"server": "locked"}) if "locked" in one.name else one for one in within]


def _action(act: Call, name: str, body: Mapping[str, Any], right: Right) -> Call:
    version = "compute 2.5" if _OF_OLD.fullmatch(name) and name != "os-getConsoleOutput" else act.version
    return dataclasses.replace(act, body=dict(body), right=right, name=name, version=version)


def filled(value: Any, give: Callable[[str], str]) -> Any:
    """A body with a thing in the place of every ``$kind``."""
    if isinstance(value, str):
        return give(value[1:]) if value.startswith("$") else value
    if isinstance(value, Mapping):
        return {filled(key, give): filled(inner, give) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, give) for inner in value]
    return value
