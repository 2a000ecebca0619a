"""What was repaired, what is out of order and not yet repaired, and which report of a host was the last."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repairs",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("object", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.String(length=36), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repairs")),
    )
    op.create_index(op.f("ix_repairs_at"), "repairs", ["at"])
    op.create_table(
        "sightings",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("object", sa.String(length=36), nullable=False),
        sa.Column("first_seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", "what", "object", name=op.f("pk_sightings")),
    )
    op.create_index(op.f("ix_migrations_status"), "migrations", ["status"])
    op.add_column("hosts", sa.Column("report_sequence", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("hosts", sa.Column("heard_by", sa.String(length=36), nullable=True))
    op.add_column("hosts", sa.Column("behind", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("hosts") as table:
        for name in ("behind", "heard_by", "report_sequence"):
            table.drop_column(name)
    op.drop_index(op.f("ix_migrations_status"), table_name="migrations")
    op.drop_table("sightings")
    op.drop_index(op.f("ix_repairs_at"), table_name="repairs")
    op.drop_table("repairs")
