"""How long readings are kept, legal holds, exports"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retention",
        sa.Column("type_id", sa.BigInteger(), nullable=False),
        sa.Column("raw_days", sa.Integer(), nullable=False),
        sa.Column("minute_days", sa.Integer(), nullable=False),
        sa.Column("hour_days", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "raw_days >= 1 AND minute_days >= 0 AND hour_days >= raw_days", name=op.f("ck_retention_rising")
        ),
        sa.ForeignKeyConstraint(["type_id"], ["asset_type.id"], name=op.f("fk_retention_type_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("type_id", name=op.f("pk_retention")),
    )
    op.create_table(
        "legal_hold",
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_legal_hold_asset_id")),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_legal_hold")),
    )
    op.create_table(
        "export",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("wanted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("trouble", sa.String(length=300), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'expired')", name=op.f("ck_export_state")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_export_company_id")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_export_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export")),
    )
    op.create_index(
        "ix_export_open", "export", ["id"], unique=False, postgresql_where=sa.text("state IN ('queued', 'running')")
    )
    op.create_index("ix_export_account", "export", ["account_id", "id"], unique=False)
