"""The row that writers stand in line for, and that of the epochs from the start, so that two who need it first do not both make it."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("INSERT INTO counters (name, value) VALUES ('queue', 0)")
    op.execute(
        "INSERT INTO counters (name, value) SELECT 'epoch', 0 WHERE NOT EXISTS (SELECT 1 FROM counters WHERE name = 'epoch')"
    )


def downgrade() -> None:
    op.execute("DELETE FROM counters WHERE name = 'queue'")
