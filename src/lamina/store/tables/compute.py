"""Servers, and all that users make beside them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, PrimaryKeyConstraint, Table

from lamina.store.tables.base import metadata

flavors = Table(
    "flavors",
    metadata,
    #: the order in which they were made
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(255), nullable=False, unique=True),
    Column("name", sa.String(255), nullable=False, unique=True),
    Column("vcpus", sa.Integer, nullable=False),
    Column("memory_mb", sa.Integer, nullable=False),
    Column("disk_gb", sa.Integer, nullable=False),
    Column("ephemeral_gb", sa.Integer, nullable=False, default=0),
    Column("swap_mb", sa.Integer, nullable=False, default=0),
    Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    Column("public", sa.Boolean, nullable=False, default=True),
    Column("description", sa.Text),
    Column("extra_specs", sa.JSON, nullable=False),
)
flavor_access = Table(
    "flavor_access",
    metadata,
    Column("flavor_id", ForeignKey("flavors.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", sa.String(64), nullable=False),
    PrimaryKeyConstraint("flavor_id", "project_id"),
)
keypairs = Table(
    "keypairs",
    metadata,
    Column("user_id", sa.String(64), nullable=False),
    Column("name", sa.String(255), nullable=False),
    Column("type", sa.String(16), nullable=False),
    Column("fingerprint", sa.String(255), nullable=False),
    Column("public_key", sa.Text, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    PrimaryKeyConstraint("user_id", "name"),
)
servers = Table(
    "servers",
    metadata,
    #: the order in which they were made; the tie-breaker of every listing
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("generation", sa.Integer, nullable=False, default=0),
    Column("name", sa.String(255), nullable=False),
    Column("hostname", sa.String(255), nullable=False),
    Column("description", sa.Text),
    Column("project_id", sa.String(64), nullable=False, index=True),
    Column("user_id", sa.String(64), nullable=False),
    Column("reservation_id", sa.String(32), nullable=False, index=True),
    Column("vm_state", sa.String(32), nullable=False),
    Column("task_state", sa.String(32)),
    Column("power_state", sa.Integer, nullable=False, default=0),
    Column("host", sa.String(255), index=True),
    Column("zone", sa.String(255)),
    #: the availability zone it was asked to stay in
    Column("pinned_zone", sa.String(255)),
    #: the flavor as it was when the server got it: `lamina.model.flavors.Flavor`
    Column("flavor", sa.JSON, nullable=False),
    Column("image_id", sa.String(36)),
    Column("key_name", sa.String(255)),
    #: of the keypair as it was when the server was made
    Column("public_key", sa.Text),
    Column("user_data", sa.Text),
    Column("config_drive", sa.Boolean, nullable=False, default=False),
    Column("metadata", sa.JSON, nullable=False),
    Column("tags", sa.JSON, nullable=False),
    #: {code, message, details, created_at} or None
    Column("fault", sa.JSON),
    Column("locked_reason", sa.Text),
    Column("locked", sa.Boolean, nullable=False, default=False),
    #: owner or admin: what an administrator locked, its owner cannot unlock
    Column("locked_by", sa.String(8)),
    #: the image that the disk of a shelved server is kept as
    Column("shelved_image_id", sa.String(36)),
    #: the image that a rescued server boots from
    Column("rescue_image_id", sa.String(36)),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
    Column("launched_at", sa.Float),
    Column("terminated_at", sa.Float),
    #: set when the server is gone; the row stays so that its actions can still be read
    Column("deleted_at", sa.Float),
)
#: for counting those that a project has, which are few beside those that it ever had
Index(
    "ix_servers_of_project_now",
    servers.c.project_id,
    sqlite_where=servers.c.deleted_at.is_(None),
    postgresql_where=servers.c.deleted_at.is_(None),
)
ports = Table(
    "ports",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("server_id", sa.String(36), nullable=False, index=True),
    Column("project_id", sa.String(64), nullable=False, index=True),
    #: the network's name
    Column("network", sa.String(255), nullable=False),
    Column("mac", sa.String(17), nullable=False, unique=True),
    #: which of the server's interfaces it is, from 0
    Column("position", sa.Integer, nullable=False),
    Column("created_at", sa.Float, nullable=False),
)
server_groups = Table(
    "server_groups",
    metadata,
    #: the order in which they were made
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("name", sa.String(255), nullable=False),
    Column("project_id", sa.String(64), nullable=False, index=True),
    Column("user_id", sa.String(64), nullable=False),
    Column("policy", sa.String(32), nullable=False),
    #: how many servers of an anti-affinity group a host may have; None where nobody said
    Column("max_server_per_host", sa.Integer),
)
#: a server is in one group at most, from its making on; those of deleted servers stay and count for nothing
server_group_members = Table(
    "server_group_members",
    metadata,
    Column("server_id", sa.String(36), primary_key=True),
    Column("group_id", ForeignKey("server_groups.id", ondelete="CASCADE"), nullable=False, index=True),
)
aggregates = Table(
    "aggregates",
    metadata,
    Column("id", sa.Integer, primary_key=True, autoincrement=True),
    #: also the id of the aggregate that Placement shows
    Column("uuid", sa.String(36), nullable=False, unique=True),
    Column("generation", sa.Integer, nullable=False, default=0),
    Column("name", sa.String(255), nullable=False, unique=True),
    #: with the availability zone of its hosts, if it makes one
    Column("metadata", sa.JSON, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float),
)
aggregate_hosts = Table(
    "aggregate_hosts",
    metadata,
    Column("aggregate_id", ForeignKey("aggregates.id", ondelete="CASCADE"), nullable=False),
    Column("host", ForeignKey("hosts.name", ondelete="CASCADE"), nullable=False, index=True),
    PrimaryKeyConstraint("aggregate_id", "host"),
)
migrations = Table(
    "migrations",
    metadata,
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    #: also the consumer that holds the source's allocation
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("server_id", sa.String(36), nullable=False, index=True),
    #: resize, migration, live-migration or evacuation
    Column("type", sa.String(16), nullable=False),
    Column("status", sa.String(32), nullable=False, index=True),
    Column("source_host", sa.String(255), nullable=False),
    Column("dest_host", sa.String(255)),
    Column("old_flavor", sa.JSON, nullable=False),
    Column("new_flavor", sa.JSON, nullable=False),
    #: vm_state to go back to: active or stopped
    Column("old_vm_state", sa.String(32), nullable=False),
    Column("project_id", sa.String(64), nullable=False),
    Column("user_id", sa.String(64), nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
    #: of a live migration: bytes by what they are of
    Column("progress", sa.JSON),
)
images = Table(
    "images",
    metadata,
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("name", sa.String(255)),
    Column("owner", sa.String(64), nullable=False, index=True),
    Column("visibility", sa.String(16), nullable=False),
    Column("status", sa.String(16), nullable=False),
    Column("protected", sa.Boolean, nullable=False, default=False),
    Column("hidden", sa.Boolean, nullable=False, default=False),
    Column("disk_format", sa.String(20)),
    Column("container_format", sa.String(20)),
    Column("size", sa.BigInteger),
    Column("virtual_size", sa.BigInteger),
    #: MD5 in hexadecimal, for old clients only
    Column("checksum", sa.String(32)),
    #: SHA-512 in hexadecimal
    Column("sha512", sa.String(128)),
    Column("min_disk_gb", sa.Integer, nullable=False, default=0),
    Column("min_memory_mb", sa.Integer, nullable=False, default=0),
    Column("properties", sa.JSON, nullable=False),
    Column("tags", sa.JSON, nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
)
