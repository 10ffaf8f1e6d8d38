"""Actions of the codes that devices report, beside those of alarm types"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alarm_action", sa.Column("company_id", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE alarm_action SET company_id = kind.company_id FROM alarm_type kind WHERE kind.id = alarm_type_id"
    )
    op.alter_column("alarm_action", "company_id", nullable=False)
    op.create_foreign_key("fk_alarm_action_company_id", "alarm_action", "org_unit", ["company_id"], ["id"])
    op.add_column("alarm_action", sa.Column("code", sa.String(length=80), nullable=True))
    op.add_column("alarm_action", sa.Column("asset_type_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        "fk_alarm_action_asset_type_id", "alarm_action", "asset_type", ["asset_type_id"], ["id"], ondelete="CASCADE"
    )
    op.alter_column("alarm_action", "alarm_type_id", nullable=True)
    op.create_check_constraint("of_one", "alarm_action", "(alarm_type_id IS NULL) <> (code IS NULL)")
    op.create_index(
        "ix_alarm_action_of_code", "alarm_action", ["company_id", "code"],
        postgresql_where=sa.text("code IS NOT NULL"),
    )  # fmt: skip


def downgrade() -> None:
    op.execute("DELETE FROM alarm_action WHERE alarm_type_id IS NULL")
    op.drop_index("ix_alarm_action_of_code", table_name="alarm_action")
    op.drop_constraint("of_one", "alarm_action")
    op.alter_column("alarm_action", "alarm_type_id", nullable=False)
    for name in ("asset_type_id", "code", "company_id"):
        op.drop_column("alarm_action", name)
