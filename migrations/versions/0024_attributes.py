"""Attributes of devices, assets, sites, customers and org units"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attribute",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(length=80), nullable=False),
        sa.CheckConstraint("level IN ('device', 'asset', 'site', 'customer', 'unit')", name=op.f("ck_attribute_level")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_attribute_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attribute")),
        sa.UniqueConstraint("level", "subject_id", "name", name=op.f("uq_attribute_level_subject_id_name")),
    )
    op.create_index(op.f("ix_attribute_company_id"), "attribute", ["company_id"], unique=False)
