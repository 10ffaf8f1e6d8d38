"""Maintenance plans, the occurrences they produce, checklists and what was found (promise P5).

The schedule is these rows: (plan, occurrence key) exists once, however often the tick runs.
"""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset
from kernel.db import Id, Json, Named, Row
from maintenance.orders.models import Order, OrderType
from people.models import Scoped, Team


class Checklist(Scoped, Named, Row):
    """A list of things to look at; its items live in versions."""

    __tablename__ = "checklist"

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(String(60))
    version: Mapped[int] = mapped_column(default=1)


class ChecklistVersion(Row):
    """The items of a checklist from one edit to the next; never changed."""

    __tablename__ = "checklist_version"
    __table_args__ = (UniqueConstraint("checklist_id", "number"),)

    id: Mapped[Id]
    checklist_id: Mapped[int] = mapped_column(ForeignKey("checklist.id"))
    number: Mapped[int]
    items: Mapped[list[Any]]
    """``[{"key", "name", "name_zh", "kind": "tick" | "number" | "choice", "unit", "low", "high", "choices"}, …]``"""
    at: Mapped[datetime]
    author: Mapped[str] = mapped_column(String(80))


class Plan(Scoped, Named, Row):
    """Work that comes again: a recurrence in the wall time of the asset's site, and the order it makes."""

    __tablename__ = "plan"
    __table_args__ = (
        Index("ix_plan_due", "next_due_at", postgresql_where=text("is_active")),
        CheckConstraint("catch_up IN ('once', 'all', 'skip')", name="catch_up"),
    )

    id: Mapped[Id]
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), index=True)
    order_type_id: Mapped[int] = mapped_column(ForeignKey("order_type.id"))
    checklist_id: Mapped[int | None] = mapped_column(ForeignKey("checklist.id"))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id"))
    skill: Mapped[str | None] = mapped_column(String(40))
    rrule: Mapped[str] = mapped_column(String(300))
    """The accepted subset of RFC 5545, without DTSTART; see ``recurrence``."""
    starts_on: Mapped[date]
    at_time: Mapped[time]
    zone: Mapped[str] = mapped_column(String(60))
    ends_on: Mapped[date | None]
    lead_days: Mapped[int] = mapped_column(default=3)
    """How long before its due date the order is created."""
    estimated_minutes: Mapped[int] = mapped_column(default=60)
    priority: Mapped[int] = mapped_column(default=3)
    catch_up: Mapped[str] = mapped_column(String(5), default="once")
    is_active: Mapped[bool] = mapped_column(default=True)
    next_due_at: Mapped[datetime | None]
    """The next target that has no occurrence yet; None when the series has ended."""
    version: Mapped[int] = mapped_column(default=1)

    asset: Mapped[Asset] = relationship()
    order_type: Mapped[OrderType] = relationship()
    checklist: Mapped[Checklist | None] = relationship()
    team: Mapped[Team | None] = relationship()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as written


class Occurrence(Row):
    """One due date of a plan and what became of it."""

    __tablename__ = "occurrence"
    __table_args__ = (
        UniqueConstraint("plan_id", "key"),
        Index("ix_occurrence_due", "due_at"),
        CheckConstraint("state IN ('ordered', 'missed', 'skipped')", name="state"),
    )

    id: Mapped[Id]
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    key: Mapped[str] = mapped_column(String(40))
    """The target's local date and time, e.g. ``2026-11-22T08:00``."""
    due_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(10))
    policy: Mapped[str] = mapped_column(String(5))
    """The catch-up policy in force when the row was made."""
    reason: Mapped[str | None] = mapped_column(String(200))
    order_id: Mapped[int | None] = mapped_column(ForeignKey("work_order.id"), index=True)
    created_at: Mapped[datetime]

    plan: Mapped[Plan] = relationship()
    order: Mapped[Order | None] = relationship()


class OrderChecklist(Row):
    """The checklist version an order has to be worked by."""

    __tablename__ = "order_checklist"

    order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("checklist_version.id"))

    checklist_version: Mapped[ChecklistVersion] = relationship()


class CheckResult(Row):
    """What was found at one item of an order's checklist; the last answer counts, the timeline keeps all."""

    __tablename__ = "check_result"
    __table_args__ = (CheckConstraint("verdict IN ('pass', 'flag', 'fail')", name="verdict"),)

    order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"), primary_key=True)
    item_key: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[Json]
    verdict: Mapped[str] = mapped_column(String(5))
    note: Mapped[str] = mapped_column(String(500), default="")
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))
