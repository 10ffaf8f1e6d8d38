"""The dictionary of codes that devices report"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm_code",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("severity", sa.String(length=10), nullable=True),
        sa.Column("causes", sa.String(length=2000), nullable=False),
        sa.Column("causes_zh", sa.String(length=2000), nullable=False),
        sa.Column("remedy", sa.String(length=2000), nullable=False),
        sa.Column("remedy_zh", sa.String(length=2000), nullable=False),
        sa.Column("checklist_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "severity IN ('critical', 'major', 'minor', 'warning', 'info')", name=op.f("ck_alarm_code_severity")
        ),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_code_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_code_unit_id")),
        sa.ForeignKeyConstraint(["asset_type_id"], ["asset_type.id"], name=op.f("fk_alarm_code_asset_type_id")),
        sa.ForeignKeyConstraint(["checklist_id"], ["checklist.id"], name=op.f("fk_alarm_code_checklist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_code")),
    )
    op.create_index(op.f("ix_alarm_code_unit_id"), "alarm_code", ["unit_id"], unique=False)
    op.create_index(
        "uq_alarm_code",
        "alarm_code",
        ["company_id", "code", sa.text("coalesce(asset_type_id, 0)")],
        unique=True,
    )
