"""The tables of what keeps alarms from being announced: shelves, suppression, out of service, floods."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset
from kernel.db import Id, Named, Row
from people.models import Scoped


class AlarmHold(Scoped, Row):
    """Why alarms are not announced for a while: of one fault, or of an asset with all its parts.

    It is *planned* until ``began_at``, *live*, then *ended*; only a live one holds anything. ``until`` None: it ends
    with the alarm (a shelf), with what caused it, or by hand, and then has a date of review.
    """

    __tablename__ = "alarm_hold"
    __table_args__ = (
        CheckConstraint("kind IN ('shelved', 'suppressed', 'out_of_service')", name="kind"),
        CheckConstraint("state IN ('planned', 'live', 'ended')", name="state"),
        CheckConstraint("(asset_id IS NULL) <> (subject IS NULL)", name="one_target"),
        CheckConstraint("until IS NOT NULL OR review_at IS NOT NULL OR is_once", name="ends"),
        Index("ix_alarm_hold_fault", "subject", "type_key", postgresql_where=text("state = 'live'")),
        Index("ix_alarm_hold_asset", "asset_id", postgresql_where=text("state = 'live'")),
        Index("ix_alarm_hold_due", "next_at", postgresql_where=text("next_at IS NOT NULL")),
        Index(
            "uq_alarm_hold_fault", "kind", "subject", "type_key", unique=True,
            postgresql_where=text("state = 'live' AND subject IS NOT NULL"),
        ),
        Index(
            "uq_alarm_hold_cause", "cause", "asset_id", unique=True,
            postgresql_where=text("state = 'live' AND cause LIKE 'order:%'"),
        ),
    )  # fmt: skip

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(14))
    state: Mapped[str] = mapped_column(String(8))
    subject: Mapped[str | None] = mapped_column(String(40))
    type_key: Mapped[str | None] = mapped_column(String(80))
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"))
    cause: Mapped[str] = mapped_column(String(80))
    """``person``, ``window``, or what brought it about, such as ``order:12``."""
    reason: Mapped[str] = mapped_column(String(500))
    by: Mapped[str] = mapped_column(String(80))
    began_at: Mapped[datetime]
    until: Mapped[datetime | None]
    review_at: Mapped[datetime | None]
    """When somebody is to look whether it is still right; it does not end by itself then."""
    is_once: Mapped[bool] = mapped_column(default=False)
    """Whether it ends when the alarm clears."""
    next_at: Mapped[datetime | None]
    """When it begins, ends or is to be reviewed; None when it waits for nothing."""
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None] = mapped_column(String(80))

    asset: Mapped[Asset | None] = relationship()


class AlarmFlood(Scoped, Row):
    """More alarms at one desk than anybody can read, from ``began_at`` to ``ended_at``; one open for each subject.

    ``subject`` is ``device:7`` (a gateway) or ``asset:12`` where the many are parts of one thing, whose alarm then
    stands for them; ``unit:3`` where they only share the desk.
    """

    __tablename__ = "alarm_flood"
    __table_args__ = (
        Index("uq_alarm_flood_open", "unit_id", "subject", unique=True, postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[Id]
    subject: Mapped[str] = mapped_column(String(40))
    alarm_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"))
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class EscalationPolicy(Scoped, Named, Row):
    """How the alarms of a unit and those below it are followed up until somebody acknowledges them.

    The one that fits an alarm most closely holds: of its type before all types, of the lowest unit, then of the
    highest ``severity``, which is the least it is for.
    """

    __tablename__ = "escalation_policy"
    __table_args__ = (
        CheckConstraint("severity IN ('critical', 'major', 'minor', 'warning', 'info')", name="severity"),
    )

    id: Mapped[Id]
    severity: Mapped[str] = mapped_column(String(10))
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id"), index=True)
    repeat_min: Mapped[int | None]
    repeats: Mapped[int] = mapped_column(default=0)
    realarm_min: Mapped[int | None]
    realarms: Mapped[int] = mapped_column(default=0)
    steps: Mapped[list[Any]] = mapped_column(default=list)
    """In order of delay: ``{"after_min": 30, "role": "manager"}``, or ``"account": 7`` instead of the role."""
    is_enabled: Mapped[bool] = mapped_column(default=True)
