"""Application credentials."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "application_credentials",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_application_credentials_project_id_projects"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_application_credentials_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_credentials")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_application_credentials_user_id")),
    )
    op.create_table(
        "application_credential_roles",
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("role_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["application_credentials.id"],
            name=op.f("fk_application_credential_roles_credential_id_application_credentials"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name=op.f("fk_application_credential_roles_role_id_roles"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("credential_id", "role_id", name=op.f("pk_application_credential_roles")),
    )
    op.add_column("tokens", sa.Column("application_credential_id", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_tokens_application_credential_id"), "tokens", ["application_credential_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_tokens_application_credential_id"), table_name="tokens")
    op.drop_column("tokens", "application_credential_id")
    op.drop_table("application_credential_roles")
    op.drop_table("application_credentials")
