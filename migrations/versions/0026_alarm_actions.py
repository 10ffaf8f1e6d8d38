"""What alarms set off beside orders"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm_action",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("occasion", sa.String(length=10), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("occasion IN ('raise', 'clear')", name=op.f("ck_alarm_action_occasion")),
        sa.CheckConstraint("kind IN ('message', 'webhook', 'command', 'attribute')", name=op.f("ck_alarm_action_kind")),
        sa.ForeignKeyConstraint(
            ["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_alarm_action_alarm_type_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_action")),
    )
    op.create_index("ix_alarm_action_of", "alarm_action", ["alarm_type_id", "position", "id"])
    op.create_table(
        "alarm_action_run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("alarm_id", sa.BigInteger(), nullable=False),
        sa.Column("action_id", sa.BigInteger(), nullable=False),
        sa.Column("occasion", sa.String(length=10), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_action_run_alarm_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_action_run")),
        sa.UniqueConstraint(
            "alarm_id", "action_id", "occasion", name=op.f("uq_alarm_action_run_alarm_id_action_id_occasion")
        ),
    )


def downgrade() -> None:
    op.drop_table("alarm_action_run")
    op.drop_table("alarm_action")
