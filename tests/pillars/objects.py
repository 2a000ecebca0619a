"""What stands in the world of the policy matrix: the same things for two projects and for every user, and ids that nothing has.

Names, tags and keys of the projects' things carry ``secret-of-home`` or ``secret-of-away``, so that a leak shows in any answer.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import sqlite3
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lamina.hosts import certificates
from lamina.hosts.join_tokens import JoinToken
from lamina.model import ids
from lamina.model.flavors import Flavor
from lamina.model.limits import parse_resource
from lamina.model.server_groups import GroupPolicy, ServerGroup
from lamina.operations import create, enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.saga.runner import Caller
from lamina.store import (
    aggregates,
    application_credentials,
    domains,
    flavors,
    hosts,
    identity,
    images,
    keypairs,
    limits,
    passwords,
    ports,
    role_assignments,
    servers,
    tokens,
)
from lamina.store import groups as user_groups
from lamina.store import roles as store_roles
from lamina.store import server_groups as groups
from lamina.store.bootstrap import bootstrap
from lamina.store.keypairs import Keypair
from tests.faults.desk import Desk
from tests.faults.world import ONE, World
from tests.pillars.identities import USERS, Identity

SIDES = ("home", "away")
#: everybody's
PASSWORD = "the old secret"
CONTENT = b"\0" * 512
#: kinds of things that are a project's, and a user's
OF_PROJECTS = frozenset(
    {"server", "moving", "locked", "port", "vgpu", "request", "migration", "group", "image", "queued image", "flavor", "project", "limit"}
    | {"host's server", "host's image"}
)
OF_USERS = frozenset({"user", "credential", "keypair"})


def missing(kind: str) -> str:
    """What a thing of this kind could be called, and nothing is."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"missing {kind}")
    forms = {
        "request": f"req-{made}",
        "migration": "987654",
        "aggregate": "987654",
        "keypair": "a-key-that-is-not",
        "host": "host-that-is-not",
        "address": "0000:fe:00.0",
        "name of a class": "CUSTOM_THAT_IS_NOT",
        "name of a trait": "CUSTOM_THAT_IS_NOT",
        **dict.fromkeys(("user", "project", "credential", "role", "service", "endpoint", "limit", "registered limit"), made.hex),
    }
    return forms.get(kind, str(made))


def public_key(name: str) -> str:
    """An OpenSSH public key of a user, whose comment says whose."""
    fields = (b"ssh-ed25519", hashlib.sha256(name.encode()).digest())
    content = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    return f"ssh-ed25519 {base64.b64encode(content).decode()} {name}"


class Cloud:
    """A control plane with everything in it, put back to how it was made whenever it is asked."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.world = World.on(desk, "mdev")
        self.plane = _dialled(self.world.plane)
        self.things: dict[str, dict[str, str]] = {side: {} for side in SIDES}
        self.users: dict[str, dict[str, str]] = {}
        self.common: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        #: host -> its certificate (DER), and the request by which it asks for another
        self.certificates: dict[str, bytes] = {}
        self.requests: dict[str, str] = {}
        self._files: dict[Path, bytes] = {}
        self._people()
        for side in SIDES:
            self._project(side)
        self._agents()
        self._commons()
        self._kept: sqlite3.Connection = desk.kept()

    def put_back(self) -> None:
        """Undo what a call has changed. What counts writes goes on counting, so that nothing remembered is too old."""
        with self._desk.raw() as connection:
            self._kept.backup(connection)
        for path, content in self._files.items():
            if not path.exists():
                path.write_bytes(content)

    def is_changed(self) -> bool:
        """Whether the database has anything else in it than when it was made, but for the trail of what was refused."""
        with self._desk.raw() as connection:
            return any(now != then for now, then in itertools.zip_longest(_told(connection), _told(self._kept)))

    def own(self, identity: Identity) -> dict[str, str]:
        """Kind -> the caller's own thing, or what is nobody's."""
        return self.common | self.things[identity.side] | self.users[identity.user or ("mel" if identity.side == "home" else "eve")]

    def foreign(self, identity: Identity) -> dict[str, str]:
        """Kind -> another's."""
        other, user = ("away", "eve") if identity.side == "home" else ("home", "mel")
        return self.things[other] | self.users[user]

    def marks(self, identity: Identity) -> frozenset[str]:
        """What no answer to this caller may have in it."""
        other = "away" if identity.side == "home" else "home"
        people = [things for name, things in self.users.items() if USERS.get(name, ("", ""))[1] == other]
        ids_of_others = {value for things in (self.things[other], *people) for value in things.values() if len(value) > 8}
        return frozenset(ids_of_others | {f"secret-of-{other}"})

    # ------------------------------------------------------------------------------------------------ making it

    def _people(self) -> None:
        now, hashed = self.plane.clock.now(), passwords.hashed(PASSWORD)
        with self.plane.db.write() as tx:
            bootstrap(tx, PASSWORD, PASSWORD, now)
            roles = {role.name: role.id for role in store_roles.list_roles(tx)}
            for side in SIDES:
                project = identity.Project(ids.new_identity_id(), f"secret-of-{side}", "", True)
                identity.add_project(tx, project)
                self.things[side]["project"] = project.id
            admin, _ = identity.password_of(tx, name="admin")
            assert admin is not None
            assert admin.default_project_id is not None
            people = {"admin": admin}
            for name, (role, side) in USERS.items():
                made = identity.User(ids.new_identity_id(), f"{name}-secret-of-{side}", "", None, True, self.things[side]["project"])
                identity.add_user(tx, made, hashed)
                role_assignments.assign(tx, made.id, roles[role], self.things[side]["project"])
                people[name] = made
            for name, person in people.items():
                self._person(tx, name, person, roles)

    def _person(self, tx: Any, name: str, person: identity.User, roles: Mapping[str, str]) -> None:
        now = self.plane.clock.now()
        role, side = USERS.get(name, ("admin", "home"))
        project_id = person.default_project_id or ""
        self.tokens[name] = tokens.add_token(tx, person.id, project_id, ["password"], now, now + 10**9)
        key = Keypair(person.id, f"key-of-{name}-secret-of-{side}", "ssh", "ab:cd", public_key(f"{name}-secret-of-{side}"), now)
        keypairs.add(tx, key)
        credential = application_credentials.Credential(
            ids.new_identity_id(), person.id, project_id, f"secret-of-{side}", None, False, None, now, {roles[role]: role}
        )
        application_credentials.add(tx, credential, "no hash")
        self.users[name] = {"user": person.id, "keypair": key.name, "credential": credential.id, "own project": project_id}
        if name == "mel":
            self.tokens["mel, expired"] = tokens.add_token(tx, person.id, project_id, ["password"], now - 100, now - 50)

    def _project(self, side: str) -> None:
        things, user = self.things[side], self.users["mel" if side == "home" else "eve"]["user"]
        now, project_id, mark = self.plane.clock.now(), things["project"], f"secret-of-{side}"
        things |= {"flavor": ids.new_uuid(), "group": ids.new_uuid(), "request": f"req-{ids.new_uuid()}"}
        things |= {"image": self._image(project_id, mark), "queued image": self._image(project_id, mark, content=None)}
        group = ServerGroup(things["group"], mark, project_id, user, GroupPolicy.SOFT_ANTI_AFFINITY, None)
        with self.plane.db.write() as tx:
            private = Flavor(id=things["flavor"], name=f"private {mark}", vcpus=1, memory_mb=64, disk_gb=1, public=False)
            flavors.create(tx, private)
            flavors.add_access(tx, private.id, project_id)
            flavors.set_extra_specs(tx, private.id, {"a": mark})
            groups.add(tx, group)
            things["limit"] = ids.new_identity_id()
            limits.add(tx, limits.Limit(things["limit"], project_id, None, parse_resource("servers"), 1000, mark))
        caller = Caller(user_id=user, project_id=project_id, request_id=things["request"])
        wanted = {"metadata": {"a": mark}, "tags": ("a", mark), "networks": ("public",), "group_id": group.id}
        for kind in ("server", "moving", "locked"):
            new = create.NewServer(f"{kind} {mark}", ONE, things["image"], **wanted)  # type: ignore[arg-type]
            things[kind] = create.request(self.plane, caller, new)[0].id
        self.world.settle()
        with self.plane.db.write() as tx:
            server = servers.get(tx, things["server"])
            assert server.vm_state == "active", server.fault
            things["port"] = ports.of_server(tx, server.id)[0].id
            things["vgpu"] = hosts.vgpus_of_server(tx, server.id)[0].uuid
            servers.update(tx, things["locked"], now, locked=True, locked_by="admin")
            servers.insert_migration(
                tx,
                id=ids.new_uuid(),
                server_id=things["moving"],
                type="live-migration",
                status="running",
                source_host="host1",
                dest_host="host2",
                old_flavor=server.flavor,
                new_flavor=server.flavor,
                old_vm_state="active",
                project_id=project_id,
                user_id=user,
                created_at=now,
                updated_at=now,
            )
            things["migration"] = str(servers.migrations_page(tx)[0].seq)

    def _image(self, project_id: str, name: str, content: bytes | None = CONTENT) -> str:
        image_id, now = ids.new_uuid(), self.plane.clock.now()
        filled = {"status": "active", "size": 512, "virtual_size": 512, "checksum": "ab" * 16, "sha512": "ab" * 64} if content else {}
        told: dict[str, Any] = {"name": name, "tags": (name, "a"), "disk_format": "raw", "container_format": "bare"} | filled
        with self.plane.db.write() as tx:
            images.add(tx, images.Image(image_id, project_id, now, now, **told))
        if content is not None:
            self._file(self.plane.settings.images / image_id, content)
        return image_id

    def _file(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self._files[path] = content

    def _agents(self) -> None:
        """Two hosts that dial in, each with a server of its own, whose disk is on its way through the depot."""
        for host, side in (("agent-a", "home"), ("agent-b", "away")):
            things = self.things[side]
            _, text = enrolment.new_token(self.plane, None, 3600)
            asked = certificates.request(certificates.new_key(), host)
            made = enrolment.enrol(self.plane, JoinToken.parse(text).secret, host, asked)
            self.certificates[host] = x509.load_pem_x509_certificate(made).public_bytes(serialization.Encoding.DER)
            self.requests[host] = asked.decode()
            things |= {"host's server": ids.new_uuid(), "host's image": self._image(things["project"], f"secret-of-{side}")}
            with self.plane.db.write() as tx:
                server = servers.get(tx, things["server"])
                changed = {"id": things["host's server"], "host": host, "image_id": things["host's image"], "reservation_id": f"r-{host}"}
                servers.insert(tx, [dataclasses.replace(server, **changed)])  # type: ignore[arg-type]
            self._file(self.plane.settings.depot / things["host's server"], b"disk of " + side.encode())

    def _commons(self) -> None:
        now = self.plane.clock.now()
        with self.plane.db.write() as tx:
            host = next(h for h in hosts.all_hosts(tx) if h.name == "host1")
            aggregate = aggregates.add(tx, "racks", None, now)
            spare = domains.Domain(ids.new_identity_id(), "spare", "", False)
            domains.add_domain(tx, spare)
            custom = store_roles.Role(ids.new_identity_id(), "custom", "")
            store_roles.add_role(tx, custom)
            people = user_groups.Group(ids.new_identity_id(), "people", "", domains.DOMAIN_ID)
            user_groups.add_group(tx, people)
            operation = tx.exec_driver_sql("SELECT id FROM sagas ORDER BY seq").scalars().first()
            role = next(r for r in store_roles.list_roles(tx) if r.name == "reader")
            registered = limits.RegisteredLimit(ids.new_identity_id(), parse_resource("servers"), 1000)
            limits.register(tx, registered)
        token, text = enrolment.new_token(self.plane, None, 3600)
        self.common |= {
            "host": host.name,
            "hypervisor": host.id,
            "service uuid": host.service_id,
            "provider": host.provider_id,
            "aggregate": str(aggregate.id),
            "operation": str(operation),
            "role": role.id,
            "custom role": custom.id,
            "spare domain": spare.id,
            "user group": people.id,
            "registered limit": registered.id,
            "join token": token.id,
            "join secret": JoinToken.parse(text).secret,
            "csr": certificates.request(certificates.new_key(), "newcomer").decode(),
            "csr of agent-a": self.requests["agent-a"],
            "csr of agent-b": self.requests["agent-b"],
            "network": ids.network_id("public"),
            "address": "0000:81:00.0",
            "catalog service": identity.derived_id("service", "compute"),
            "catalog endpoint": identity.derived_id("endpoint", "compute", "public"),
            "nothing": missing("nothing"),
            "consumer": self.things["home"]["server"],
        }


def _dialled(plane: ControlPlane) -> ControlPlane:
    return dataclasses.replace(plane, settings=dataclasses.replace(plane.settings, agents_url="https://control:8775"))


_TRAIL = ('INSERT INTO "audit_events"', "INSERT INTO \"sqlite_sequence\" VALUES('audit_events'")


def _told(connection: sqlite3.Connection) -> Iterator[str]:
    return (line for line in connection.iterdump() if not line.startswith(_TRAIL))
