"""Escalation policies, and notices to people"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "escalation_policy",
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=True),
        sa.Column("repeat_min", sa.Integer(), nullable=True),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("realarm_min", sa.Integer(), nullable=True),
        sa.Column("realarms", sa.Integer(), nullable=False),
        sa.Column("steps", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint(
            "severity IN ('critical', 'major', 'minor', 'warning', 'info')", name=op.f("ck_escalation_policy_severity")
        ),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_escalation_policy_alarm_type_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_escalation_policy_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_escalation_policy_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_escalation_policy")),
    )
    op.create_index(op.f("ix_escalation_policy_alarm_type_id"), "escalation_policy", ["alarm_type_id"])
    op.create_index(op.f("ix_escalation_policy_unit_id"), "escalation_policy", ["unit_id"])
    op.create_table(
        "notice",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject", sa.String(length=60), nullable=False),
        sa.Column("text", sa.String(length=300), nullable=False),
        sa.Column("values", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("href", sa.String(length=200), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_notice_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
    )
    op.create_index("ix_notice_account", "notice", ["account_id", "id"])
    op.create_index("ix_notice_unread", "notice", ["account_id"], postgresql_where=sa.text("read_at IS NULL"))
