"""Resource classes and traits by name. The standard ones come with the libraries and have no rows; custom ones do."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from lamina.model import resources
from lamina.model.errors import AlreadyExists, BadRequest, InUse, NotFound
from lamina.store import tree_changes
from lamina.store.tables.placement import allocations, inventories, provider_traits, providers, resource_classes, traits
from lamina.store.tree_changes import What


@functools.cache
def _among(table: sa.Table) -> sa.Select[str]:
    """The names of a table among ``names``. Made once: to make it costs more than to ask it."""
    return sa.select(table.c.name).where(table.c.name.in_(sa.bindparam("names", expanding=True)))


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """One name space: which names there are, and where they are held on to."""

    word: str
    #: what is told of a name that is held on to
    in_use: str
    table: sa.Table
    standard: Callable[[], frozenset[str]]
    holders: tuple[sa.Column[str], ...]

    def all(self, tx: sa.Connection) -> list[str]:
        """Standard names in order, then custom ones in order."""
        return [*sorted(self.standard()), *tx.scalars(sa.select(self.table.c.name).order_by(self.table.c.name))]

    def held(self, tx: sa.Connection) -> frozenset[str]:
        """The names that somebody uses."""
        return frozenset(name for column in self.holders for name in tx.scalars(sa.select(column).distinct()))

    def unknown(self, tx: sa.Connection, names: Iterable[str]) -> list[str]:
        """Those of `names` that nobody created, in order; one query at most."""
        wanted = set(names) - self.standard()
        if not wanted:
            return []
        return sorted(wanted - set(tx.scalars(_among(self.table), {"names": list(wanted)})))

    def exists(self, tx: sa.Connection, name: str) -> bool:
        return not self.unknown(tx, [name])

    def create(self, tx: sa.Connection, name: str) -> None:
        """Make a custom name, already parsed. Raises `AlreadyExists`."""
        if not self.ensure(tx, name):
            raise AlreadyExists(f"Conflicting {self.word} already exists: {name}.")

    def ensure(self, tx: sa.Connection, name: str) -> bool:
        """Make a custom name exist; whether it is new."""
        if self.exists(tx, name):
            return False
        try:
            with tx.begin_nested():
                tx.execute(sa.insert(self.table).values(name=name))
        except sa.exc.IntegrityError:
            # somebody else made it just now
            return False
        return True

    def rename(self, tx: sa.Connection, name: str, wanted: str) -> None:
        """Call a custom name otherwise, wherever it is used. Raises `NotFound`, `BadRequest`, `AlreadyExists`."""
        self._must_be_custom(tx, name, "update")
        if not self.ensure(tx, wanted):
            raise AlreadyExists(f"{self.word.capitalize()} already exists: {wanted}.")
        for column in self.holders:
            having = sa.select(column.table.c.provider_id).where(column == name)
            tree_changes.note(tx, tx.scalars(sa.select(providers.c.root_id).where(providers.c.id.in_(having)).distinct()), What.SHAPE)
            tx.execute(sa.update(column.table).where(column == name).values({column.name: wanted}))
        tx.execute(sa.delete(self.table).where(self.table.c.name == name))

    def delete(self, tx: sa.Connection, name: str) -> None:
        """Remove a custom name. Raises `NotFound`, `BadRequest` for a standard one, `InUse`."""
        self._must_be_custom(tx, name, "delete")
        if any(tx.scalar(sa.select(column).where(column == name).limit(1)) is not None for column in self.holders):
            raise InUse(self.in_use.format(name))
        tx.execute(sa.delete(self.table).where(self.table.c.name == name))

    def _must_be_custom(self, tx: sa.Connection, name: str, verb: str) -> None:
        if name in self.standard():
            raise BadRequest(f"Cannot {verb} standard {self.word} {name}.")
        if not self.exists(tx, name):
            raise NotFound(f"No such {self.word}: {name}.")


RESOURCE_CLASSES = Names(
    "resource class",
    "Error in delete resource class {}: Class is in use in inventory.",
    resource_classes,
    lambda: frozenset(resources.STANDARD_CLASSES),
    (inventories.c.resource_class, allocations.c.resource_class),
)
TRAITS = Names(
    "trait",
    "The trait {} is in use by a resource provider.",
    traits,
    resources.standard_traits,
    (provider_traits.c.trait,),
)
