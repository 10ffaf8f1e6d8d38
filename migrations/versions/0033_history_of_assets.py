"""History of assets: imports may be of one, and say why they failed in each reader's language"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "history_import", sa.Column("asset_code", sa.String(length=60), server_default=sa.text("''"), nullable=False)
    )
    # What was written in English stays so: a sentence without values, which no catalogue knows.
    op.alter_column(
        "history_import",
        "trouble",
        type_=postgresql.JSONB(astext_type=sa.Text()),
        existing_nullable=True,
        postgresql_using="CASE WHEN trouble IS NULL THEN NULL "
        "ELSE jsonb_build_object('sentence', trouble, 'values', '{}'::jsonb) END",
    )


def downgrade() -> None:
    op.alter_column(
        "history_import",
        "trouble",
        type_=sa.String(length=300),
        existing_nullable=True,
        postgresql_using="left(trouble ->> 'sentence', 300)",
    )
    op.drop_column("history_import", "asset_code")
