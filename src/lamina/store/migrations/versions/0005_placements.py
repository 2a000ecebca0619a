"""Where each vGPU starts on its GPU, and the types that an operator has chosen for a GPU."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vgpus", sa.Column("placement", sa.Integer(), nullable=True))
    op.add_column("gpus", sa.Column("chosen_types", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("gpus", "chosen_types")
    op.drop_column("vgpus", "placement")
