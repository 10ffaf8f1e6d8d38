"""The announced alarms of whole weeks, set aside for the figures of a year"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_WEEK = "date_bin('7 days', {alarm}.detected_at, timestamptz '2001-01-01 00:00:00+00')"
_SEEN = ("unit_id", "detected_at", "severity", "is_acknowledged", "acknowledged_at", "raised_at", "ended_at",
         "subject", "type_key")  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "alarm_week",
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("records", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.BigInteger(), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["company_id"], ["org_unit.id"], name=op.f("fk_alarm_week_company_id")),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_week_unit_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_week")),
        sa.UniqueConstraint("unit_id", "began_at", name=op.f("uq_alarm_week_unit_id_began_at")),
    )
    op.create_index(op.f("ix_alarm_week_unit_id"), "alarm_week", ["unit_id"])
    # Numbers hardly compress, and trying costs more than reading them.
    op.execute("ALTER TABLE alarm_week ALTER COLUMN records SET STORAGE EXTERNAL")
    op.create_table(
        "alarm_week_fault",
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("type_key", sa.String(length=80), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("latest_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["unit_id"], ["org_unit.id"], name=op.f("fk_alarm_week_fault_unit_id")),
        sa.PrimaryKeyConstraint("unit_id", "began_at", "subject", "type_key", name=op.f("pk_alarm_week_fault")),
    )
    op.create_table(
        "alarm_week_touched",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("unit_id", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_week_touched")),
    )
    op.create_index("ix_alarm_week_touched_week", "alarm_week_touched", ["began_at", "unit_id"])
    op.create_index(
        "ix_alarm_of_week", "alarm", ["unit_id", "detected_at"], postgresql_where=sa.text("announced_at IS NOT NULL")
    )
    # Alarms that were over at once, in the order in which they came: which of them chattered is one walk along it.
    op.create_index(
        "ix_alarm_brief",
        "alarm",
        ["subject", "type_key", "raised_at", "id"],
        postgresql_include=["ended_at", "detected_at"],
        postgresql_where=sa.text("ended_at - raised_at <= interval '1 minute'"),
    )
    op.create_index(
        "ix_alarm_long", "alarm", ["ended_at"], postgresql_where=sa.text("ended_at - raised_at > interval '1 day'")
    )
    _watch()
    op.execute(
        "INSERT INTO alarm_week_touched (unit_id, began_at)"  # noqa: S608 - our own words
        f" SELECT DISTINCT unit_id, {_WEEK.format(alarm='alarm')} FROM alarm WHERE announced_at IS NOT NULL"
    )


def _watch() -> None:
    """Let the database note whatever changes a figure, whoever changes it: in bulk for what comes and goes, and a
    row at a time for what changes, where the condition keeps all other changes free."""
    note = "INSERT INTO alarm_week_touched (unit_id, began_at) SELECT DISTINCT unit_id, {week} FROM {rows} touched"
    for name, rows in (("come", "came"), ("go", "went")):
        op.execute(
            f"""
            CREATE FUNCTION note_alarms_that_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                {note.format(week=_WEEK.format(alarm="touched"), rows=rows)} WHERE announced_at IS NOT NULL;
                RETURN NULL;
            END $$
            """
        )
    op.execute(
        f"""
        CREATE FUNCTION note_alarm_that_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO alarm_week_touched (unit_id, began_at)
            SELECT DISTINCT one.unit_id, one.week FROM (VALUES
                (OLD.unit_id, {_WEEK.format(alarm="OLD")}, OLD.announced_at),
                (NEW.unit_id, {_WEEK.format(alarm="NEW")}, NEW.announced_at)
            ) one (unit_id, week, announced_at) WHERE one.announced_at IS NOT NULL;
            RETURN NULL;
        END $$
        """  # noqa: S608 - our own words
    )
    old, new = (", ".join(f"{row}.{name}" for name in _SEEN) for row in ("OLD", "NEW"))
    op.execute(
        f"""
        CREATE TRIGGER week_is_touched AFTER UPDATE ON alarm FOR EACH ROW
        WHEN ((OLD.announced_at IS NULL) <> (NEW.announced_at IS NULL)
              OR NEW.announced_at IS NOT NULL AND ({old}) IS DISTINCT FROM ({new}))
        EXECUTE FUNCTION note_alarm_that_changed()
        """
    )
    for verb, name, rows in (("INSERT", "come", "NEW TABLE AS came"), ("DELETE", "go", "OLD TABLE AS went")):
        op.execute(
            f"CREATE TRIGGER week_is_touched_by_{name} AFTER {verb} ON alarm REFERENCING {rows}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION note_alarms_that_{name}()"
        )


def downgrade() -> None:
    for name in ("week_is_touched", "week_is_touched_by_come", "week_is_touched_by_go"):
        op.execute(f"DROP TRIGGER {name} ON alarm")
    for name in ("note_alarm_that_changed", "note_alarms_that_come", "note_alarms_that_go"):
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_index("ix_alarm_long", table_name="alarm")
    op.drop_index("ix_alarm_brief", table_name="alarm")
    op.drop_index("ix_alarm_of_week", table_name="alarm")
    for name in ("alarm_week_touched", "alarm_week_fault", "alarm_week"):
        op.drop_table(name)
