"""Readings that one ingest worker passes on to the one that evaluates a rule on another asset"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passed_reading",
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("is_derived", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("is_past", sa.Boolean(), nullable=False),
        sa.Column("is_taken", sa.Boolean(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_passed_reading_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", "series_id", "ts_ms", "is_derived", name=op.f("pk_passed_reading")),
    )
    op.create_index(
        "ix_passed_reading_waiting", "passed_reading", ["at"], unique=False, postgresql_where=sa.text("NOT is_taken")
    )


def downgrade() -> None:
    op.drop_table("passed_reading")
