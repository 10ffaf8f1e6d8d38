"""Payload mappings and their versions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mapping",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("topic", sa.String(length=200), nullable=False),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("bridge_id", sa.BigInteger(), nullable=True),
        sa.Column("admits", sa.Boolean(), nullable=False),
        sa.Column("ready", sa.String(length=60), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("(topic = '') = (asset_type_id IS NOT NULL)", name=op.f("ck_mapping_one_source")),
        sa.ForeignKeyConstraint(["asset_type_id"], ["asset_type.id"], name=op.f("fk_mapping_asset_type_id")),
        sa.ForeignKeyConstraint(["bridge_id"], ["device.id"], name=op.f("fk_mapping_bridge_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_mapping_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_mapping_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mapping")),
        sa.UniqueConstraint("asset_type_id", name=op.f("uq_mapping_asset_type_id")),
    )
    op.create_index(op.f("ix_mapping_unit_id"), "mapping", ["unit_id"], unique=False)
    op.create_table(
        "mapping_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("mapping_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sample", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["mapping_id"], ["mapping.id"], name=op.f("fk_mapping_version_mapping_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mapping_version")),
        sa.UniqueConstraint("mapping_id", "number", name=op.f("uq_mapping_version_mapping_id_number")),
    )
    op.create_table(
        "mapping_use",
        sa.Column("mapping_id", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_refusal", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(["mapping_id"], ["mapping.id"], name=op.f("fk_mapping_use_mapping_id")),
        sa.PrimaryKeyConstraint("mapping_id", name=op.f("pk_mapping_use")),
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON mapping_version "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
