"""The row that writers stand in line for."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("INSERT INTO counters (name, value) VALUES ('queue', 0)")


def downgrade() -> None:
    op.execute("DELETE FROM counters WHERE name = 'queue'")
