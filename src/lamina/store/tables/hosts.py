"""Hosts, their GPUs and vGPUs, what was repaired there, and who may speak for them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, PrimaryKeyConstraint, Table

from lamina.store.tables.base import metadata

hosts = Table(
    "hosts",
    metadata,
    Column("name", sa.String(255), primary_key=True),
    #: the id of the hypervisor and of its root provider
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("service_id", sa.String(36), nullable=False, unique=True),
    Column("provider_id", ForeignKey("providers.id"), nullable=False),
    Column("enabled", sa.Boolean, nullable=False, default=True),
    Column("disabled_reason", sa.Text),
    Column("forced_down", sa.Boolean, nullable=False, default=False),
    Column("zone", sa.String(255), nullable=False, default="nova"),
    Column("boot_id", sa.String(64), nullable=False),
    Column("vcpus", sa.Integer, nullable=False),
    Column("memory_mb", sa.Integer, nullable=False),
    Column("disk_gb", sa.Integer, nullable=False),
    Column("hypervisor_type", sa.String(64), nullable=False),
    Column("hypervisor_version", sa.Integer, nullable=False),
    Column("problems", sa.JSON, nullable=False),
    #: names of the networks that a domain on it can be on
    Column("networks", sa.JSON, nullable=False, server_default="[]"),
    Column("last_seen_at", sa.Float, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    #: of the report that was last taken in, and the control plane that did
    Column("report_sequence", sa.BigInteger, nullable=False, server_default="0"),
    Column("heard_by", sa.String(36)),
    #: whether it has admitted calls of which this database knows nothing: a newer one was lost, or it was another's host
    Column("behind", sa.Boolean, nullable=False, server_default=sa.false()),
    #: of libvirt itself; 0 where there is none, or where the agent does not tell
    Column("libvirt_version", sa.Integer, nullable=False, server_default="0"),
)
gpus = Table(
    "gpus",
    metadata,
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False),
    Column("address", sa.String(12), nullable=False),
    #: None where nothing may be made on it: no enabled type that the card offers
    Column("provider_id", ForeignKey("providers.id"), unique=True),
    #: `lamina.model.gpus.Gpu`
    Column("facts", sa.JSON, nullable=False),
    #: the foreign devices on it as last reported: `lamina.model.hosts.VgpuReport`s
    Column("foreign_vgpus", sa.JSON, nullable=False),
    #: names of the types that an operator has chosen through the Fleet API, in place of what the host's settings say
    Column("chosen_types", sa.JSON(none_as_null=True)),
    #: False when the host's last report no longer had it
    Column("present", sa.Boolean, nullable=False, default=True),
    PrimaryKeyConstraint("host", "address"),
)
vgpus = Table(
    "vgpus",
    metadata,
    Column("uuid", sa.String(36), primary_key=True),
    Column("host", sa.String(255), nullable=False, index=True),
    Column("address", sa.String(12), nullable=False),
    Column("provider_id", ForeignKey("providers.id"), nullable=False, index=True),
    Column("type", sa.String(255), nullable=False),
    #: where it stands once made: the VF, or the GPU itself
    Column("parent", sa.String(12)),
    #: the slot it starts at, on a card that has slots
    Column("placement", sa.Integer),
    Column("server_id", sa.String(36), nullable=False, index=True),
    #: whose allocation pays for it: the server, or a migration of the server
    Column("consumer_id", ForeignKey("consumers.id", deferrable=True, initially="DEFERRED"), nullable=False, index=True),
    Column("operation_id", sa.String(36), nullable=False),
    #: planned, present or attached (`lamina.model.gpus.VgpuState`)
    Column("state", sa.String(16), nullable=False),
    Column("created_at", sa.Float, nullable=False),
)

#: what was repaired: `lamina.model.repairs.Repair`
repairs = Table(
    "repairs",
    metadata,
    Column("id", sa.Integer, primary_key=True, autoincrement=True),
    Column("at", sa.Float, nullable=False, index=True),
    Column("host", sa.String(255)),
    Column("what", sa.String(32), nullable=False),
    Column("object", sa.String(36), nullable=False),
    Column("server_id", sa.String(36)),
    Column("why", sa.Text, nullable=False),
    #: the saga that does it, or None for what was done on the spot
    Column("operation_id", sa.String(36)),
)
#: what was out of order when it was last looked at, and since when; the empty host: of none
sightings = Table(
    "sightings",
    metadata,
    Column("host", sa.String(255), nullable=False),
    Column("what", sa.String(32), nullable=False),
    Column("object", sa.String(36), nullable=False),
    Column("first_seen_at", sa.Float, nullable=False),
    PrimaryKeyConstraint("host", "what", "object"),
)

#: permissions to enrol one host each
join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    #: SHA-256 of the secret in hexadecimal; the secret itself is kept nowhere
    Column("hash", sa.String(64), nullable=False, unique=True),
    #: the only host that may use it, or None for any
    Column("host", sa.String(255)),
    Column("created_at", sa.Float, nullable=False),
    Column("expires_at", sa.Float, nullable=False),
    #: when and by which host it was used; both or neither
    Column("used_at", sa.Float),
    Column("used_by", sa.String(255)),
)
#: hosts whose compute service is a process of its own that dials in, each with the one key that speaks for it
enrolments = Table(
    "enrolments",
    metadata,
    Column("host", sa.String(255), primary_key=True),
    #: SHA-256 of the host's public key (SubjectPublicKeyInfo) in hexadecimal
    Column("key", sa.String(64), nullable=False),
    Column("token_id", sa.String(36), nullable=False),
    #: serial number, in hexadecimal, and end of the newest certificate
    Column("serial", sa.String(40), nullable=False),
    Column("expires_at", sa.Float, nullable=False),
    Column("enrolled_at", sa.Float, nullable=False),
    #: set when the host was removed: its certificates are good for nothing from then on
    Column("revoked_at", sa.Float),
)
