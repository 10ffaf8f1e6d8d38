"""The first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("seal", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("seq", name=op.f("uq_audit_entry_seq")),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"], unique=False)
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject", "id"], unique=False)
    op.create_index(
        "ix_audit_entry_unsealed", "audit_entry", ["id"], unique=False, postgresql_where=sa.text("seq IS NULL")
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=60), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fanned_out", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_subject", "event", ["subject", "id"], unique=False)
    op.create_index("ix_event_waiting", "event", ["id"], unique=False, postgresql_where=sa.text("NOT fanned_out"))
    op.create_table(
        "file",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=80), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file")),
    )
    op.create_index(op.f("ix_file_sha256"), "file", ["sha256"], unique=False)
    op.create_table(
        "idempotency_key",
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index(op.f("ix_idempotency_key_at"), "idempotency_key", ["at"], unique=False)
    op.create_table(
        "intake_count",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("duplicate", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "hour", name=op.f("pk_intake_count")),
    )
    op.create_table(
        "org_unit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("kind IN ('company', 'region', 'site')", name=op.f("ck_org_unit_kind")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_org_unit_company_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["org_unit.id"], name=op.f("fk_org_unit_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org_unit")),
    )
    op.create_index(op.f("ix_org_unit_company_id"), "org_unit", ["company_id"], unique=False)
    op.create_index(op.f("ix_org_unit_parent_id"), "org_unit", ["parent_id"], unique=False)
    op.create_index("ix_org_unit_path", "org_unit", ["path"], unique=False, postgresql_ops={"path": "text_pattern_ops"})
    op.create_table(
        "rate_window",
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "began_at", name=op.f("pk_rate_window")),
    )
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("device_id", "metric", name=op.f("uq_series_device_id_metric")),
    )
    op.create_table(
        "account",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("home_unit_id", sa.BigInteger(), nullable=False),
        sa.Column("username", sa.String(length=60), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=200), nullable=True),
        sa.Column("phone", sa.String(length=40), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("language", sa.String(length=5), nullable=False),
        sa.Column("zone", sa.String(length=60), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("failed_sign_ins", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_assigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("position_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_account_company_id")),
        sa.ForeignKeyConstraint(["home_unit_id"], ["org_unit.id"], name=op.f("fk_account_home_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("username", name=op.f("uq_account_username")),
    )
    op.create_index(op.f("ix_account_company_id"), "account", ["company_id"], unique=False)
    op.create_index(op.f("ix_account_home_unit_id"), "account", ["home_unit_id"], unique=False)
    op.create_table(
        "asset_type",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("icon", sa.String(length=40), nullable=False),
        sa.Column("skill", sa.String(length=40), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_asset_type_company_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["asset_type.id"], name=op.f("fk_asset_type_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset_type")),
        sa.UniqueConstraint("company_id", "key", name=op.f("uq_asset_type_company_id_key")),
    )
    op.create_table(
        "checklist",
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_checklist_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_checklist_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checklist")),
    )
    op.create_index(op.f("ix_checklist_unit_id"), "checklist", ["unit_id"], unique=False)
    op.create_table(
        "customer",
        sa.Column("tier", sa.String(length=20), nullable=False),
        sa.Column("contact_name", sa.String(length=100), nullable=True),
        sa.Column("contact_phone", sa.String(length=40), nullable=True),
        sa.Column("contact_email", sa.String(length=200), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_customer_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_customer_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
    )
    op.create_index(op.f("ix_customer_unit_id"), "customer", ["unit_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("subscriber", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'done', 'stuck')", name=op.f("ck_delivery_state")),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name=op.f("fk_delivery_event_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("event_id", "subscriber", name=op.f("uq_delivery_event_id_subscriber")),
    )
    op.create_index(
        "ix_delivery_due", "delivery", ["next_at", "id"], unique=False, postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index("ix_delivery_stuck", "delivery", ["id"], unique=False, postgresql_where=sa.text("state = 'stuck'"))
    op.create_table(
        "device",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("gateway_id", sa.BigInteger(), nullable=True),
        sa.Column("is_online", sa.Boolean(), nullable=False),
        sa.Column("online_changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_device_company_id")),
        sa.ForeignKeyConstraint(["gateway_id"], ["device.id"], name=op.f("fk_device_gateway_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_device_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("key", name=op.f("uq_device_key")),
    )
    op.create_index(op.f("ix_device_gateway_id"), "device", ["gateway_id"], unique=False)
    op.create_index(op.f("ix_device_unit_id"), "device", ["unit_id"], unique=False)
    op.create_table(
        "order_type",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("requires", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("auto_verify", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_order_type_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_type")),
        sa.UniqueConstraint("company_id", "key", name=op.f("uq_order_type_company_id_key")),
    )
    op.create_table(
        "part",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.String(length=60), nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.Column("category", sa.String(length=60), nullable=False),
        sa.Column("barcode", sa.String(length=80), nullable=True),
        sa.Column("reorder_level", sa.Numeric(precision=18, scale=6), nullable=True),
        sa.Column("reorder_quantity", sa.Numeric(precision=18, scale=6), nullable=True),
        sa.Column("lead_days", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_part_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_part")),
        sa.UniqueConstraint("company_id", "number", name=op.f("uq_part_company_id_number")),
    )
    op.create_index(op.f("ix_part_barcode"), "part", ["barcode"], unique=False)
    op.create_table(
        "place",
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("kind IN ('warehouse', 'shelf', 'bin', 'van')", name=op.f("ck_place_kind")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_place_company_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["place.id"], name=op.f("fk_place_parent_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_place_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_place")),
        sa.UniqueConstraint("company_id", "code", name=op.f("uq_place_company_id_code")),
    )
    op.create_index(op.f("ix_place_parent_id"), "place", ["parent_id"], unique=False)
    op.create_index(op.f("ix_place_unit_id"), "place", ["unit_id"], unique=False)
    op.create_table(
        "rejected_message",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("topic", sa.String(length=1000), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("device_key", sa.String(length=200), nullable=True),
        sa.Column("unit_id", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.String(length=400), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("replay_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replayed_by", sa.String(length=80), nullable=True),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_rejected_message_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_message")),
    )
    op.create_index(
        "ix_rejected_message_asked",
        "rejected_message",
        ["id"],
        unique=False,
        postgresql_where=sa.text("replay_asked_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_rejected_message_device_key"), "rejected_message", ["device_key"], unique=False)
    op.create_index(
        "ix_rejected_message_open",
        "rejected_message",
        ["id"],
        unique=False,
        postgresql_where=sa.text("replayed_at IS NULL"),
    )
    op.create_index(op.f("ix_rejected_message_unit_id"), "rejected_message", ["unit_id"], unique=False)
    op.create_index("uq_rejected_message_digest", "rejected_message", ["digest"], unique=True)
    op.create_table(
        "role",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("rights", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_role_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role")),
    )
    op.create_index("uq_role_key", "role", ["key", "company_id"], unique=True, postgresql_nulls_not_distinct=True)
    op.create_table(
        "site",
        sa.Column("zone", sa.String(length=60), nullable=False),
        sa.Column("address", sa.String(length=300), nullable=False),
        sa.Column("latitude", sa.Double(), nullable=True),
        sa.Column("longitude", sa.Double(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_site_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_site_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
    )
    op.create_index(op.f("ix_site_unit_id"), "site", ["unit_id"], unique=False)
    op.create_table(
        "skill",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_skill_company_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_skill")),
        sa.UniqueConstraint("company_id", "key", name=op.f("uq_skill_company_id_key")),
    )
    op.create_table(
        "team",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_team_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_team_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_team")),
    )
    op.create_index(op.f("ix_team_unit_id"), "team", ["unit_id"], unique=False)
    op.create_table(
        "absence",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_absence_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_absence")),
    )
    op.create_index(op.f("ix_absence_account_id"), "absence", ["account_id"], unique=False)
    op.create_table(
        "account_skill",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("skill_id", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_account_skill_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["skill_id"], ["skill.id"], name=op.f("fk_account_skill_skill_id")),
        sa.PrimaryKeyConstraint("account_id", "skill_id", name=op.f("pk_account_skill")),
    )
    op.create_table(
        "checklist_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("checklist_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("items", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["checklist_id"], ["checklist.id"], name=op.f("fk_checklist_version_checklist_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checklist_version")),
        sa.UniqueConstraint("checklist_id", "number", name=op.f("uq_checklist_version_checklist_id_number")),
    )
    op.create_table(
        "location",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["location.id"], name=op.f("fk_location_parent_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_location_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_location")),
    )
    op.create_index(op.f("ix_location_parent_id"), "location", ["parent_id"], unique=False)
    op.create_index(op.f("ix_location_site_id"), "location", ["site_id"], unique=False)
    op.create_table(
        "membership",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("role_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_membership_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["role_id"], ["role.id"], name=op.f("fk_membership_role_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_membership_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("account_id", "role_id", "unit_id", name=op.f("uq_membership_account_id_role_id_unit_id")),
    )
    op.create_index(op.f("ix_membership_account_id"), "membership", ["account_id"], unique=False)
    op.create_table(
        "metric",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("type_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("expected_interval_s", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("kind IN ('gauge', 'counter', 'state', 'text')", name=op.f("ck_metric_kind")),
        sa.ForeignKeyConstraint(["type_id"], ["asset_type.id"], name=op.f("fk_metric_type_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric")),
        sa.UniqueConstraint("type_id", "key", name=op.f("uq_metric_type_id_key")),
    )
    op.create_table(
        "shift",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("weekdays", postgresql.ARRAY(sa.INTEGER()), nullable=False),
        sa.Column("starts", sa.Time(), nullable=False),
        sa.Column("ends", sa.Time(), nullable=False),
        sa.Column("zone", sa.String(length=60), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_shift_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shift")),
    )
    op.create_index("ix_shift_account", "shift", ["account_id", "valid_from"], unique=False)
    op.create_table(
        "sign_in",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("csrf_token", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.String(length=60), nullable=False),
        sa.Column("agent", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_sign_in_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_sign_in_secret_hash")),
    )
    op.create_index(op.f("ix_sign_in_account_id"), "sign_in", ["account_id"], unique=False)
    op.create_index(op.f("ix_sign_in_expires_at"), "sign_in", ["expires_at"], unique=False)
    op.create_table(
        "stock",
        sa.Column("part_id", sa.BigInteger(), nullable=False),
        sa.Column("place_id", sa.BigInteger(), nullable=False),
        sa.Column("on_hand", sa.Numeric(precision=18, scale=6), nullable=False),
        sa.Column("committed", sa.Numeric(precision=18, scale=6), nullable=False),
        sa.Column("average_cost", sa.Numeric(precision=18, scale=4), nullable=False),
        sa.CheckConstraint("committed >= 0 AND committed <= on_hand", name=op.f("ck_stock_committed_within_on_hand")),
        sa.CheckConstraint("on_hand >= 0", name=op.f("ck_stock_on_hand_not_negative")),
        sa.ForeignKeyConstraint(["part_id"], ["part.id"], name=op.f("fk_stock_part_id")),
        sa.ForeignKeyConstraint(["place_id"], ["place.id"], name=op.f("fk_stock_place_id")),
        sa.PrimaryKeyConstraint("part_id", "place_id", name=op.f("pk_stock")),
    )
    op.create_index(op.f("ix_stock_place_id"), "stock", ["place_id"], unique=False)
    op.create_table(
        "team_member",
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_team_member_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name=op.f("fk_team_member_team_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("team_id", "account_id", name=op.f("pk_team_member")),
    )
    op.create_index(op.f("ix_team_member_account_id"), "team_member", ["account_id"], unique=False)
    op.create_table(
        "token",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("rights", postgresql.ARRAY(sa.String(length=40)), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_token_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_token_secret_hash")),
    )
    op.create_index(op.f("ix_token_account_id"), "token", ["account_id"], unique=False)
    op.create_table(
        "asset",
        sa.Column("code", sa.String(length=60), nullable=False),
        sa.Column("type_id", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("location_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("path", sa.String(length=300), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("criticality", sa.Integer(), nullable=False),
        sa.Column("manufacturer", sa.String(length=100), nullable=True),
        sa.Column("model", sa.String(length=100), nullable=True),
        sa.Column("serial", sa.String(length=100), nullable=True),
        sa.Column("commissioned_on", sa.Date(), nullable=True),
        sa.Column("warranty_until", sa.Date(), nullable=True),
        sa.Column("photo_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint(
            "status IN ('planned', 'in_service', 'out_of_service', 'scrapped')", name=op.f("ck_asset_status")
        ),
        sa.CheckConstraint("criticality BETWEEN 1 AND 4", name=op.f("ck_asset_criticality")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_asset_company_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_asset_customer_id")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("fk_asset_location_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["asset.id"], name=op.f("fk_asset_parent_id")),
        sa.ForeignKeyConstraint(["photo_id"], ["file.id"], name=op.f("fk_asset_photo_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_asset_site_id")),
        sa.ForeignKeyConstraint(["type_id"], ["asset_type.id"], name=op.f("fk_asset_type_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_asset_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
        sa.UniqueConstraint("company_id", "code", name=op.f("uq_asset_company_id_code")),
    )
    op.create_index(op.f("ix_asset_customer_id"), "asset", ["customer_id"], unique=False)
    op.create_index(op.f("ix_asset_location_id"), "asset", ["location_id"], unique=False)
    op.create_index(op.f("ix_asset_parent_id"), "asset", ["parent_id"], unique=False)
    op.create_index("ix_asset_path", "asset", ["path"], unique=False, postgresql_ops={"path": "text_pattern_ops"})
    op.create_index(op.f("ix_asset_site_id"), "asset", ["site_id"], unique=False)
    op.create_index(op.f("ix_asset_type_id"), "asset", ["type_id"], unique=False)
    op.create_index(op.f("ix_asset_unit_id"), "asset", ["unit_id"], unique=False)
    op.create_table(
        "alarm_type",
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("asset_type_id", sa.BigInteger(), nullable=True),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("order_from", sa.String(length=10), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("(asset_type_id IS NULL) <> (asset_id IS NULL)", name=op.f("ck_alarm_type_one_target")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_alarm_type_asset_id")),
        sa.ForeignKeyConstraint(["asset_type_id"], ["asset_type.id"], name=op.f("fk_alarm_type_asset_type_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_type_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_type_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_type")),
        sa.UniqueConstraint("company_id", "key", name=op.f("uq_alarm_type_company_id_key")),
    )
    op.create_index(op.f("ix_alarm_type_asset_id"), "alarm_type", ["asset_id"], unique=False)
    op.create_index(op.f("ix_alarm_type_asset_type_id"), "alarm_type", ["asset_type_id"], unique=False)
    op.create_index(op.f("ix_alarm_type_changed_at"), "alarm_type", ["changed_at"], unique=False)
    op.create_index(op.f("ix_alarm_type_unit_id"), "alarm_type", ["unit_id"], unique=False)
    op.create_table(
        "binding",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_binding_asset_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_binding_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_binding")),
    )
    op.create_index("ix_binding_asset", "binding", ["asset_id"], unique=False)
    op.create_index(
        "uq_binding_device_current", "binding", ["device_id"], unique=True, postgresql_where=sa.text("ends_at IS NULL")
    )
    op.create_table(
        "plan",
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("order_type_id", sa.BigInteger(), nullable=False),
        sa.Column("checklist_id", sa.BigInteger(), nullable=True),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("skill", sa.String(length=40), nullable=True),
        sa.Column("rrule", sa.String(length=300), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("at_time", sa.Time(), nullable=False),
        sa.Column("zone", sa.String(length=60), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("lead_days", sa.Integer(), nullable=False),
        sa.Column("estimated_minutes", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("catch_up", sa.String(length=5), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("name_zh", sa.String(length=200), nullable=True),
        sa.CheckConstraint("catch_up IN ('once', 'all', 'skip')", name=op.f("ck_plan_catch_up")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_plan_asset_id")),
        sa.ForeignKeyConstraint(["checklist_id"], ["checklist.id"], name=op.f("fk_plan_checklist_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_plan_company_id")),
        sa.ForeignKeyConstraint(["order_type_id"], ["order_type.id"], name=op.f("fk_plan_order_type_id")),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name=op.f("fk_plan_team_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_plan_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
    )
    op.create_index(op.f("ix_plan_asset_id"), "plan", ["asset_id"], unique=False)
    op.create_index("ix_plan_due", "plan", ["next_due_at"], unique=False, postgresql_where=sa.text("is_active"))
    op.create_index(op.f("ix_plan_unit_id"), "plan", ["unit_id"], unique=False)
    op.create_table(
        "tag",
        sa.Column("token", sa.String(length=60), nullable=False),
        sa.Column("code", sa.String(length=20), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.String(length=80), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_tag_asset_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_tag_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_tag_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag")),
        sa.UniqueConstraint("code", name=op.f("uq_tag_code")),
        sa.UniqueConstraint("token", name=op.f("uq_tag_token")),
    )
    op.create_index("ix_tag_asset", "tag", ["asset_id"], unique=False, postgresql_where=sa.text("revoked_at IS NULL"))
    op.create_index(op.f("ix_tag_unit_id"), "tag", ["unit_id"], unique=False)
    op.create_table(
        "alarm",
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("type_key", sa.String(length=80), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=True),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.String(length=10), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("peak_severity", sa.String(length=10), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_acknowledged", sa.Boolean(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=80), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=80), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("peak_value", sa.Double(), nullable=True),
        sa.Column("limit", sa.Double(), nullable=True),
        sa.Column("rule_version", sa.Integer(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_id", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "severity IN ('critical', 'major', 'minor', 'warning', 'info')", name=op.f("ck_alarm_severity")
        ),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_alarm_alarm_type_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_alarm_asset_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_company_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_alarm_device_id")),
        sa.ForeignKeyConstraint(["previous_id"], ["alarm.id"], name=op.f("fk_alarm_previous_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index("ix_alarm_asset", "alarm", ["asset_id", "id"], unique=False)
    op.create_index("ix_alarm_device", "alarm", ["device_id", "id"], unique=False)
    op.create_index("ix_alarm_latest", "alarm", ["subject", "type_key", "id"], unique=False)
    op.create_index(
        "ix_alarm_listed",
        "alarm",
        ["unit_id", "id"],
        unique=False,
        postgresql_where=sa.text("is_active OR NOT is_acknowledged"),
    )
    op.create_index(op.f("ix_alarm_unit_id"), "alarm", ["unit_id"], unique=False)
    op.create_index(
        "uq_alarm_open", "alarm", ["subject", "type_key"], unique=True, postgresql_where=sa.text("is_active")
    )
    op.create_table(
        "rule_override",
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("patch", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_rule_override_alarm_type_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_rule_override_asset_id")),
        sa.PrimaryKeyConstraint("alarm_type_id", "asset_id", name=op.f("pk_rule_override")),
    )
    op.create_index(op.f("ix_rule_override_asset_id"), "rule_override", ["asset_id"], unique=False)
    op.create_table(
        "rule_state",
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_rule_state_alarm_type_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_rule_state_asset_id")),
        sa.PrimaryKeyConstraint("alarm_type_id", "asset_id", name=op.f("pk_rule_state")),
    )
    op.create_table(
        "rule_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("alarm_type_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("definition", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["alarm_type_id"], ["alarm_type.id"], name=op.f("fk_rule_version_alarm_type_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_version")),
        sa.UniqueConstraint("alarm_type_id", "number", name=op.f("uq_rule_version_alarm_type_id_number")),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tag_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=True),
        sa.Column("address", sa.String(length=60), nullable=False),
        sa.Column("agent", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_scan_account_id")),
        sa.ForeignKeyConstraint(["tag_id"], ["tag.id"], name=op.f("fk_scan_tag_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scan")),
    )
    op.create_index(op.f("ix_scan_tag_id"), "scan", ["tag_id"], unique=False)
    op.create_table(
        "alarm_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("alarm_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("text", sa.String(length=2000), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_entry_alarm_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_entry")),
    )
    op.create_index(op.f("ix_alarm_entry_alarm_id"), "alarm_entry", ["alarm_id"], unique=False)
    op.create_table(
        "alarm_report",
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_orphan", sa.Boolean(), nullable=False),
        sa.Column("alarm_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_report_alarm_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_alarm_report_device_id")),
        sa.PrimaryKeyConstraint("device_id", "seq", name=op.f("pk_alarm_report")),
    )
    op.create_table(
        "work_order",
        sa.Column("number", sa.String(length=20), nullable=False),
        sa.Column("type_id", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=10), nullable=False),
        sa.Column("phase", sa.String(length=12), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("title_zh", sa.String(length=200), nullable=True),
        sa.Column("description", sa.String(length=4000), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("alarm_id", sa.BigInteger(), nullable=True),
        sa.Column("fault_key", sa.String(length=140), nullable=True),
        sa.Column("previous_id", sa.BigInteger(), nullable=True),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("skill", sa.String(length=40), nullable=True),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("assignee_id", sa.BigInteger(), nullable=True),
        sa.Column("in_pool", sa.Boolean(), nullable=False),
        sa.Column("pool_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refused_by", postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("estimated_minutes", sa.Integer(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("assigned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("departed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_s", sa.Integer(), nullable=False),
        sa.Column("recovered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finding", sa.String(length=20), nullable=True),
        sa.Column("resolution", sa.String(length=4000), nullable=True),
        sa.Column("rework", sa.Integer(), nullable=False),
        sa.Column("parts_cost", sa.Numeric(precision=18, scale=4), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "phase IN ('new', 'assigned', 'accepted', 'travelling', 'on_site', 'working', 'paused', 'done', 'verified', 'closed', 'cancelled')",
            name=op.f("ck_work_order_phase"),
        ),
        sa.CheckConstraint("priority BETWEEN 1 AND 4", name=op.f("ck_work_order_priority")),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_work_order_alarm_id")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_work_order_asset_id")),
        sa.ForeignKeyConstraint(["assignee_id"], ["account.id"], name=op.f("fk_work_order_assignee_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_work_order_company_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_work_order_customer_id")),
        sa.ForeignKeyConstraint(["previous_id"], ["work_order.id"], name=op.f("fk_work_order_previous_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_work_order_site_id")),
        sa.ForeignKeyConstraint(["team_id"], ["team.id"], name=op.f("fk_work_order_team_id")),
        sa.ForeignKeyConstraint(["type_id"], ["order_type.id"], name=op.f("fk_work_order_type_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_work_order_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_order")),
        sa.UniqueConstraint("company_id", "number", name=op.f("uq_work_order_company_id_number")),
    )
    op.create_index(op.f("ix_work_order_alarm_id"), "work_order", ["alarm_id"], unique=False)
    op.create_index("ix_work_order_asset", "work_order", ["asset_id", "id"], unique=False)
    op.create_index("ix_work_order_assignee", "work_order", ["assignee_id", "phase"], unique=False)
    op.create_index(op.f("ix_work_order_due_at"), "work_order", ["due_at"], unique=False)
    op.create_index(
        "ix_work_order_fault_ended",
        "work_order",
        ["fault_key", "id"],
        unique=False,
        postgresql_where=sa.text("fault_key IS NOT NULL AND phase = 'closed'"),
    )
    op.create_index("ix_work_order_listed", "work_order", ["unit_id", "id"], unique=False)
    op.create_index(
        "ix_work_order_open",
        "work_order",
        ["unit_id", "priority", "id"],
        unique=False,
        postgresql_where=sa.text("phase NOT IN ('closed', 'cancelled')"),
    )
    op.create_index(
        "ix_work_order_pool", "work_order", ["pool_until"], unique=False, postgresql_where=sa.text("in_pool")
    )
    op.create_index(op.f("ix_work_order_team_id"), "work_order", ["team_id"], unique=False)
    op.create_index(op.f("ix_work_order_unit_id"), "work_order", ["unit_id"], unique=False)
    op.create_index(
        "uq_work_order_open_fault",
        "work_order",
        ["fault_key"],
        unique=True,
        postgresql_where=sa.text("fault_key IS NOT NULL AND phase NOT IN ('closed', 'cancelled')"),
    )
    op.create_table(
        "assignment",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("decision_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_assignment_account_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_assignment_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
    )
    op.create_index(op.f("ix_assignment_account_id"), "assignment", ["account_id"], unique=False)
    op.create_index(op.f("ix_assignment_order_id"), "assignment", ["order_id"], unique=False)
    op.create_table(
        "check_result",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("item_key", sa.String(length=60), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("verdict", sa.String(length=5), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.CheckConstraint("verdict IN ('pass', 'flag', 'fail')", name=op.f("ck_check_result_verdict")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_check_result_order_id")),
        sa.PrimaryKeyConstraint("order_id", "item_key", name=op.f("pk_check_result")),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mode", sa.String(length=12), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("inputs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("candidates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("chosen_id", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("is_override", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["chosen_id"], ["account.id"], name=op.f("fk_decision_chosen_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_decision_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_order_id"), "decision", ["order_id"], unique=False)
    op.create_table(
        "movement",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("part_id", sa.BigInteger(), nullable=False),
        sa.Column("place_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=18, scale=6), nullable=False),
        sa.Column("unit_cost", sa.Numeric(precision=18, scale=4), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("reverses_id", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.String(length=100), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("idempotency_key", sa.String(length=120), nullable=True),
        sa.CheckConstraint(
            "kind IN ('receive', 'issue', 'return', 'transfer', 'count', 'scrap', 'reverse')",
            name=op.f("ck_movement_kind"),
        ),
        sa.CheckConstraint("quantity <> 0", name=op.f("ck_movement_quantity_not_zero")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_movement_order_id")),
        sa.ForeignKeyConstraint(["part_id"], ["part.id"], name=op.f("fk_movement_part_id")),
        sa.ForeignKeyConstraint(["place_id"], ["place.id"], name=op.f("fk_movement_place_id")),
        sa.ForeignKeyConstraint(["reverses_id"], ["movement.id"], name=op.f("fk_movement_reverses_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_movement")),
    )
    op.create_index("ix_movement_order", "movement", ["order_id"], unique=False)
    op.create_index("ix_movement_part", "movement", ["part_id", "place_id", "id"], unique=False)
    op.create_index(
        "uq_movement_key",
        "movement",
        ["idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "occurrence",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("policy", sa.String(length=5), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('ordered', 'missed', 'skipped')", name=op.f("ck_occurrence_state")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_occurrence_order_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["plan.id"], name=op.f("fk_occurrence_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occurrence")),
        sa.UniqueConstraint("plan_id", "key", name=op.f("uq_occurrence_plan_id_key")),
    )
    op.create_index("ix_occurrence_due", "occurrence", ["due_at"], unique=False)
    op.create_index(op.f("ix_occurrence_order_id"), "occurrence", ["order_id"], unique=False)
    op.create_table(
        "order_checklist",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_order_checklist_order_id")),
        sa.ForeignKeyConstraint(["version_id"], ["checklist_version.id"], name=op.f("fk_order_checklist_version_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_order_checklist")),
    )
    op.create_table(
        "request",
        sa.Column("number", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("origin", sa.String(length=10), nullable=False),
        sa.Column("asset_id", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(length=2000), nullable=False),
        sa.Column("contact_name", sa.String(length=100), nullable=True),
        sa.Column("contact_phone", sa.String(length=40), nullable=True),
        sa.Column("contact_email", sa.String(length=200), nullable=True),
        sa.Column("language", sa.String(length=5), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=80), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("track_hash", sa.String(length=64), nullable=False),
        sa.Column("track_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("track_revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("rating_text", sa.String(length=1000), nullable=True),
        sa.Column("rated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('new', 'held', 'accepted', 'joined', 'declined', 'withdrawn')", name=op.f("ck_request_state")
        ),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_request_asset_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_request_company_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_request_order_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_request_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
        sa.UniqueConstraint("company_id", "number", name=op.f("uq_request_company_id_number")),
        sa.UniqueConstraint("track_hash", name=op.f("uq_request_track_hash")),
    )
    op.create_index(op.f("ix_request_asset_id"), "request", ["asset_id"], unique=False)
    op.create_index(
        "ix_request_open",
        "request",
        ["unit_id", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('new', 'held')"),
    )
    op.create_index(op.f("ix_request_order_id"), "request", ["order_id"], unique=False)
    op.create_index(op.f("ix_request_unit_id"), "request", ["unit_id"], unique=False)
    op.create_table(
        "reservation",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("part_id", sa.BigInteger(), nullable=False),
        sa.Column("place_id", sa.BigInteger(), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=18, scale=6), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.CheckConstraint(
            "state IN ('planned', 'reserved', 'picked', 'staged', 'issued', 'released')",
            name=op.f("ck_reservation_state"),
        ),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_reservation_quantity_positive")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_reservation_order_id")),
        sa.ForeignKeyConstraint(["part_id"], ["part.id"], name=op.f("fk_reservation_part_id")),
        sa.ForeignKeyConstraint(["place_id"], ["place.id"], name=op.f("fk_reservation_place_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservation")),
    )
    op.create_index(
        "ix_reservation_open",
        "reservation",
        ["part_id", "place_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('reserved', 'picked', 'staged')"),
    )
    op.create_index("ix_reservation_order", "reservation", ["order_id"], unique=False)
    op.create_table(
        "entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("actor_name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("text", sa.String(length=4000), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("order_id IS NOT NULL OR request_id IS NOT NULL", name=op.f("ck_entry_has_subject")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_entry_file_id")),
        sa.ForeignKeyConstraint(["order_id"], ["work_order.id"], name=op.f("fk_entry_order_id")),
        sa.ForeignKeyConstraint(["request_id"], ["request.id"], name=op.f("fk_entry_request_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entry")),
    )
    op.create_index("ix_entry_order", "entry", ["order_id", "id"], unique=False)
    op.create_index("ix_entry_request", "entry", ["request_id", "id"], unique=False)
    for statement in LAST:
        op.execute(statement)


# What the models cannot say: the ledger and the audit trail only grow, and the chain has its first link.
LAST = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END $$
    """,
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON movement FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON rule_version FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON checklist_version FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER sealed BEFORE UPDATE ON audit_entry FOR EACH ROW WHEN (OLD.seq IS NOT NULL) EXECUTE FUNCTION refuse_change()",
    "CREATE TRIGGER append_only BEFORE DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    r"INSERT INTO audit_head (id, seq, seal) VALUES (1, 0, '\x')",
)
