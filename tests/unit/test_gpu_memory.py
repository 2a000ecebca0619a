"""A card whose driver does not tell of its types now is still the card it was."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.model.gpus import Framework, Gpu, Partitioning, VgpuType
from lamina.model.hosts import GpuReport, HostReport, VgpuReport
from lamina.model.ids import PciAddress
from lamina.operations import discovery
from lamina.store import hosts, schema
from lamina.store.database import Database

ADDRESS = PciAddress.parse("0000:03:00.0")
VF = PciAddress.parse("0000:03:00.1")
SMALL, LARGE = VgpuType("11", "LAB-0Q", 512, 4), VgpuType("12", "LAB-1Q", 1024, 2)
NAMES = (SMALL.name, LARGE.name)
IDLE = Gpu(ADDRESS, "PCI 1b36:0010", Framework.VFIO, Partitioning.SAME_SIZE, 2048, (SMALL, LARGE), NAMES, virtual_functions=6)
FULL = dataclasses.replace(IDLE, types=(), enabled_types=(), framebuffer_mb=0)


def test_what_is_not_told_now_is_remembered() -> None:
    assert FULL.remembering(IDLE) == IDLE
    assert IDLE.remembering(FULL) == IDLE
    half = dataclasses.replace(IDLE, types=(LARGE,), enabled_types=(LARGE.name,))
    assert set(half.remembering(IDLE).types) == set(IDLE.types)


def test_what_the_operator_has_disabled_stays_disabled() -> None:
    disabled = dataclasses.replace(IDLE, enabled_types=())
    assert disabled.remembering(IDLE).enabled_types == ()
    assert FULL.remembering(disabled).enabled_types == ()


@pytest.mark.parametrize("change", [{"model": "another"}, {"framework": Framework.MDEV}], ids=str)
def test_another_card_has_no_memory(change: dict[str, object]) -> None:
    assert dataclasses.replace(FULL, **change).remembering(IDLE).types == ()  # type: ignore[arg-type]


def report(gpu: Gpu, *foreign: str) -> HostReport:
    there = tuple(VgpuReport(f"foreign-{n}", ADDRESS, VF, t, ours=False) for n, t in enumerate(foreign))
    return HostReport("h", "boot", 8, 8192, 100, "QEMU", 1, (GpuReport(gpu, {}, there),), ())


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database.at(tmp_path)) as one:
        schema.upgrade(one)
        yield one


def test_a_card_that_others_have_filled_is_taken_in(db: Database) -> None:
    """Its driver lists nothing any more, and what stands on it is of no type that it tells of."""
    for number, said in enumerate((report(IDLE), report(FULL, "LAB-1Q", "LAB-1Q"), report(IDLE), report(FULL), report(IDLE))):
        with db.write() as tx:
            discovery.record(tx, said, hosts.find_host(tx, "h"), float(number))
            (record,) = hosts.gpus_of(tx, "h")
            layout = hosts.layout(tx, record)
        if said.gpus[0].vgpus:
            assert set(record.gpu.types) == set(IDLE.types)
            assert layout.foreign == (LARGE, LARGE)
        else:
            assert record.gpu == said.gpus[0].gpu
            assert layout.all == ()
