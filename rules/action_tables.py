"""What alarms set off beside orders, and each time they did."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Json, Row


class AlarmAction(Row):
    """One action of an alarm type: on which occasion, from which severity on, what."""

    __tablename__ = "alarm_action"
    __table_args__ = (
        CheckConstraint("occasion IN ('raise', 'clear')", name="occasion"),
        CheckConstraint("kind IN ('message', 'webhook', 'command', 'attribute')", name="kind"),
        Index("ix_alarm_action_of", "alarm_type_id", "position", "id"),
    )

    id: Mapped[Id]
    alarm_type_id: Mapped[int] = mapped_column(ForeignKey("alarm_type.id", ondelete="CASCADE"))
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
