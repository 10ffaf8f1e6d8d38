"""What a type of machine's devices, or one device, may send"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "intake_limit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("messages", sa.Float(), nullable=False),
        sa.Column("points", sa.Float(), nullable=False),
        sa.CheckConstraint("(asset_type_id IS NULL) <> (device_id IS NULL)", name=op.f("ck_intake_limit_of_one")),
        sa.CheckConstraint("messages >= 0 AND points >= 0", name=op.f("ck_intake_limit_rates")),
        sa.ForeignKeyConstraint(
            ["asset_type_id"], ["asset_type.id"], name=op.f("fk_intake_limit_asset_type_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_intake_limit_device_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intake_limit")),
        sa.UniqueConstraint("asset_type_id", name=op.f("uq_intake_limit_asset_type_id")),
        sa.UniqueConstraint("device_id", name=op.f("uq_intake_limit_device_id")),
    )


def downgrade() -> None:
    op.drop_table("intake_limit")
