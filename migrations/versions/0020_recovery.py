"""Whether a repair held, as the machine says"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recovery_setting",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=True),
        sa.Column("quiet_s", sa.Integer(), nullable=True),
        sa.Column("rework_days", sa.Integer(), nullable=True),
        sa.CheckConstraint("quiet_s >= 0", name=op.f("ck_recovery_setting_quiet")),
        sa.CheckConstraint("rework_days >= 0", name=op.f("ck_recovery_setting_rework")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_recovery_setting_company_id")),
        sa.ForeignKeyConstraint(
            ["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_recovery_setting_alarm_type_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recovery_setting")),
    )
    op.create_index(
        "uq_recovery_setting_of",
        "recovery_setting",
        ["company_id", "alarm_type_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("work_order", sa.Column("recovery", sa.String(length=10), nullable=True))
    op.add_column("work_order", sa.Column("recovery_due_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("work_order", sa.Column("recovery_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("work_order", sa.Column("override_reason", sa.String(length=500), nullable=True))
    op.create_index(
        "ix_work_order_recovery",
        "work_order",
        ["recovery_due_at"],
        postgresql_where=sa.text("recovery_due_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_work_order_recovery", table_name="work_order")
    op.drop_column("work_order", "override_reason")
    op.drop_column("work_order", "recovery_verified_at")
    op.drop_column("work_order", "recovery_due_at")
    op.drop_column("work_order", "recovery")
    op.drop_table("recovery_setting")
