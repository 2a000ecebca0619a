"""Networks of hosts, ports of servers, and the public key that a server was made with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("networks", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("servers", sa.Column("public_key", sa.Text(), nullable=True))
    op.create_table(
        "ports",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=255), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ports")),
        sa.UniqueConstraint("mac", name=op.f("uq_ports_mac")),
    )
    op.create_index(op.f("ix_ports_project_id"), "ports", ["project_id"], unique=False)
    op.create_index(op.f("ix_ports_server_id"), "ports", ["server_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_ports_server_id"), table_name="ports")
    op.drop_index(op.f("ix_ports_project_id"), table_name="ports")
    op.drop_table("ports")
    op.drop_column("servers", "public_key")
    op.drop_column("hosts", "networks")
