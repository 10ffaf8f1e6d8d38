"""What becomes of an alarm: its marks, when it was announced, what holds it, floods"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_HEARD = "maintenance.orders.alarm_orders.on_raised"


def upgrade() -> None:
    _moments = ("held_at", "announced_at", "next_at", "stale_at", "recovered_at")
    for name in ("is_latched", "is_shelved", "is_out_of_service", "is_chattering"):
        op.add_column("alarm", sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("alarm", sa.Column("suppressed_by", sa.String(length=12), nullable=True))
    for name in _moments:
        op.add_column("alarm", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    for name in ("reminders", "escalated", "realarms"):
        op.add_column("alarm", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("alarm", sa.Column("count_before", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "alarm",
        sa.Column("cycles", postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("alarm", sa.Column("parent_id", sa.BigInteger(), nullable=True))
    op.add_column("alarm", sa.Column("assignee_id", sa.BigInteger(), nullable=True))
    op.add_column("alarm", sa.Column("gateway_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_alarm_gateway_id"), "alarm", "device", ["gateway_id"], ["id"])
    op.create_foreign_key(op.f("fk_alarm_parent_id"), "alarm", "alarm", ["parent_id"], ["id"])
    op.create_foreign_key(op.f("fk_alarm_assignee_id"), "alarm", "account", ["assignee_id"], ["id"])
    op.create_index("ix_alarm_latched", "alarm", ["unit_id", "id"], postgresql_where=sa.text("is_latched"))
    op.create_index("ix_alarm_due", "alarm", ["next_at"], postgresql_where=sa.text("next_at IS NOT NULL"))
    op.create_index("ix_alarm_announced", "alarm", ["unit_id", "announced_at"])
    op.create_index(
        "ix_alarm_held",
        "alarm",
        ["suppressed_by", "id"],
        postgresql_where=sa.text("is_active AND suppressed_by IS NOT NULL"),
    )
    op.create_index("ix_alarm_parent", "alarm", ["parent_id"], postgresql_where=sa.text("parent_id IS NOT NULL"))
    for name in ("latches", "suppresses_below"):
        op.add_column("alarm_type", sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("alarm_type", sa.Column("suppressed_while", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    _holds()
    _floods()
    _tell_what_is_under_way()


def _holds() -> None:
    op.create_table(
        "alarm_hold",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=14), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=True),
        sa.Column("type_key", sa.String(length=80), nullable=True),
        sa.Column("asset_id", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("review_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_once", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(length=80), nullable=True),
        sa.CheckConstraint("kind IN ('shelved', 'suppressed', 'out_of_service')", name=op.f("ck_alarm_hold_kind")),
        sa.CheckConstraint("state IN ('planned', 'live', 'ended')", name=op.f("ck_alarm_hold_state")),
        sa.CheckConstraint("(asset_id IS NULL) <> (subject IS NULL)", name=op.f("ck_alarm_hold_one_target")),
        sa.CheckConstraint("until IS NOT NULL OR review_at IS NOT NULL OR is_once", name=op.f("ck_alarm_hold_ends")),
        sa.ForeignKeyConstraint(["asset_id"], ["asset.id"], name=op.f("fk_alarm_hold_asset_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_hold_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_hold_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_hold")),
    )
    live = sa.text("state = 'live'")
    op.create_index("ix_alarm_hold_fault", "alarm_hold", ["subject", "type_key"], postgresql_where=live)
    op.create_index("ix_alarm_hold_asset", "alarm_hold", ["asset_id"], postgresql_where=live)
    op.create_index("ix_alarm_hold_due", "alarm_hold", ["next_at"], postgresql_where=sa.text("next_at IS NOT NULL"))
    op.create_index(op.f("ix_alarm_hold_unit_id"), "alarm_hold", ["unit_id"])
    op.create_index(
        "uq_alarm_hold_fault",
        "alarm_hold",
        ["kind", "subject", "type_key"],
        unique=True,
        postgresql_where=sa.text("state = 'live' AND subject IS NOT NULL"),
    )
    op.create_index(
        "uq_alarm_hold_cause",
        "alarm_hold",
        ["cause", "asset_id"],
        unique=True,
        postgresql_where=sa.text("state = 'live' AND cause LIKE 'order:%'"),
    )


def _floods() -> None:
    op.create_table(
        "alarm_flood",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("alarm_id", sa.BigInteger(), nullable=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_flood_alarm_id")),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_flood_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_flood_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_flood")),
    )
    op.create_index(op.f("ix_alarm_flood_unit_id"), "alarm_flood", ["unit_id"])
    op.create_index(
        "uq_alarm_flood_open",
        "alarm_flood",
        ["unit_id", "subject"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _tell_what_is_under_way() -> None:
    """Alarms whose order is still to be opened are announced; who waited for their raise waits no more.

    What stands already counts as announced, since it was.
    """
    waiting = f"d.subscriber = '{_HEARD}' AND d.state <> 'done'"
    op.execute(
        "INSERT INTO event (kind, subject, unit_id, actor, at, payload, fanned_out)"  # noqa: S608 - no outside words
        " SELECT 'AlarmAnnounced', e.subject, e.unit_id, e.actor, e.at, e.payload || '{\"why\": \"raised\"}', false"
        " FROM event e WHERE e.kind = 'AlarmRaised' AND"
        f" (NOT e.fanned_out OR EXISTS (SELECT 1 FROM delivery d WHERE d.event_id = e.id AND {waiting}))"
        " ORDER BY e.id"
    )
    worse = "array_position(r.s, e.payload ->> 'after') < array_position(r.s, e.payload ->> 'before')"
    op.execute(
        "INSERT INTO event (kind, subject, unit_id, actor, at, payload, fanned_out)"  # noqa: S608
        " SELECT 'AlarmAnnounced', e.subject, e.unit_id, e.actor, e.at,"
        " jsonb_build_object('alarm_id', e.payload -> 'alarm_id', 'why', 'severity'), false"
        " FROM event e, (SELECT ARRAY['critical', 'major', 'minor', 'warning', 'info'] AS s) r"
        f" WHERE e.kind = 'AlarmSeverityChanged' AND {worse} AND (NOT e.fanned_out OR EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.event_id = e.id AND d.state <> 'done'"
        " AND d.subscriber = 'maintenance.orders.alarm_orders.on_severity_changed')) ORDER BY e.id"
    )
    gone = "('on_raised', 'on_severity_changed')"
    op.execute(
        "DELETE FROM delivery WHERE state <> 'done'"  # noqa: S608
        f" AND subscriber LIKE 'maintenance.orders.alarm_orders.%' AND split_part(subscriber, '.', 4) IN {gone}"
    )
    op.execute("UPDATE alarm SET announced_at = detected_at WHERE is_active")
