"""The global request id of servers that wait for room."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("queue", sa.Column("global_request_id", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("queue", "global_request_id")
