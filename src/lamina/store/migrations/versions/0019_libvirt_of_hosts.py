"""The version of each host's libvirt."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("libvirt_version", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("hosts", "libvirt_version")
