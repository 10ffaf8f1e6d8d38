"""What alarms set off beside orders, and each time they did."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Json, Row


class AlarmAction(Row):
    """One action of an alarm type or of a code that devices report: when, from which severity on, what."""

    __tablename__ = "alarm_action"
    __table_args__ = (
        CheckConstraint("occasion IN ('raise', 'clear')", name="occasion"),
        CheckConstraint("kind IN ('message', 'webhook', 'command', 'attribute')", name="kind"),
        CheckConstraint("(alarm_type_id IS NULL) <> (code IS NULL)", name="of_one"),
        Index("ix_alarm_action_of", "alarm_type_id", "position", "id"),
        Index("ix_alarm_action_of_code", "company_id", "code", postgresql_where=text("code IS NOT NULL")),
    )

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id", ondelete="CASCADE"))
    code: Mapped[str | None] = mapped_column(String(80))
    """What a device reports; None where it is an alarm type's."""
    asset_type_id: Mapped[int | None] = mapped_column(ForeignKey("asset_type.id", ondelete="CASCADE"))
    """Of a code: on assets of this type and of those below it; None: on all."""
    position: Mapped[int]
    occasion: Mapped[str] = mapped_column(String(10))
    severity: Mapped[str] = mapped_column(String(10))
    """The least severity that sets it off."""
    kind: Mapped[str] = mapped_column(String(10))
    settings: Mapped[Json]


class AlarmActionRun(Row):
    """An action that an alarm set off, once, with a copy of what it was then."""

    __tablename__ = "alarm_action_run"
    __table_args__ = (UniqueConstraint("alarm_id", "action_id", "occasion"),)

    id: Mapped[Id]
    alarm_id: Mapped[int] = mapped_column(ForeignKey("alarm.id", ondelete="CASCADE"))
    action_id: Mapped[int] = mapped_column(BigInteger)
    """May have been removed since."""
    occasion: Mapped[str] = mapped_column(String(10))
    kind: Mapped[str] = mapped_column(String(10))
    settings: Mapped[Json]
    at: Mapped[datetime]
    done_at: Mapped[datetime | None]
