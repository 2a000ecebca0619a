"""Every table. Times are seconds since the epoch; ids that clients see are uuids in text.

The migrations in ``store/migrations`` build exactly this (a test compares them).
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, PrimaryKeyConstraint, Table, UniqueConstraint

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: numbers that only grow: the epoch of fences, the number of changes to provider trees
counters = Table("counters", metadata, Column("name", sa.String(64), primary_key=True), Column("value", sa.BigInteger, nullable=False))

#: the control planes that run on this database
replicas = Table(
    "replicas",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("public_url", sa.Text, nullable=False),
    Column("agents_url", sa.Text),
    Column("version", sa.String(64), nullable=False),
    Column("started_at", sa.Float, nullable=False),
    Column("heard_at", sa.Float, nullable=False),
)

#: servers that wait for room, and when each project last got something out of the queue
queue = Table(
    "queue",
    metadata,
    Column("server_id", sa.String(36), primary_key=True),
    Column("project_id", sa.String(64), nullable=False),
    Column("user_id", sa.String(64), nullable=False),
    Column("request_id", sa.String(64), nullable=False),
    Column("queued_at", sa.Float, nullable=False),
    Column("expires_at", sa.Float, nullable=False),
    Column("reason", sa.Text, nullable=False),
    #: of the operation that creates it
    Column("params", sa.JSON, nullable=False),
)
queue_turns = Table(
    "queue_turns", metadata, Column("project_id", sa.String(64), primary_key=True), Column("served_at", sa.Float, nullable=False)
)

# ---------------------------------------------------------------------------------------------------- identity

projects = Table(
    "projects",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("name", sa.String(64), nullable=False, unique=True),
    Column("description", sa.Text, nullable=False, default=""),
    Column("enabled", sa.Boolean, nullable=False, default=True),
)
users = Table(
    "users",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("name", sa.String(255), nullable=False, unique=True),
    Column("password_hash", sa.Text),
    Column("description", sa.Text, nullable=False, default=""),
    Column("email", sa.String(255)),
    Column("enabled", sa.Boolean, nullable=False, default=True),
    Column("default_project_id", sa.String(64)),
)
roles = Table(
    "roles",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("name", sa.String(255), nullable=False, unique=True),
    Column("description", sa.Text, nullable=False, default=""),
)
role_assignments = Table(
    "role_assignments",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), nullable=False),
    #: a project's id, or "system"
    Column("target", sa.String(64), nullable=False),
    PrimaryKeyConstraint("user_id", "role_id", "target"),
)
login_failures = Table(
    "login_failures",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    #: in a row
    Column("count", sa.Integer, nullable=False),
    Column("last_at", sa.Float, nullable=False),
)
tokens = Table(
    "tokens",
    metadata,
    #: SHA-256 of the token in hexadecimal; the token itself is kept nowhere
    Column("hash", sa.String(64), primary_key=True),
    Column("audit_id", sa.String(32), nullable=False),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    #: a project's id, "system", or None for an unscoped token
    Column("target", sa.String(64)),
    Column("methods", sa.String(64), nullable=False, default="password"),
    Column("issued_at", sa.Float, nullable=False),
    Column("expires_at", sa.Float, nullable=False, index=True),
    #: the application credential that it was got by
    Column("application_credential_id", sa.String(64), index=True),
)
application_credentials = Table(
    "application_credentials",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", sa.String(255), nullable=False),
    Column("description", sa.Text),
    Column("secret_hash", sa.Text, nullable=False),
    Column("unrestricted", sa.Boolean, nullable=False),
    Column("expires_at", sa.Float),
    Column("created_at", sa.Float, nullable=False),
    UniqueConstraint("user_id", "name"),
)
application_credential_roles = Table(
    "application_credential_roles",
    metadata,
    Column("credential_id", ForeignKey("application_credentials.id", ondelete="CASCADE"), nullable=False),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("credential_id", "role_id"),
)

# ---------------------------------------------------------------------------------------------------- placement

resource_classes = Table("resource_classes", metadata, Column("name", sa.String(255), primary_key=True))
traits = Table("traits", metadata, Column("name", sa.String(255), primary_key=True))
providers = Table(
    "providers",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("name", sa.String(200), nullable=False, unique=True),
    Column("generation", sa.Integer, nullable=False, default=0),
    Column("root_id", ForeignKey("providers.id"), nullable=False, index=True),
    Column("parent_id", ForeignKey("providers.id"), index=True),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
)
inventories = Table(
    "inventories",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("resource_class", sa.String(255), nullable=False, index=True),
    Column("total", sa.Integer, nullable=False),
    Column("reserved", sa.Integer, nullable=False),
    Column("min_unit", sa.Integer, nullable=False),
    Column("max_unit", sa.Integer, nullable=False),
    Column("step_size", sa.Integer, nullable=False),
    Column("allocation_ratio", sa.Float, nullable=False),
    PrimaryKeyConstraint("provider_id", "resource_class"),
)
provider_traits = Table(
    "provider_traits",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("trait", sa.String(255), nullable=False, index=True),
    PrimaryKeyConstraint("provider_id", "trait"),
)
provider_aggregates = Table(
    "provider_aggregates",
    metadata,
    Column("provider_id", ForeignKey("providers.id", ondelete="CASCADE"), nullable=False),
    Column("aggregate_id", sa.String(36), nullable=False, index=True),
    PrimaryKeyConstraint("provider_id", "aggregate_id"),
)
consumers = Table(
    "consumers",
    metadata,
    Column("id", sa.String(36), primary_key=True),
    Column("project_id", sa.String(255), nullable=False, index=True),
    Column("user_id", sa.String(255), nullable=False),
    #: INSTANCE, MIGRATION, …; "unknown" where nobody said (Placement microversion 1.38)
    Column("type", sa.String(255), nullable=False, default="unknown"),
    Column("generation", sa.Integer, nullable=False, default=0),
)
allocations = Table(
    "allocations",
    metadata,
    Column("consumer_id", ForeignKey("consumers.id"), nullable=False),
    Column("provider_id", ForeignKey("providers.id"), nullable=False, index=True),
    Column("resource_class", sa.String(255), nullable=False),
    Column("used", sa.Integer, nullable=False),
    PrimaryKeyConstraint("consumer_id", "provider_id", "resource_class"),
    CheckConstraint("used > 0", name="used_positive"),
)

#: the numbers of the last commits that changed a tree: its usage (the last of all), its shape; roots that are gone stay
tree_changes = Table(
    "tree_changes",
    metadata,
    Column("root_id", sa.String(36), primary_key=True),
    Column("usage", sa.BigInteger, nullable=False, index=True),
    Column("shape", sa.BigInteger, nullable=False),
)

# ---------------------------------------------------------------------------------------------------- hosts

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

# ---------------------------------------------------------------------------------------------------- compute

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

# ---------------------------------------------------------------------------------------------------- operations

sagas = Table(
    "sagas",
    metadata,
    Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    Column("id", sa.String(36), nullable=False, unique=True),
    Column("kind", sa.String(32), nullable=False),
    #: what it works on, a server's id: one saga at a time holds it
    Column("subject", sa.String(36), nullable=False, index=True),
    Column("params", sa.JSON, nullable=False),
    #: names of the steps, in order, as they were when it began: a later version changes nothing under its feet
    Column("steps", sa.JSON, nullable=False),
    #: waiting, running, unwinding, stuck, done, undone or abandoned (`lamina.saga.log.State`)
    Column("state", sa.String(16), nullable=False),
    #: why it unwinds or is stuck: {code, message}
    Column("error", sa.JSON),
    Column("cancelled", sa.Boolean, nullable=False, default=False),
    #: who runs it now, until when, and how the hosts order its calls
    Column("owner", sa.String(64)),
    Column("lease_expires_at", sa.Float),
    Column("epoch", sa.BigInteger, nullable=False, default=0),
    #: who asked, and the instance action that it is shown as
    Column("action", sa.String(64), nullable=False),
    Column("request_id", sa.String(64), nullable=False, index=True),
    Column("project_id", sa.String(64), nullable=False),
    Column("user_id", sa.String(64), nullable=False),
    Column("created_at", sa.Float, nullable=False),
    Column("updated_at", sa.Float, nullable=False),
    #: why an operator gave it up; only and always set with the state "abandoned"
    Column("abandoned_reason", sa.Text),
    CheckConstraint("(state = 'abandoned') = (abandoned_reason IS NOT NULL)", name="abandoned_with_reason"),
)
Index(
    "ux_sagas_one_at_a_time",
    sagas.c.subject,
    unique=True,
    sqlite_where=sagas.c.state.in_(["running", "unwinding", "stuck"]),
    postgresql_where=sagas.c.state.in_(["running", "unwinding", "stuck"]),
)
Index("ix_sagas_state", sagas.c.state, sagas.c.lease_expires_at)
saga_events = Table(
    "saga_events",
    metadata,
    Column("saga_id", ForeignKey("sagas.id"), nullable=False),
    Column("step", sa.String(64), nullable=False),
    #: done, failed, undone or undo-failed (`lamina.saga.log.Event`)
    Column("event", sa.String(16), nullable=False),
    Column("number", sa.Integer, nullable=False),
    Column("output", sa.JSON),
    Column("error", sa.JSON),
    Column("host", sa.String(255)),
    Column("started_at", sa.Float, nullable=False),
    Column("finished_at", sa.Float, nullable=False),
    PrimaryKeyConstraint("saga_id", "step", "event"),
    UniqueConstraint("saga_id", "number"),
)
