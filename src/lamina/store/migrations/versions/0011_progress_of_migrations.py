"""How far a live migration has come."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("migrations", sa.Column("progress", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("migrations", "progress")
