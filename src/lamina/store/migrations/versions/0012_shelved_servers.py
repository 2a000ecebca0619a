"""The images of shelved servers."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("shelved_image_id", sa.String(length=36), nullable=True))


def downgrade() -> None:
    op.drop_column("servers", "shelved_image_id")
