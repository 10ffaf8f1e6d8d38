"""Devices that ask to be let in"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "device_application",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("origin", sa.String(length=10), nullable=False),
        sa.Column("gateway_id", sa.BigInteger(), nullable=True),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("said", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=80), nullable=True),
        sa.Column("reason", sa.String(length=300), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "origin IN ('secret', 'chain', 'sparkplug', 'mapping', 'claim')",
            name=op.f("ck_device_application_origin"),
        ),
        sa.CheckConstraint("state IN ('waiting', 'approved', 'declined')", name=op.f("ck_device_application_state")),
        sa.ForeignKeyConstraint(
            ["asset_type_id"],
            ["asset_type.id"],
            name=op.f("fk_device_application_asset_type_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_device_application_company_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_device_application_device_id")),
        sa.ForeignKeyConstraint(["gateway_id"], ["device.id"], name=op.f("fk_device_application_gateway_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_device_application_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_application")),
        sa.UniqueConstraint("company_id", "key", name=op.f("uq_device_application_company_id_key")),
    )
    op.create_index("ix_device_application_asset_type_id", "device_application", ["asset_type_id"], unique=False)
    op.create_index("ix_device_application_gateway_id", "device_application", ["gateway_id"], unique=False)
    op.create_index("ix_device_application_unit_id", "device_application", ["unit_id"], unique=False)
    op.create_index(
        "ix_device_application_waiting",
        "device_application",
        ["unit_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )


def downgrade() -> None:
    op.drop_table("device_application")
