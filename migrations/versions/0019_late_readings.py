"""Late readings judged at their own time"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "late_span",
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_late_span_alarm_type_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_late_span_asset_id")),
        sa.PrimaryKeyConstraint("alarm_type_id", "asset_id", name=op.f("pk_late_span")),
    )
    op.create_index("ix_late_span_due", "late_span", ["due_at"], unique=False)
    for name in ("is_late", "is_unsupported"):
        op.add_column("alarm", sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False))
