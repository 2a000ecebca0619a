"""Names of projects and users, which are unique in their domain.

The column ``name`` is unique over all domains, and stays so for as long as processes may run that know one domain only. Of
what is in the default domain it holds the name; of everything else it holds what follows from domain and name and is nobody's
name, for it begins with a control character, and the name is in ``name_in_domain``.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from lamina.model import ids
from lamina.model.errors import AlreadyExists
from lamina.store.domains import DOMAIN_ID


def key(domain_id: str, name: str) -> str:
    """What the column ``name`` holds."""
    if domain_id == DOMAIN_ID:
        return name
    return "\x1f" + uuid.uuid5(ids.LAMINA_NAMESPACE, f"{domain_id}/{name}").hex


def columns(domain_id: str, name: str) -> dict[str, str | None]:
    return {"name": key(domain_id, name), "name_in_domain": None if domain_id == DOMAIN_ID else name}


def shown(table: sa.FromClause) -> sa.ColumnElement[Any]:
    """The name as it was given."""
    return sa.func.coalesce(table.c.name_in_domain, table.c.name)


@contextlib.contextmanager
def taken(what: str, name: str | None) -> Iterator[None]:
    """The database keeps names unique; this says so in words. Raises `AlreadyExists`."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(f"There is a {what} named {name} already.") from error
