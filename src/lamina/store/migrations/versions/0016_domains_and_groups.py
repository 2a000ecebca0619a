"""Domains and groups."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "domains",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domains")),
        sa.UniqueConstraint("name", name=op.f("uq_domains_name")),
    )
    op.execute("INSERT INTO domains (id, name, description, enabled) VALUES ('default', 'Default', 'The default domain', TRUE)")
    op.add_column("projects", sa.Column("domain_id", sa.String(length=64), nullable=False, server_default="default"))
    op.add_column("projects", sa.Column("name_in_domain", sa.String(length=64), nullable=True))
    op.add_column("users", sa.Column("domain_id", sa.String(length=64), nullable=False, server_default="default"))
    op.add_column("users", sa.Column("name_in_domain", sa.String(length=255), nullable=True))
    op.create_table(
        "user_groups",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("domain_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domains.id"], name=op.f("fk_user_groups_domain_id_domains"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_groups")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_user_groups_domain_id")),
    )
    op.create_table(
        "group_members",
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["user_groups.id"], name=op.f("fk_group_members_group_id_user_groups"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_members_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "group_id", name=op.f("pk_group_members")),
    )
    op.create_index(op.f("ix_group_members_group_id"), "group_members", ["group_id"])
    op.create_table(
        "group_role_assignments",
        sa.Column("group_id", sa.String(length=64), nullable=False),
        sa.Column("role_id", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["user_groups.id"], name=op.f("fk_group_role_assignments_group_id_user_groups"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name=op.f("fk_group_role_assignments_role_id_roles"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "role_id", "target", name=op.f("pk_group_role_assignments")),
    )


def downgrade() -> None:
    op.drop_table("group_role_assignments")
    op.drop_table("group_members")
    op.drop_table("user_groups")
    for table in ("users", "projects"):
        op.drop_column(table, "name_in_domain")
        op.drop_column(table, "domain_id")
    op.drop_table("domains")
