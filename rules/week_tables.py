"""The announced alarms of whole weeks, set aside as columns for the figures of a year, and which weeks are out of date.

``alarm_week_touched`` is written by the database itself whenever an alarm of a week is announced, amended or moved:
see the migration that made it, and ``rules.alarm_weeks``.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Row
from people.models import Scoped


class AlarmWeek(Scoped, Row):
    """One org unit's announced alarms of the week that begins at ``began_at``, a Monday at midnight UTC."""

    __tablename__ = "alarm_week"
    __table_args__ = (UniqueConstraint("unit_id", "began_at"),)

    began_at: Mapped[datetime]
    records: Mapped[bytes] = mapped_column(LargeBinary)
    """One record of ``rules.alarm_columns.RECORD`` for each alarm, in no order."""


class AlarmWeekFault(Row):
    """How often one fault of an org unit was announced in a week."""

    __tablename__ = "alarm_week_fault"

    unit_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(40), primary_key=True)
    type_key: Mapped[str] = mapped_column(String(80), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    latest_id: Mapped[int] = mapped_column(BigInteger)


class AlarmWeekTouched(Row):
    """A week of an org unit whose alarms are no longer what was set aside; the same week may stand here many times."""

    __tablename__ = "alarm_week_touched"
    __table_args__ = (Index("ix_alarm_week_touched_week", "began_at", "unit_id"),)

    id: Mapped[Id]
    unit_id: Mapped[int] = mapped_column(BigInteger)
    began_at: Mapped[datetime]
