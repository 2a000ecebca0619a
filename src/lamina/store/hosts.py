"""Queries over hosts, their GPUs and vGPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.model import decoding
from lamina.model.errors import NotFound
from lamina.model.gpus import Gpu, Layout, Spot, VgpuState
from lamina.model.hosts import VgpuReport
from lamina.model.ids import PciAddress
from lamina.store import tree_changes
from lamina.store.reading import Reader
from lamina.store.tables.hosts import gpus, hosts, sightings, vgpus
from lamina.store.tree_changes import What


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A host as recorded. Times are seconds since the epoch."""

    name: str
    id: str
    service_id: str
    provider_id: str
    enabled: bool
    disabled_reason: str | None
    forced_down: bool
    zone: str
    boot_id: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str
    hypervisor_version: int
    problems: list[str]
    last_seen_at: float
    created_at: float
    #: names of the networks that a domain on it can be on
    networks: list[str]
    #: of the report that was last taken in, and the control plane that did
    report_sequence: int = 0
    heard_by: str | None = None
    #: whether it has admitted calls of which this database knows nothing: a newer one was lost, or it was another's host
    behind: bool = False
    #: of libvirt itself, in the form of ``hypervisor_version``; 0 where there is none
    libvirt_version: int = 0

    def is_up(self, now: float, service_down: float) -> bool:
        return not self.forced_down and now - self.last_seen_at <= service_down


@dataclasses.dataclass(frozen=True, slots=True)
class GpuRecord:
    """A GPU as recorded. ``provider_id`` is None where no type may be made on it."""

    host: str
    address: PciAddress
    provider_id: str | None
    gpu: Gpu
    foreign: tuple[VgpuReport, ...]
    present: bool
    #: names of the types that an operator has chosen in place of what the host's settings say; ``gpu`` has them enabled
    chosen_types: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Vgpu:
    """A vGPU as recorded, whether it stands already or is only planned."""

    uuid: str
    host: str
    address: PciAddress
    provider_id: str
    type: str
    parent: PciAddress | None
    #: the slot it starts at, on a card that has slots
    placement: int | None
    server_id: str
    consumer_id: str
    operation_id: str
    state: VgpuState
    created_at: float


#: most ids written into one query; above that everything is read
MOST_NAMED = 500
#: what schedulers ask of a host beside its provider; whether it is up is asked anew each time
_SCHEDULED_BY = frozenset({"enabled", "forced_down", "zone", "networks"})


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


HOSTS = Reader(hosts, Host, key=("name",))


def listed(tx: sa.Connection, query: sa.Select[Any]) -> list[Host]:
    """The hosts that a selection of whole rows of the hosts table gives; damaged ones are passed over."""
    return list(HOSTS.readable(tx.execute(query)))


def all_hosts(tx: sa.Connection) -> list[Host]:
    """All but damaged ones."""
    return listed(tx, sa.select(hosts).order_by(hosts.c.name))


def get_host(tx: sa.Connection, name: str) -> Host:
    """Raises `NotFound`, `CorruptRecord`."""
    found = find_host(tx, name)
    if found is None:
        raise NotFound(f"Host {name[:255]} could not be found.")
    return found


_BY_NAME = sa.select(hosts).where(hosts.c.name == sa.bindparam("host"))
_BY_NAME_HELD = _BY_NAME.with_for_update()
_GPUS = sa.select(gpus).order_by(gpus.c.host, gpus.c.address)
_GPUS_OF = _GPUS.where(gpus.c.host == sa.bindparam("host"))


def find_host(tx: sa.Connection, name: str, *, lock: bool = False) -> Host | None:
    """With `lock` nobody else changes it, or finds it so, to the end of the transaction. Raises `CorruptRecord`."""
    row = tx.execute(_BY_NAME_HELD if lock else _BY_NAME, {"host": name}).one_or_none()
    return HOSTS.one(row) if row else None


def host_of_id(tx: sa.Connection, host_id: str) -> Host | None:
    """By the id of the hypervisor, or by that of its service. Raises `CorruptRecord`."""
    row = tx.execute(sa.select(hosts).where((hosts.c.id == host_id) | (hosts.c.service_id == host_id))).one_or_none()
    return HOSTS.one(row) if row is not None else None


def insert_host(tx: sa.Connection, host: Host) -> None:
    tx.execute(sa.insert(hosts).values(**dataclasses.asdict(host)))
    tree_changes.note(tx, [host.provider_id], What.SHAPE)


def update_host(tx: sa.Connection, name: str, **columns: Any) -> None:
    """Raises `NotFound`."""
    provider_id = tx.scalar(sa.update(hosts).where(hosts.c.name == name).values(**columns).returning(hosts.c.provider_id))
    if provider_id is None:
        raise NotFound(f"Host {name[:255]} could not be found.")
    if columns.keys() & _SCHEDULED_BY:
        tree_changes.note(tx, [provider_id], What.SHAPE)


def delete_host(tx: sa.Connection, name: str) -> None:
    """With its GPUs and what was seen there; their providers stay."""
    tx.execute(sa.delete(sightings).where(sightings.c.host == name))
    gone = sa.delete(hosts).where(hosts.c.name == name).returning(hosts.c.provider_id)
    tree_changes.note(tx, tx.scalars(gone), What.SHAPE)


# ---------------------------------------------------------------------------------------------------- GPUs


def _gpu(row: dict[str, Any]) -> GpuRecord:
    return GpuRecord(
        host=row["host"],
        address=PciAddress.parse(row["address"]),
        provider_id=row["provider_id"],
        gpu=decoding.from_plain(row["facts"], Gpu),
        foreign=decoding.from_plain(row["foreign_vgpus"], tuple[VgpuReport, ...]),
        present=row["present"],
        chosen_types=decoding.from_plain(row["chosen_types"], tuple[str, ...]) if row["chosen_types"] is not None else None,
    )


GPUS = Reader(gpus, GpuRecord, key=("host", "address"), decode=_gpu)


def gpus_listed(tx: sa.Connection, query: sa.Select[Any]) -> list[GpuRecord]:
    """The GPUs that a selection of whole rows of the gpus table gives; damaged ones are passed over."""
    return list(GPUS.readable(tx.execute(query)))


def gpus_of(tx: sa.Connection, host: str | None = None) -> list[GpuRecord]:
    """The GPUs of one host, or of all, in the order of their addresses; damaged ones are passed over."""
    return list(GPUS.readable(tx.execute(_GPUS) if host is None else tx.execute(_GPUS_OF, {"host": host})))


def gpu_at(tx: sa.Connection, host: str, address: PciAddress) -> GpuRecord:
    """Raises `NotFound`, `CorruptRecord`."""
    row = tx.execute(_GPUS_OF.where(gpus.c.address == str(address)), {"host": host}).one_or_none()
    if row is None:
        raise NotFound(f"Host {host} has no GPU {address}.")
    return GPUS.one(row)


def gpu_providers(tx: sa.Connection, host: str) -> list[str]:
    """The providers of a host's GPUs, those of damaged records too."""
    return list(tx.scalars(sa.select(gpus.c.provider_id).where(gpus.c.host == host, gpus.c.provider_id.is_not(None))))


def gpu_keys(tx: sa.Connection, host: str) -> set[str]:
    """Addresses and providers of a host's GPUs, those of damaged records too."""
    return {key for row in tx.execute(sa.select(gpus.c.address, gpus.c.provider_id).where(gpus.c.host == host)) for key in row}


def gpus_of_providers(tx: sa.Connection, provider_ids: Iterable[str]) -> dict[str, GpuRecord]:
    """Those of the providers that are GPUs. Raises `CorruptRecord`."""
    query = sa.select(gpus).where(gpus.c.provider_id.in_(list(provider_ids)))
    return {row.provider_id: GPUS.one(row) for row in tx.execute(query)}


def readable_gpus_of_providers(tx: sa.Connection, provider_ids: Iterable[str]) -> list[GpuRecord]:
    """Those of the providers that are GPUs, but damaged ones."""
    return gpus_listed(tx, sa.select(gpus).where(gpus.c.provider_id.in_(list(provider_ids))))


def put_gpu(tx: sa.Connection, record: GpuRecord) -> None:
    """Insert or replace what is recorded of one GPU."""
    key = (gpus.c.host == record.host) & (gpus.c.address == str(record.address))
    columns = {
        "provider_id": record.provider_id,
        "facts": _plain(record.gpu),
        "foreign_vgpus": _plain(record.foreign),
        "present": record.present,
        "chosen_types": list(record.chosen_types) if record.chosen_types is not None else None,
    }
    if tx.execute(sa.update(gpus).where(key).values(**columns)).rowcount == 0:
        tx.execute(sa.insert(gpus).values(host=record.host, address=str(record.address), **columns))
    tree_changes.note(tx, tx.scalars(sa.select(hosts.c.provider_id).where(hosts.c.name == record.host)), What.SHAPE)


# ---------------------------------------------------------------------------------------------------- vGPUs


def _vgpu(row: dict[str, Any]) -> Vgpu:
    typed = {
        "address": PciAddress.parse(row["address"]),
        "parent": PciAddress.parse(row["parent"]) if row["parent"] is not None else None,
        "state": VgpuState(row["state"]),
    }
    return Vgpu(**row | typed)


VGPUS = Reader(vgpus, Vgpu, key=("uuid",), decode=_vgpu)


def insert_vgpus(tx: sa.Connection, records: Sequence[Vgpu]) -> None:
    if records:
        tx.execute(
            sa.insert(vgpus),
            [
                {f.name: getattr(r, f.name) for f in dataclasses.fields(r)}
                | {"address": str(r.address), "parent": str(r.parent) if r.parent else None, "state": str(r.state)}
                for r in records
            ],
        )


#: in this order a server's are of the same types on every host
_VGPUS = sa.select(vgpus).order_by(vgpus.c.host, vgpus.c.type, vgpus.c.address, vgpus.c.created_at, vgpus.c.uuid)
_VGPUS_BY_STATE = sa.select(vgpus.c.state, sa.func.count().label("number")).group_by(vgpus.c.state)
_VGPUS_ON = _VGPUS.where(vgpus.c.host == sa.bindparam("host"))
_VGPUS_OF = _VGPUS.where(vgpus.c.server_id == sa.bindparam("server_id"))
_VGPUS_PAID_BY = _VGPUS_OF.where(vgpus.c.consumer_id == sa.bindparam("consumer_id"))
_STANDING = sa.select(vgpus.c.provider_id, vgpus.c.type, vgpus.c.placement).order_by(vgpus.c.created_at, vgpus.c.uuid)
_STANDING_ON = _STANDING.where(vgpus.c.provider_id.in_(sa.bindparam("ids", expanding=True)))
_STANDING_AT = _STANDING.where(vgpus.c.host == sa.bindparam("host"), vgpus.c.address == sa.bindparam("address"))


def select_vgpus(tx: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[Vgpu]:
    """vGPUs that meet every condition on `tables.vgpus`. Raises `CorruptRecord`."""
    return VGPUS.every(tx.execute(_VGPUS.where(*conditions)))


def readable_vgpus(tx: sa.Connection) -> list[Vgpu]:
    """All but damaged ones."""
    return list(VGPUS.readable(tx.execute(_VGPUS)))


def count_vgpus(tx: sa.Connection) -> dict[str, int]:
    """State -> how many vGPUs are recorded in it."""
    return {row.state: row.number for row in tx.execute(_VGPUS_BY_STATE)}


def vgpus_on(tx: sa.Connection, host: str) -> list[Vgpu]:
    """All that are recorded for a host. Raises `CorruptRecord`."""
    return VGPUS.every(tx.execute(_VGPUS_ON, {"host": host}))


def readable_vgpus_on(tx: sa.Connection, host: str) -> list[Vgpu]:
    """All that are recorded for a host but damaged ones."""
    return list(VGPUS.readable(tx.execute(_VGPUS_ON, {"host": host})))


def vgpus_of_server(tx: sa.Connection, server_id: str, consumer_id: str | None = None) -> list[Vgpu]:
    """A server's vGPUs, or only those that one consumer (the server, or a migration of it) pays for.

    Raises `CorruptRecord`.
    """
    if consumer_id is None:
        return VGPUS.every(tx.execute(_VGPUS_OF, {"server_id": server_id}))
    return VGPUS.every(tx.execute(_VGPUS_PAID_BY, {"server_id": server_id, "consumer_id": consumer_id}))


def update_vgpu(tx: sa.Connection, uuid: str, **columns: Any) -> None:
    tx.execute(sa.update(vgpus).where(vgpus.c.uuid == uuid).values(**columns))


def set_vgpus_state(tx: sa.Connection, server_id: str, consumer_id: str, state: VgpuState) -> None:
    tx.execute(sa.update(vgpus).where(vgpus.c.server_id == server_id, vgpus.c.consumer_id == consumer_id).values(state=str(state)))


def delete_vgpus(tx: sa.Connection, uuids: Iterable[str]) -> None:
    tx.execute(sa.delete(vgpus).where(vgpus.c.uuid.in_(list(uuids))))


def layout(tx: sa.Connection, record: GpuRecord) -> Layout:
    """What stands or is planned on a GPU."""
    found = tx.execute(_STANDING_AT, {"host": record.host, "address": str(record.address)})
    return layout_of(record, [(row.type, row.placement) for row in found])


def layouts(tx: sa.Connection, records: Iterable[GpuRecord]) -> dict[str, Layout]:
    """Provider id -> what stands or is planned on it, of the GPUs that have a provider, in one query."""
    known = {record.provider_id: record for record in records if record.provider_id is not None}
    if not known:
        return {}
    standing: dict[str, list[tuple[str, int | None]]] = {}
    found = tx.execute(_STANDING_ON, {"ids": list(known)}) if len(known) < MOST_NAMED else tx.execute(_STANDING)
    for provider_id, name, start in found:
        standing.setdefault(provider_id, []).append((name, start))
    return {provider_id: layout_of(record, standing.get(provider_id, ())) for provider_id, record in known.items()}


def layout_of(record: GpuRecord, ours: Iterable[tuple[str, int | None]]) -> Layout:
    """The layout of a GPU on which `ours` are recorded, each by its type's name and the slot it starts at.

    Devices of an unknown type count as the card's largest type. Nothing where no type of the card is known, and so
    nothing can be made on it either.
    """
    if not record.gpu.types:
        return Layout()
    types = {t.name: t for t in record.gpu.types}
    largest = max(record.gpu.types, key=lambda t: t.framebuffer_mb)
    known = [Spot(types.get(name, largest), start) for name, start in ours]
    return Layout.of(known, [Spot(types.get(v.type or "", largest), v.placement) for v in record.foreign])


def heard_by_others(tx: sa.Connection, me: str, since: float) -> frozenset[str]:
    """Names of the hosts whose report another control plane than `me` has taken in since a moment."""
    return frozenset(tx.scalars(sa.select(hosts.c.name).where(hosts.c.last_seen_at >= since, hosts.c.heard_by != me)))


_SILENT = sa.select(hosts.c.name).where(sa.or_(hosts.c.last_seen_at < sa.bindparam("since"), hosts.c.forced_down))


def silent(tx: sa.Connection, since: float) -> frozenset[str]:
    """Names of the hosts that were not heard of after `since`, or that an operator calls down."""
    return frozenset(tx.scalars(_SILENT, {"since": since}))
