"""Tables of alarm and work as one loop: the lines of the policy, alarms whose delay runs, when a repair has held."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Row


class OrderPolicyLine(Row):
    """What alarms of one severity do: of an alarm type, or of the whole company by who raises them."""

    __tablename__ = "order_policy_line"
    __table_args__ = (
        CheckConstraint("does IN ('none', 'request', 'order')", name="does"),
        CheckConstraint("source IN ('rule', 'device')", name="source"),
        CheckConstraint("alarm_type_id IS NULL OR source = 'rule'", name="of_a_rule"),
        CheckConstraint("delay_s >= 0", name="delay"),
        CheckConstraint("priority BETWEEN 1 AND 4", name="priority"),
        CheckConstraint("criticality BETWEEN 1 AND 4", name="criticality"),
        Index(
            "uq_order_policy_line_place", "company_id", "alarm_type_id", "source", "severity", "site_id", "criticality",
            unique=True, postgresql_nulls_not_distinct=True,
        ),
    )  # fmt: skip

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id", ondelete="CASCADE"), index=True)
    source: Mapped[str] = mapped_column(String(10))
    """``rule`` or ``device``: who raises."""
    severity: Mapped[str] = mapped_column(String(10))
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id", ondelete="CASCADE"))
    criticality: Mapped[int | None]
    """The least important asset it is for, 1 being the most important; None: all."""
    does: Mapped[str] = mapped_column(String(10))
    delay_s: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int | None]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id", ondelete="SET NULL"))
    checklist_id: Mapped[int | None] = mapped_column(ForeignKey("checklist.id", ondelete="SET NULL"))


class OrderWait(Row):
    """An alarm that opens something only if it stands long enough, and what became of it."""

    __tablename__ = "order_wait"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'due', 'opened', 'cleared', 'held', 'dropped')", name="state"),
        Index("ix_order_wait_due", "due_at", postgresql_where=text("state = 'waiting'")),
    )

    alarm_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("alarm.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    state: Mapped[str] = mapped_column(String(8))
    """*waiting* until ``due_at``, *due* on its way, then what ended it; *dropped*: nothing is wanted any more."""
    began_at: Mapped[datetime]
    due_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RecoverySetting(Row):
    """When a repair counts as having held: of an alarm type, or of the company."""

    __tablename__ = "recovery_setting"
    __table_args__ = (
        Index("uq_recovery_setting_of", "company_id", "alarm_type_id", unique=True, postgresql_nulls_not_distinct=True),
        CheckConstraint("quiet_s >= 0", name="quiet"),
        CheckConstraint("rework_days >= 0", name="rework"),
    )

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    alarm_type_id: Mapped[int | None] = mapped_column(ForeignKey("alarm_type.id", ondelete="CASCADE"))
    quiet_s: Mapped[int | None]
    """How long the signal must stay normal after the finish."""
    rework_days: Mapped[int | None]
    """Within how many days a fault that comes back counts as rework; of the company only."""
