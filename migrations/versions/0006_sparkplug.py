"""Sessions and births of Sparkplug edge nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sparkplug_node",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("is_alive", sa.Boolean(), nullable=False),
        sa.Column("session", sa.Integer(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("born_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("is_asked", sa.Boolean(), nullable=False),
        sa.Column("recent", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_sparkplug_node_device_id")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_sparkplug_node")),
    )
    op.create_table(
        "sparkplug_birth",
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("life", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["sparkplug_node.device_id"], name=op.f("fk_sparkplug_birth_node_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "device", name=op.f("pk_sparkplug_birth")),
    )


def downgrade() -> None:
    op.drop_table("sparkplug_birth")
    op.drop_table("sparkplug_node")
