"""The APIs in process: the identity, image and network rooms before a control plane on virtual time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import argon2
import pytest
from starlette.testclient import TestClient

from lamina.api import identity, image, network
from lamina.api.application import application
from lamina.model import ids
from lamina.model.errors import LaminaError
from lamina.operations.control_plane import ControlPlane
from lamina.store import identity as store
from lamina.store import passwords, role_assignments, roles, tokens
from lamina.store.bootstrap import bootstrap

ROOMS = (identity.ROOM, identity.VERSIONS, image.ROOM, image.VERSIONS, network.ROOM, network.VERSIONS)
PASSWORDS = {"admin": "admin's secret", "demo": "demo's secret"}


@dataclasses.dataclass
class VirtualClock:
    time: float = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """The least cost that argon2 allows: a test logs in often, and nothing about the cost is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture
def cloud(plane: ControlPlane) -> ControlPlane:
    """The control plane after its first start, on a clock that moves only by ``cloud.clock.sleep``."""
    cloud = dataclasses.replace(plane, clock=VirtualClock())
    with cloud.db.write() as tx:
        bootstrap(tx, PASSWORDS["admin"], PASSWORDS["demo"], cloud.clock.now())
    return cloud


@pytest.fixture
def client(cloud: ControlPlane) -> Iterator[TestClient]:
    with TestClient(application(cloud, ROOMS)) as client:
        yield client


@pytest.fixture
def project_ids(cloud: ControlPlane) -> dict[str, str]:
    """Name -> id."""
    with cloud.db.read() as tx:
        return {project.name: project.id for project in store.list_projects(tx)}


@pytest.fixture
def user_ids(cloud: ControlPlane) -> dict[str, str]:
    """Name -> id."""
    with cloud.db.read() as tx:
        return {user.name: user.id for user in store.list_users(tx)}


@pytest.fixture
def role_ids(cloud: ControlPlane) -> dict[str, str]:
    """Name -> id."""
    with cloud.db.read() as tx:
        return {role.name: role.id for role in roles.list_roles(tx)}


@pytest.fixture
def headers(cloud: ControlPlane) -> Callable[..., dict[str, str]]:
    """``headers("demo")``: the header with a token of that user for the project of the same name, or for `target`."""

    def made(user: str, target: str | None = "") -> dict[str, str]:
        now = cloud.clock.now()
        with cloud.db.write() as tx:
            found, _ = store.password_of(tx, name=user)
            if found is None:
                raise LaminaError(f"the test knows no user {user}")
            where = found.default_project_id if target == "" else target
            token = tokens.add_token(tx, found.id, where, ["password"], now, now + cloud.settings.token_life)
        return {"X-Auth-Token": token}

    return made


@pytest.fixture
def stranger(cloud: ControlPlane, role_ids: dict[str, str]) -> Callable[..., str]:
    """``stranger("eve")``: a new user with a new project of the same name, or in the one named, and one role there (member); answers
    the project's id.
    """

    def made(name: str, role: str = "member", project: str | None = None) -> str:
        if project is not None:
            return joined(name, role, project)
        project_id = ids.new_identity_id()
        with cloud.db.write() as tx:
            store.add_project(tx, store.Project(project_id, name, "", True))
        return joined(name, role, name)

    def joined(name: str, role: str, to: str) -> str:
        with cloud.db.read() as tx:
            (project,) = store.list_projects(tx, name=to)
        user = store.User(ids.new_identity_id(), name, "", None, True, project.id)
        with cloud.db.write() as tx:
            store.add_user(tx, user, None)
            role_assignments.assign(tx, user.id, role_ids[role], project.id)
        return project.id

    return made


@pytest.fixture
def log_in() -> Callable[..., dict[str, Any]]:
    """The body of POST /auth/tokens for a user of bootstrap, with a scope or without one."""

    def body(user: str, scope: Any = None, password: str | None = None) -> dict[str, Any]:
        proof = {"name": user, "domain": {"id": "default"}, "password": PASSWORDS.get(user, "") if password is None else password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": proof}}}
        return {"auth": auth if scope is None else auth | {"scope": scope}}

    return body
