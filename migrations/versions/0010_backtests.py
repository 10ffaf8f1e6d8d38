"""Backtests of rules"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backtest",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("wanted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("assets", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.String(length=300), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_backtest_state")
        ),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_backtest_company_id")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_backtest_account_id")),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_backtest_alarm_type_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backtest")),
    )
    op.create_index(
        "ix_backtest_open", "backtest", ["id"], unique=False, postgresql_where=sa.text("state IN ('queued', 'running')")
    )
    op.create_index("ix_backtest_account", "backtest", ["account_id", "id"], unique=False)
    op.create_table(
        "backtest_asset",
        sa.Column("backtest_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.String(length=10), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("alarms", sa.Integer(), nullable=False),
        sa.Column("orders", sa.Integer(), nullable=False),
        sa.Column("active_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("side IN ('draft', 'current')", name=op.f("ck_backtest_asset_side")),
        sa.ForeignKeyConstraint(
            ["backtest_id"], ["backtest.id"], name=op.f("fk_backtest_asset_backtest_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_backtest_asset_asset_id")),
        sa.PrimaryKeyConstraint("backtest_id", "asset_id", "side", name=op.f("pk_backtest_asset")),
    )
    op.create_table(
        "backtest_alarm",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("backtest_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.String(length=10), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=80), nullable=False),
        sa.Column("peak_value", sa.Double(), nullable=True),
        sa.Column("opens_order", sa.Boolean(), nullable=False),
        sa.CheckConstraint("side IN ('draft', 'current')", name=op.f("ck_backtest_alarm_side")),
        sa.ForeignKeyConstraint(
            ["backtest_id"], ["backtest.id"], name=op.f("fk_backtest_alarm_backtest_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_backtest_alarm_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backtest_alarm")),
    )
    op.create_index(
        "ix_backtest_alarm_of", "backtest_alarm", ["backtest_id", "asset_id", "side", "raised_at"], unique=False
    )
