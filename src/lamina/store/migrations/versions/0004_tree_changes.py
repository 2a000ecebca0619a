"""The numbers by which indexes of provider trees stay current."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tree_changes",
        sa.Column("root_id", sa.String(length=36), nullable=False),
        sa.Column("usage", sa.BigInteger(), nullable=False),
        sa.Column("shape", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("root_id", name=op.f("pk_tree_changes")),
    )
    op.create_index(op.f("ix_tree_changes_usage"), "tree_changes", ["usage"], unique=False)
    op.execute("INSERT INTO counters (name, value) VALUES ('tree_changes', 0)")


def downgrade() -> None:
    op.execute("DELETE FROM counters WHERE name = 'tree_changes'")
    op.drop_index(op.f("ix_tree_changes_usage"), table_name="tree_changes")
    op.drop_table("tree_changes")
