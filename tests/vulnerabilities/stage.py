"""What a check of the catalogue is given: worlds, and a whole cloud before one, made anew for each run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import argon2
import httpx
from starlette.testclient import TestClient

from lamina.api.application import application
from lamina.api.rooms import ROOMS
from lamina.api.routing import Room, Route
from lamina.model import ids
from lamina.model.flavors import Flavor
from lamina.operations.kinds import KINDS as ALL_KINDS
from lamina.store import flavors, identity, images, passwords, role_assignments, roles, tokens
from lamina.store.bootstrap import bootstrap
from tests.faults import world as worlds
from tests.faults.desk import Desk
from tests.faults.world import World

#: the operations as they are; a broken variant may put others in their place
KINDS = ALL_KINDS

IMAGE = "44444444-4444-4444-8444-444444444441"
MISSING = "55555555-5555-4555-8555-555555555551"
PASSWORDS = {"admin": "canary-admin-7f3a", "demo": "canary-demo-91bc"}

#: one host with one GPU that makes one vGPU
ONE_VGPU = """
hosts:
  - name: host1
    vcpus: 32
    memory_mb: 65536
    disk_gb: 500
    networks: [public]
    gpus:
      - {address: "0000:81:00.0", CARD, enabled_types: [SMALL], max_instances: 1}
"""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run's. `folder` is empty."""

    desk: Desk
    folder: Path

    def world(self, framework: str = "mdev", fleet: str | None = None) -> World:
        with mock.patch.object(worlds, "FLEET", fleet or worlds.FLEET):
            world = World.on(self.desk, framework)
        world.begin(KINDS)
        return world

    @contextmanager
    def cloud(self) -> Iterator[Cloud]:
        """Every API before a world of two hosts, as after a first start, with an image and two flavors."""
        world = self.world()
        now = world.clock.now()
        cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        with mock.patch.object(passwords, "_HASHER", cheap):
            with world.plane.db.write() as tx:
                bootstrap(tx, PASSWORDS["admin"], PASSWORDS["demo"], now)
                content = {"disk_format": "raw", "size": 1, "sha512": "ab" * 64}
                images.add(tx, images.Image(IMAGE, "nobody", now, now, visibility="public", status="active", **content))  # type: ignore[arg-type]
                for name, specs in (("small", {}), ("vgpu", {"resources:VGPU": "1"})):
                    flavors.create(tx, Flavor(id=name, name=name, vcpus=1, memory_mb=64, disk_gb=1, extra_specs=specs))
            with TestClient(application(world.plane, ROOMS)) as client:
                yield Cloud(world, client)


@dataclasses.dataclass(frozen=True)
class Cloud:
    """The APIs and who may ask them."""

    world: World
    client: TestClient

    def join(self, name: str, role: str, project: str | None = None) -> str:
        """A new user with one role (made, if there is none) in a new project of the same name, or in the one named; the project's id."""
        with self.world.plane.db.write() as tx:
            if project is None:
                identity.add_project(tx, identity.Project(ids.new_identity_id(), name, "", True))
            (where,) = identity.list_projects(tx, name=project or name)
            if not roles.list_roles(tx, name=role):
                roles.add_role(tx, roles.Role(ids.new_identity_id(), role, ""))
            (known,) = roles.list_roles(tx, name=role)
            user = identity.User(ids.new_identity_id(), name, "", None, True, where.id)
            identity.add_user(tx, user, None)
            role_assignments.assign(tx, user.id, known.id, where.id)
        return where.id

    @functools.lru_cache(maxsize=100)  # noqa: B019 - a cloud lives as long as one run
    def token(self, user: str) -> str:
        now = self.world.clock.now()
        with self.world.plane.db.write() as tx:
            found, _ = identity.password_of(tx, name=user)
            assert found is not None
            return tokens.add_token(tx, found.id, found.default_project_id, ["password"], now, now + 1e6)

    def ask(self, method: str, path: str, body: Any = None, *, user: str | None = "demo", version: str = "", **more: Any) -> httpx.Response:
        """``ask("GET", "/compute/v2.1/servers")``; `version` is a microversion's header."""
        sent = dict(more.pop("headers", {}))
        if user is not None:
            sent["X-Auth-Token"] = self.token(user)
        if version or path.startswith("/compute"):
            sent["OpenStack-API-Version"] = version or "compute 2.96"
        if body is not None:
            more["json"] = body
        answer: httpx.Response = self.client.request(method, path, headers=sent, **more)
        return answer

    def boot(self, *, user: str = "demo", **more: Any) -> str:
        """The id of a server whose creation has come to its end."""
        wanted = {"name": "s", "flavorRef": "vgpu", "imageRef": IMAGE, "networks": "none"} | more
        answer = self.ask("POST", "/compute/v2.1/servers", {"server": wanted}, user=user)
        assert answer.status_code == 202, answer.text
        self.world.settle()
        server_id: str = answer.json()["server"]["id"]
        return server_id


def version_of(room: Room, route: Route) -> str:
    """A microversion in which the route answers, as a header has it; nothing where the room has none."""
    if room.microversions is None:
        return ""
    return f"{room.microversions.service_type} {route.until or room.microversions.most}"
