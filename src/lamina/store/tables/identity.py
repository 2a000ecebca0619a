"""Domains, projects, users and groups, their roles, and what users prove themselves by."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, PrimaryKeyConstraint, Table, UniqueConstraint

from lamina.store.tables.base import metadata

domains = Table(
    "domains",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("name", sa.String(64), nullable=False, unique=True),
    Column("description", sa.Text, nullable=False, default=""),
    Column("enabled", sa.Boolean, nullable=False, default=True),
)
projects = Table(
    "projects",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    #: unique over all domains; what it holds is told in `lamina.store.names_in_domains`
    Column("name", sa.String(64), nullable=False, unique=True),
    Column("description", sa.Text, nullable=False, default=""),
    Column("enabled", sa.Boolean, nullable=False, default=True),
    #: no foreign key: SQLite adds no column that has one and is not null
    Column("domain_id", sa.String(64), nullable=False, server_default="default"),
    #: the name, where the domain is not the default one
    Column("name_in_domain", sa.String(64)),
)
users = Table(
    "users",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    #: as the project's
    Column("name", sa.String(255), nullable=False, unique=True),
    Column("password_hash", sa.Text),
    Column("description", sa.Text, nullable=False, default=""),
    Column("email", sa.String(255)),
    Column("enabled", sa.Boolean, nullable=False, default=True),
    Column("default_project_id", sa.String(64)),
    #: as the project's
    Column("domain_id", sa.String(64), nullable=False, server_default="default"),
    Column("name_in_domain", sa.String(255)),
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
    #: the id of a project or of a domain, or "system"
    Column("target", sa.String(64), nullable=False),
    PrimaryKeyConstraint("user_id", "role_id", "target"),
)
user_groups = Table(
    "user_groups",
    metadata,
    Column("id", sa.String(64), primary_key=True),
    Column("domain_id", ForeignKey("domains.id", ondelete="CASCADE"), nullable=False),
    Column("name", sa.String(64), nullable=False),
    Column("description", sa.Text, nullable=False, default=""),
    UniqueConstraint("domain_id", "name"),
)
group_members = Table(
    "group_members",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("group_id", ForeignKey("user_groups.id", ondelete="CASCADE"), nullable=False, index=True),
    PrimaryKeyConstraint("user_id", "group_id"),
)
group_role_assignments = Table(
    "group_role_assignments",
    metadata,
    Column("group_id", ForeignKey("user_groups.id", ondelete="CASCADE"), nullable=False),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), nullable=False),
    #: as the user's
    Column("target", sa.String(64), nullable=False),
    PrimaryKeyConstraint("group_id", "role_id", "target"),
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
    #: the id of a project or of a domain, "system", or None for an unscoped token
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
