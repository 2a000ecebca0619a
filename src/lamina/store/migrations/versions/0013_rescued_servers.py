"""The images that rescued servers boot from."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("rescue_image_id", sa.String(length=36), nullable=True))


def downgrade() -> None:
    op.drop_column("servers", "rescue_image_id")
