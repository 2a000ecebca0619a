"""The audit trail, which the database itself lets nobody change."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("initiator_kind", sa.String(length=64), nullable=False),
        sa.Column("initiator_id", sa.String(length=255), nullable=False),
        sa.Column("initiator_name", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("agent", sa.String(length=255), nullable=True),
        sa.Column("target_kind", sa.String(length=255), nullable=False),
        sa.Column("target_id", sa.String(length=255), nullable=False),
        sa.Column("target_of", sa.String(length=255), nullable=True),
        sa.Column("observer", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("global_request_id", sa.String(length=64), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("more", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_events_event_id"), "audit_events", ["event_id"])
    op.create_index(op.f("ix_audit_events_at"), "audit_events", ["at"])
    op.add_column("sagas", sa.Column("global_request_id", sa.String(length=64), nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events"
            " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END"
        )
        op.execute(
            "CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events"
            " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END"
        )
        op.execute(
            "CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events"
            " WHEN EXISTS (SELECT 1 FROM audit_events WHERE seq = NEW.seq)"
            " BEGIN SELECT RAISE(ABORT, 'audit_events only grows'); END"
        )
    else:
        op.execute(
            "CREATE FUNCTION audit_events_only_grows() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'audit_events only grows'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_events_only_grows()"
        )
        op.execute("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_no_change")


def downgrade() -> None:
    op.drop_column("sagas", "global_request_id")
    op.drop_table("audit_events")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_events_only_grows()")
