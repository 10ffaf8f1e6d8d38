"""Derived metrics, what of them is due, and what was done to meters"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "derivation",
        sa.Column("metric_id", sa.BigInteger(), nullable=False),
        sa.Column("total_id", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(length=80), nullable=False),
        sa.Column("how", sa.String(length=12), nullable=False),
        sa.Column("above", sa.Float(), nullable=True),
        sa.Column("wraps_at", sa.Float(), nullable=True),
        sa.Column("scale", sa.Float(), nullable=False),
        sa.Column("hold_s", sa.Integer(), nullable=True),
        sa.Column("per_s", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "how IN ('run_hours', 'starts', 'cycles', 'energy', 'counter', 'difference', 'rate')",
            name=op.f("ck_derivation_how"),
        ),
        sa.ForeignKeyConstraint(["metric_id"], ["metric.id"], name=op.f("fk_derivation_metric_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["total_id"], ["metric.id"], name=op.f("fk_derivation_total_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("metric_id", name=op.f("pk_derivation")),
    )
    op.create_index(op.f("ix_derivation_total_id"), "derivation", ["total_id"], unique=False)
    op.create_table(
        "dirty_span",
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("from_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "from_ms", name=op.f("pk_dirty_span")),
    )
    op.create_index("ix_dirty_span_marked_at", "dirty_span", ["marked_at"], unique=False)
    op.create_table(
        "hours_closed",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_hours_closed_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hours_closed")),
    )
    op.create_table(
        "meter_change",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("final", sa.Float(), nullable=True),
        sa.Column("initial", sa.Float(), nullable=True),
        sa.Column("total", sa.Float(), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.String(length=80), nullable=True),
        sa.CheckConstraint("kind IN ('exchange', 'reset', 'total')", name=op.f("ck_meter_change_kind")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_meter_change_asset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter_change")),
    )
    op.create_index("ix_meter_change_asset", "meter_change", ["asset_id", "metric", "at"], unique=False)
    op.create_index(
        "ix_meter_change_standing",
        "meter_change",
        ["asset_id"],
        unique=False,
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
