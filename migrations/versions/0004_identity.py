"""Who may speak: passwords that overlap, bound client ids, certificates, and ways to come in by oneself"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "enrolment",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.Column("certificate", sa.String(), nullable=True),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("device_key", sa.String(length=80), nullable=True),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('secret', 'claim', 'chain')", name=op.f("ck_enrolment_kind")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_enrolment_asset_id")),
        sa.ForeignKeyConstraint(
            ["asset_type_id"], ["asset_type.id"], name=op.f("fk_enrolment_asset_type_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_enrolment_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_enrolment_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment")),
        sa.UniqueConstraint("proof", name=op.f("uq_enrolment_proof")),
    )
    op.create_index("ix_enrolment_type", "enrolment", ["asset_type_id", "id"], unique=False)
    op.create_index("ix_enrolment_unit_id", "enrolment", ["unit_id"], unique=False)
    op.add_column("device", sa.Column("password_alias", sa.String(length=90), nullable=True))
    op.add_column("device", sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("previous_hash", sa.String(length=200), nullable=True))
    op.add_column("device", sa.Column("previous_alias", sa.String(length=90), nullable=True))
    op.add_column("device", sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("device", sa.Column("client_id", sa.String(length=128), nullable=True))
    op.add_column(
        "device", sa.Column("accepts_certificate", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("device", sa.Column("enrolment_id", sa.BigInteger(), nullable=True))
    op.create_unique_constraint(op.f("uq_device_client_id"), "device", ["client_id"])
    op.create_index("ix_device_enrolment_id", "device", ["enrolment_id"], unique=False)
    op.create_foreign_key(op.f("fk_device_enrolment_id"), "device", "enrolment", ["enrolment_id"], ["id"])


def downgrade() -> None:
    for column in (
        "enrolment_id",
        "accepts_certificate",
        "client_id",
        "previous_until",
        "previous_alias",
        "previous_hash",
        "password_changed_at",
        "password_alias",
    ):
        op.drop_column("device", column)
    op.drop_table("enrolment")
