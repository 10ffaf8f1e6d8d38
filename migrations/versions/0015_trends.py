"""Trends that are watched, and what is foretold"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trend_watch",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=80), nullable=False),
        sa.Column("limit", sa.Double(), nullable=False),
        sa.Column("is_rising", sa.Boolean(), nullable=False),
        sa.Column("window_days", sa.Integer(), nullable=False),
        sa.Column("lead_days", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("lead_days BETWEEN 1 AND 365", name=op.f("ck_trend_watch_lead_days")),
        sa.CheckConstraint("window_days BETWEEN 14 AND 730", name=op.f("ck_trend_watch_window_days")),
        sa.ForeignKeyConstraint(
            ["asset_type_id"], ["asset_type.id"], name=op.f("fk_trend_watch_asset_type_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_trend_watch_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trend_watch")),
        sa.UniqueConstraint(
            "asset_type_id", "metric", "is_rising", name=op.f("uq_trend_watch_asset_type_id_metric_is_rising")
        ),
    )
    op.create_index(op.f("ix_trend_watch_asset_type_id"), "trend_watch", ["asset_type_id"], unique=False)
    op.create_index(op.f("ix_trend_watch_company_id"), "trend_watch", ["company_id"], unique=False)
    op.create_table(
        "trend_forecast",
        sa.Column("watch_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("outlook", sa.String(length=12), nullable=True),
        sa.Column("shape", sa.String(length=12), nullable=True),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("level", sa.Double(), nullable=True),
        sa.Column("per_day", sa.Double(), nullable=True),
        sa.Column("earliest_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("likely_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latest_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worked_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_trend_forecast_asset_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_trend_forecast_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_trend_forecast_unit_id")),
        sa.ForeignKeyConstraint(
            ["watch_id"], ["trend_watch.id"], name=op.f("fk_trend_forecast_watch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trend_forecast")),
        sa.UniqueConstraint("watch_id", "asset_id", name=op.f("uq_trend_forecast_watch_id_asset_id")),
    )
    op.create_index(op.f("ix_trend_forecast_asset_id"), "trend_forecast", ["asset_id"], unique=False)
    op.create_index("ix_trend_forecast_likely", "trend_forecast", ["unit_id", "likely_at"], unique=False)
    op.create_index("ix_trend_forecast_next_at", "trend_forecast", ["next_at"], unique=False)
    op.create_index(op.f("ix_trend_forecast_unit_id"), "trend_forecast", ["unit_id"], unique=False)
