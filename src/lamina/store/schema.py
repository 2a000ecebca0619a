"""Bringing a database to this version's schema."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from lamina.model.errors import BadRequest, ConcurrentUpdate
from lamina.store.database import Database

#: the newest migration; a test holds it against the scripts
HEAD = "0020"

_SCRIPTS = Path(__file__).parent / "migrations"


def version(db: Database) -> str | None:
    """The schema's version, or None for an empty database."""
    with db.read() as tx:
        if not sa.inspect(tx).has_table("alembic_version"):
            return None
        found = tx.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return str(found) if found is not None else None


def upgrade(db: Database) -> None:
    """Run the migrations that are missing. Raises `BadRequest` for a database of a newer version, leaving it alone."""
    found = version(db)
    if found == HEAD:
        return
    # imported here: a start on an up-to-date database need not pay for it
    from alembic import command, config, script

    settings = config.Config()
    settings.set_main_option("script_location", str(_SCRIPTS))
    known = {revision.revision for revision in script.ScriptDirectory.from_config(settings).walk_revisions()}
    if found is not None and found not in known:
        raise BadRequest(f"the database has schema {found}, which this version of Lamina does not know: it was written by a newer one")
    try:
        with db.write() as tx:
            settings.attributes["connection"] = tx
            command.upgrade(settings, "head")
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError, ConcurrentUpdate):
        # two that start at once on a database make the same tables: one of them is second
        if version(db) != HEAD:
            raise
