"""Webhook sources"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhook_source",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("proof", sa.String(length=10), nullable=False),
        sa.Column("header", sa.String(length=60), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("proof IN ('token', 'signature')", name=op.f("ck_webhook_source_proof")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_webhook_source_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_webhook_source_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_source")),
        sa.UniqueConstraint("name", name=op.f("uq_webhook_source_name")),
    )
    op.create_index(op.f("ix_webhook_source_unit_id"), "webhook_source", ["unit_id"], unique=False)


def downgrade() -> None:
    op.drop_table("webhook_source")
