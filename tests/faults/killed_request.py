"""Run as a child: send one changing request, and die of SIGKILL at the point that is named.

``before-commit``: the change has been asked of the database, and is not committed; ``after-commit``: it is, and nothing has been answered;
``answered``: the answer has gone out, and how it ended may still wait to be written.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import sqlalchemy as sa
from starlette.testclient import TestClient

from lamina.api import image
from lamina.api.application import application
from lamina.hosts.directory import Hosts
from lamina.model.clock import SystemClock
from lamina.model.settings import Settings
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.store import audit_ledger, identity, tokens
from lamina.store.bootstrap import bootstrap
from lamina.store.database import Database
from tests.empty_database import empty_database


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(state: str, point: str) -> None:
    folder = Path(state)
    (folder / "lamina.db").write_bytes(empty_database())
    plane = ControlPlane.assemble(Settings(state=folder), Database.at(folder), SystemClock(), Hosts(), KINDS)
    now = plane.clock.now()
    with plane.db.write() as tx:
        bootstrap(tx, "admin's secret", "demo's secret", now)
        user, _ = identity.password_of(tx, name="admin")
        assert user is not None
        token = tokens.add_token(tx, user.id, user.default_project_id, ["password"], now, now + 3600)
    audit_ledger.GATHER = 3600.0
    plane.ledger.start()
    if point != "answered":
        before = point == "before-commit"
        sa.event.listen(plane.db.engine, "commit", die if before else lambda connection: _commit_and_die(connection))
    with TestClient(application(plane, (image.ROOM,))) as client:
        client.post("/image/v2/images", json={"name": "made"}, headers={"X-Auth-Token": token})
        die()


def _commit_and_die(connection: sa.Connection) -> None:
    connection.connection.commit()
    die()


if __name__ == "__main__":
    main(*sys.argv[1:])
