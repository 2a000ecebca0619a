"""Counting what stands in the database, on each kind of it."""

from __future__ import annotations

import dataclasses

import pytest

from lamina.model.repairs import Repair, What
from lamina.store import hosts, queue, repairs, sagas
from lamina.store.database import Database


@pytest.mark.databases
def test_repairs_are_counted_by_what_and_outcome(database: Database) -> None:
    disk = Repair(What.ORPHAN_DISK, "one", "disk", None, "nobody passes it on")
    restore = Repair(What.RESTORE, "one", "server", "server", "its domain is gone", "an operation that is gone")
    with database.write() as tx:
        for repair in (disk, dataclasses.replace(disk, object="other"), restore):
            repairs.note(tx, repair, 1.0)
    with database.read() as tx:
        assert repairs.count(tx) == {("orphan-disk", "done"): 2, ("restore", "failed"): 1}
        assert (sagas.count_unfinished(tx), hosts.count_vgpus(tx), queue.count(tx)) == ({}, {}, 0)
