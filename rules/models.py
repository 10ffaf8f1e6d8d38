"""Alarm types with their rule versions, the state of rules that run or count, and alarms.

There is at most one open alarm for one thing and type; the partial unique index says so (promise P1).
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset, AssetType, Device
from kernel.db import Id, Json, Named, Row
from kernel.jobs import Job
from people.models import Account, Scoped

SEVERITIES = ("critical", "major", "minor", "warning", "info")
"""From most to least severe."""


class AlarmType(Scoped, Named, Row):
    """A named alarm for an asset type, or for one asset; its conditions live in versions."""

    __tablename__ = "alarm_type"
    __table_args__ = (
        UniqueConstraint("company_id", "key"),
        CheckConstraint("(asset_type_id IS NULL) <> (asset_id IS NULL)", name="one_target"),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(String(60))
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id"), index=True)
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"), index=True)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    version: Mapped[int] = mapped_column(default=1)
    """The number of the rule version in force."""
    latches: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether its alarms need a person's reset after they cleared."""
    suppresses_below: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether an open alarm of it explains those of all parts of its asset, which are then suppressed."""
    suppressed_while: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    """The plant state in which its alarms mean nothing: ``{"attribute": "mode", "in": ["off", "standby"]}``."""
    changed_at: Mapped[datetime] = mapped_column(index=True)
    removed_at: Mapped[datetime | None]
    """When it was removed; what it raised still tells why, so the row and its versions stay."""

    asset_type: Mapped[AssetType | None] = relationship()


class RuleVersion(Row):
    """The conditions of an alarm type as they were from one edit to the next; the database lets nobody change one."""

    __tablename__ = "rule_version"
    __table_args__ = (UniqueConstraint("alarm_type_id", "number"),)

    id: Mapped[Id]
    alarm_type_id: Mapped[int] = mapped_column(ForeignKey("alarm_type.id"))
    number: Mapped[int]
    definition: Mapped[Json]
    author: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]


class RuleOverride(Row):
    """What one asset does differently: a patch of limits, deadband or durations."""

    __tablename__ = "rule_override"

    alarm_type_id: Mapped[int] = mapped_column(ForeignKey("alarm_type.id"), primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True, index=True)
    patch: Mapped[Json]
    author: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]


class RuleState(Row):
    """The state of one rule on one asset, kept only while something runs, counts or is open."""

    __tablename__ = "rule_state"

    alarm_type_id: Mapped[int] = mapped_column(ForeignKey("alarm_type.id"), primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    state: Mapped[Json]


class LateSpan(Row):
    """Samples of a rule on an asset that came late and wait to be judged at their own time: from the first to the last.

    ``since`` and ``until`` are device time. ``revision`` counts what was added, so that nothing that came while a
    span was judged is forgotten with it.
    """

    __tablename__ = "late_span"
    __table_args__ = (Index("ix_late_span_due", "due_at"),)

    alarm_type_id: Mapped[int] = mapped_column(ForeignKey("alarm_type.id"), primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    since: Mapped[datetime]
    until: Mapped[datetime]
    revision: Mapped[int] = mapped_column(BigInteger, default=1)
    noted_at: Mapped[datetime]
    """When the first of it came; server time."""
    due_at: Mapped[datetime]
    """When it is judged: a moment after the last of it came."""


class PassedReading(Row):
    """A reading that a rule on an asset waits for, and another worker heard; see ``rules.passed``.

    ``is_derived``: worked out on the asset itself, for all its rules. ``is_past``: sent as history. ``is_taken``: it
    has been evaluated, as the newest of its series, and stays so that whoever evaluates the asset next knows.
    """

    __tablename__ = "passed_reading"
    __table_args__ = (Index("ix_passed_reading_waiting", "at", postgresql_where=text("NOT is_taken")),)

    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True)
    series_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    ts_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    is_derived: Mapped[bool] = mapped_column(primary_key=True)
    value: Mapped[float]
    said: Mapped[str | None] = mapped_column("text", Text)
    is_past: Mapped[bool]
    is_taken: Mapped[bool] = mapped_column(default=False)
    at: Mapped[datetime]
    """When it was passed on, or taken; server time."""


class Backtest(Job, Row):
    """A definition on its way over stored history: what was asked for, and how far it has come."""

    __tablename__ = "backtest"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"),
        Index("ix_backtest_open", "id", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_backtest_account", "account_id", "id"),
    )

    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    actor: Mapped[str] = mapped_column(String(80))
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id"))
    name: Mapped[str] = mapped_column(String(200))
    wanted: Mapped[Json]
    """What was asked for, as ``rules.backtests.Wanted`` reads it."""
    assets: Mapped[int]
    done: Mapped[int] = mapped_column(default=0)
    """Assets that are through."""
    trouble: Mapped[str | None] = mapped_column(String(300))
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    @property
    def percent(self) -> int:
        """How much of it is through."""
        return 100 * self.done // max(self.assets, 1)


class BacktestAsset(Row):
    """What one side of a backtest, ``draft`` or ``current``, comes to on one asset."""

    __tablename__ = "backtest_asset"
    __table_args__ = (CheckConstraint("side IN ('draft', 'current')", name="side"),)

    backtest_id: Mapped[int] = mapped_column(ForeignKey("backtest.id", ondelete="CASCADE"), primary_key=True)
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    side: Mapped[str] = mapped_column(String(10), primary_key=True)
    samples: Mapped[int] = mapped_column(BigInteger)
    alarms: Mapped[int]
    orders: Mapped[int]
    """Orders it would have opened."""
    active_ms: Mapped[int] = mapped_column(BigInteger)


class BacktestAlarm(Row):
    """An alarm that a backtest would have raised; times are device time."""

    __tablename__ = "backtest_alarm"
    __table_args__ = (
        CheckConstraint("side IN ('draft', 'current')", name="side"),
        Index("ix_backtest_alarm_of", "backtest_id", "asset_id", "side", "raised_at"),
    )

    id: Mapped[Id]
    backtest_id: Mapped[int] = mapped_column(ForeignKey("backtest.id", ondelete="CASCADE"))
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"))
    side: Mapped[str] = mapped_column(String(10))
    began_at: Mapped[datetime]
    raised_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    severity: Mapped[str] = mapped_column(String(10))
    """The worst it had."""
    count: Mapped[int] = mapped_column(BigInteger)
    metric: Mapped[str] = mapped_column(String(80))
    peak_value: Mapped[float | None]
    opens_order: Mapped[bool]


class Alarm(Scoped, Row):
    """Something is wrong with an asset, or with a device that has none, from ``began_at`` to ``ended_at``.

    ``began_at``, ``raised_at`` and ``ended_at`` are device time; ``detected_at``, ``acknowledged_at`` and
    ``cleared_at`` are server time.
    """

    __tablename__ = "alarm"
    __table_args__ = (
        Index("uq_alarm_open", "subject", "type_key", unique=True, postgresql_where=text("is_active")),
        Index("ix_alarm_listed", "unit_id", "id", postgresql_where=text("is_active OR NOT is_acknowledged")),
        Index("ix_alarm_latched", "unit_id", "id", postgresql_where=text("is_latched")),
        Index("ix_alarm_due", "next_at", postgresql_where=text("next_at IS NOT NULL")),
        Index("ix_alarm_announced", "unit_id", "announced_at"),
        Index("ix_alarm_held", "suppressed_by", "id", postgresql_where=text("is_active AND suppressed_by IS NOT NULL")),
        Index("ix_alarm_parent", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_alarm_latest", "subject", "type_key", "id"),
        Index("ix_alarm_asset", "asset_id", "id"),
        Index("ix_alarm_device", "device_id", "id"),
        # Of what a period's figures are made, and what stood at its end.
        Index("ix_alarm_detected", "detected_at"),
        Index("ix_alarm_ended", "ended_at"),
        Index("ix_alarm_of_week", "unit_id", "detected_at", postgresql_where=text("announced_at IS NOT NULL")),
        Index(
            "ix_alarm_brief",
            "subject",
            "type_key",
            "raised_at",
            "id",
            postgresql_include=["ended_at", "detected_at"],
            postgresql_where=text("ended_at - raised_at <= interval '1 minute'"),
        ),
        Index("ix_alarm_long", "ended_at", postgresql_where=text("ended_at - raised_at > interval '1 day'")),
        CheckConstraint("severity IN ('critical', 'major', 'minor', 'warning', 'info')", name="severity"),
    )

    id: Mapped[Id]
    subject: Mapped[str] = mapped_column(String(40))
    """``asset:12``, or ``device:7`` for a device without an asset."""
    type_key: Mapped[str] = mapped_column(String(80))
    """The alarm type's key, or the code a device reported."""
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id"))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"))
    device_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"))
    origin: Mapped[str] = mapped_column(String(10))
    """``rule`` or ``device``."""
    severity: Mapped[str] = mapped_column(String(10))
    peak_severity: Mapped[str] = mapped_column(String(10))
    message: Mapped[str] = mapped_column(String(500), default="")
    is_active: Mapped[bool] = mapped_column(default=True)
    is_acknowledged: Mapped[bool] = mapped_column(default=False)
    began_at: Mapped[datetime]
    raised_at: Mapped[datetime]
    detected_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(80))
    count: Mapped[int] = mapped_column(BigInteger, default=1)
    metric: Mapped[str | None] = mapped_column(String(80))
    value: Mapped[float | None]
    peak_value: Mapped[float | None]
    limit: Mapped[float | None]
    rule_version: Mapped[int | None]
    evidence: Mapped[Json] = mapped_column(default=dict)
    """Samples, limits and where they came from, rule version: frozen at the raise, also by the database."""
    previous_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"))
    is_late: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Raised late: found in readings that came when it was over; nobody was told."""
    is_unsupported: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Readings that came later no longer support it; left for a person."""
    is_latched: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether a person must reset it once it has cleared."""
    is_shelved: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    suppressed_by: Mapped[str | None] = mapped_column(String(12))
    """Why it is suppressed by design: a word of ``rules.states.CAUSES``; None while it is not."""
    is_out_of_service: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    is_chattering: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Held as one alarm although its signal comes and goes, until that is calm."""
    held_at: Mapped[datetime | None]
    """When it was last kept from being announced; server time."""
    announced_at: Mapped[datetime | None]
    """When people were last told of it; None: never. Server time."""
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"))
    """The alarm that stands for it while it is suppressed as one of many."""
    gateway_id: Mapped[int | None] = mapped_column(ForeignKey("device.id"))
    """The gateway behind which it was when it was judged."""
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    next_at: Mapped[datetime | None]
    """When time has something to do with it next; server time."""
    reminders: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often it was repeated since it was announced."""
    escalated: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many steps of its escalation were taken since it was announced."""
    realarms: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often it was announced again because it stood for too long."""
    stale_at: Mapped[datetime | None]
    """When it was found to stand for too long to mean anything."""
    cycles: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), default=list, server_default=text("'{}'"))
    """Device times in ms at which the fault ended within the last minute before this alarm's end."""
    recovered_at: Mapped[datetime | None]
    """Device time since when the signal of a chattering alarm is normal; None while it is not."""
    count_before: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    """What of ``count`` a chattering alarm had before its signal came back last."""

    asset: Mapped[Asset | None] = relationship()
    device: Mapped[Device | None] = relationship(foreign_keys="Alarm.device_id")
    alarm_type: Mapped[AlarmType | None] = relationship()
    assignee: Mapped[Account | None] = relationship()

    @property
    def is_held(self) -> bool:
        """Whether it is recorded and counted, and nobody is told of it."""
        return self.is_shelved or self.suppressed_by is not None or self.is_out_of_service or self.is_chattering


class AlarmEntry(Row):
    """One line of an alarm's history: a change of state or a comment."""

    __tablename__ = "alarm_entry"
    __table_args__ = (Index("ix_alarm_entry_flagged", "at", postgresql_where=text("kind = 'flagged'")),)

    id: Mapped[Id]
    alarm_id: Mapped[int] = mapped_column(ForeignKey("alarm.id"), index=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(String(2000), default="")
    detail: Mapped[Json] = mapped_column(default=dict)
