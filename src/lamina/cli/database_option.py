"""The option that says where the records are kept: SQLite in the state directory, or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lamina.store.database import Database

VARIABLE = "LAMINA_DATABASE"
HELP = (
    f"postgresql://USER@HOST/NAME to keep the records there. A password belongs in ~/.pgpass or, with the whole URL, in ${VARIABLE}.  "
    "[default: SQLite in the state directory]"
)
#: what people write for the one driver that there is
_SCHEMES = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}


def _unseen(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Raises `BadParameter` for a URL with a password that every user of the machine can see."""
    said = context.get_parameter_source(parameter.name or "")
    user, _, host = (value or "").partition("://")[2].partition("/")[0].rpartition("@")[0].partition(":")
    if (host or "password=" in (value or "")) and said is click.core.ParameterSource.COMMANDLINE:
        raise click.BadParameter(f"the password of {user or 'the user'} would be seen in the list of processes: put the URL in ${VARIABLE}")
    return value


database_option = click.option("--database", envvar=VARIABLE, metavar="URL", callback=_unseen, help=HELP)


def open_database(url: str | None, state: Path) -> Database:
    """Raises `BadRequest` for a URL that is none, or that names what Lamina cannot keep its records in."""
    import sqlalchemy as sa

    from lamina.model.errors import BadRequest
    from lamina.store.database import Database

    if url is None:
        return Database.at(state)
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise BadRequest("--database: that is no URL like postgresql://lamina@db.example.org/lamina") from error
    driver = _SCHEMES.get(parsed.drivername)
    if driver is None or not parsed.database:
        raise BadRequest(f"--database: {parsed.render_as_string()} is not like postgresql://lamina@db.example.org/lamina")
    try:
        return Database(parsed.set(drivername=driver).render_as_string(hide_password=False))
    except ImportError as error:
        raise BadRequest("--database: PostgreSQL is spoken by what pip install 'lamina[postgres]' brings") from error
