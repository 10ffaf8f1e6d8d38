"""Requests, work orders and their one timeline.

There is at most one open order for one fault; the partial unique index says so (promise P3).
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset, Site
from kernel.db import Id, Json, Money, Named, Row
from kernel.models import File
from people.models import Account, Customer, Scoped, Team
from rules.models import Alarm

OPEN = "phase NOT IN ('closed', 'cancelled')"


class OrderType(Named, Row):
    """A kind of work with what its steps require, e.g. a photo or a finding before it may be finished."""

    __tablename__ = "order_type"
    __table_args__ = (UniqueConstraint("company_id", "key"),)

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    key: Mapped[str] = mapped_column(String(40))
    """``corrective``, ``inspection``, ``preventive``, …"""
    requires: Mapped[Json] = mapped_column(default=dict)
    """Verb → what it needs, e.g. ``{"finish": ["finding", "checklist"]}``; see ``lifecycle``."""
    auto_verify: Mapped[bool] = mapped_column(default=False)
    """Finished work of this kind needs nobody's verification."""


class Request(Scoped, Row):
    """A fault as somebody reported it, until it becomes an order, joins one, or is declined."""

    __tablename__ = "request"
    __table_args__ = (
        UniqueConstraint("company_id", "number"),
        Index("ix_request_open", "unit_id", "id", postgresql_where=text("state IN ('new', 'held')")),
        Index(
            "uq_request_open_fault",
            "fault_key",
            unique=True,
            postgresql_where=text("fault_key IS NOT NULL AND state IN ('new', 'held')"),
        ),
        CheckConstraint("state IN ('new', 'held', 'accepted', 'joined', 'declined', 'withdrawn')", name="state"),
    )

    id: Mapped[Id]
    number: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(10), default="new")
    origin: Mapped[str] = mapped_column(String(10))
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), index=True)
    what: Mapped[str] = mapped_column(String(2000))
    what_zh: Mapped[str | None] = mapped_column(String(2000))
    """The same in Chinese, where the product itself wrote it."""
    contact_name: Mapped[str | None] = mapped_column(String(100))
    contact_phone: Mapped[str | None] = mapped_column(String(40))
    contact_email: Mapped[str | None] = mapped_column(String(200))
    language: Mapped[str] = mapped_column(String(5), default="en")
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(80))
    reason: Mapped[str | None] = mapped_column(String(500))
    order_id: Mapped[int | None] = mapped_column(ForeignKey("work_order.id"), index=True)
    track_hash: Mapped[str] = mapped_column(String(64), unique=True)
    """The tracking link's token, kept as its hash only."""
    track_expires_at: Mapped[datetime]
    track_revoked_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    """When the customer accepted the finished work."""
    rating: Mapped[int | None]
    rating_text: Mapped[str | None] = mapped_column(String(1000))
    rated_at: Mapped[datetime | None]
    alarm_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"), index=True)
    """The alarm that made it, where no person did."""
    fault_key: Mapped[str | None] = mapped_column(String(140))
    """What fault that alarm is of; at most one waiting request has it."""

    asset: Mapped[Asset] = relationship()
    alarm: Mapped[Alarm | None] = relationship()
    order: Mapped["Order | None"] = relationship(back_populates="requests")

    def words(self, language: str) -> str:
        """Return what is reported, in a reader's language where the product itself wrote it."""
        return (self.what_zh if language == "zh" else None) or self.what


class Order(Scoped, Row):
    """A work order: one fault or one planned job, from its opening to its closing."""

    __tablename__ = "work_order"
    __table_args__ = (
        UniqueConstraint("company_id", "number"),
        Index(
            "uq_work_order_open_fault",
            "fault_key",
            unique=True,
            postgresql_where=text(f"fault_key IS NOT NULL AND {OPEN}"),
        ),
        Index("ix_work_order_open", "unit_id", "priority", "id", postgresql_where=text(OPEN)),
        Index("ix_work_order_assignee", "assignee_id", "phase"),
        Index("ix_work_order_listed", "unit_id", "id"),
        Index("ix_work_order_asset", "asset_id", "id"),
        Index(
            "ix_work_order_fault_ended",
            "fault_key",
            "id",
            postgresql_where=text("fault_key IS NOT NULL AND phase = 'closed'"),
        ),
        Index("ix_work_order_recovery", "recovery_due_at", postgresql_where=text("recovery_due_at IS NOT NULL")),
        Index("ix_work_order_pool", "pool_until", postgresql_where=text("in_pool")),
        CheckConstraint(
            "phase IN ('new', 'assigned', 'accepted', 'travelling', 'on_site', 'working', 'paused',"
            " 'done', 'verified', 'closed', 'cancelled')",
            name="phase",
        ),
        CheckConstraint("priority BETWEEN 1 AND 4", name="priority"),
    )

    id: Mapped[Id]
    number: Mapped[str] = mapped_column(String(20))
    """``WO-2026-000123``, gapless by company and year."""
    type_id: Mapped[int] = mapped_column(ForeignKey("order_type.id"))
    origin: Mapped[str] = mapped_column(String(10))
    """alarm, scan, plan, person, mail."""
    phase: Mapped[str] = mapped_column(String(12), default="new")
    priority: Mapped[int] = mapped_column(default=3)
    """1 is an emergency, 4 can wait."""
    title: Mapped[str] = mapped_column(String(200))
    title_zh: Mapped[str | None] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(String(4000), default="")
    asset_id: Mapped[int | None] = mapped_column(ForeignKey("asset.id"))
    site_id: Mapped[int | None] = mapped_column(ForeignKey("site.id"))
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))
    alarm_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"), index=True)
    fault_key: Mapped[str | None] = mapped_column(String(140))
    """What fault this is, e.g. ``asset:12/overheat``; at most one open order has it."""
    previous_id: Mapped[int | None] = mapped_column(ForeignKey("work_order.id"))
    """The order that repaired the same fault not long before it came back (``recovery.rework_within``)."""
    occurrences: Mapped[int] = mapped_column(default=1)
    last_seen_at: Mapped[datetime | None]
    skill: Mapped[str | None] = mapped_column(String(40))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id"), index=True)
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    in_pool: Mapped[bool] = mapped_column(default=False)
    pool_until: Mapped[datetime | None]
    refused_by: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), default=list, server_default=text("'{}'"))
    """Accounts that refused it; dispatch passes them over."""
    estimated_minutes: Mapped[int] = mapped_column(default=60)
    planned_at: Mapped[datetime | None]
    """When the visit is booked to begin; two visits of one person may not overlap without an override."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80))
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    assigned_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    departed_at: Mapped[datetime | None]
    arrived_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    paused_s: Mapped[int] = mapped_column(default=0)
    recovered_at: Mapped[datetime | None]
    """When the alarm's signal returned to normal."""
    recovery: Mapped[str | None] = mapped_column(String(10))
    """What the machine says of the finished repair: ``watched``, ``held``, ``came_back``; None: nothing yet."""
    recovery_due_at: Mapped[datetime | None]
    """When the signal will have stayed normal for long enough after the finish; None while nothing is watched."""
    recovery_verified_at: Mapped[datetime | None]
    """When it had: the machine's own word that the repair held."""
    override_reason: Mapped[str | None] = mapped_column(String(500))
    """Why it was finished although its alarm was active."""
    finding: Mapped[str | None] = mapped_column(String(20))
    """``real``, ``false_alarm`` or ``nothing_found``."""
    resolution: Mapped[str | None] = mapped_column(String(4000))
    rework: Mapped[int] = mapped_column(default=0)
    parts_cost: Mapped[Money] = mapped_column(default=Decimal(0))
    rating: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)

    type: Mapped[OrderType] = relationship()
    asset: Mapped[Asset | None] = relationship()
    site: Mapped[Site | None] = relationship()
    customer: Mapped[Customer | None] = relationship()
    alarm: Mapped[Alarm | None] = relationship()
    team: Mapped[Team | None] = relationship()
    assignee: Mapped[Account | None] = relationship()
    requests: Mapped[list[Request]] = relationship(back_populates="order", foreign_keys=[Request.order_id])

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as written


class Entry(Row):
    """One line of the timeline of a request or an order: a comment, a move, a photo, a part, an alarm.

    A customer sees only what is public.
    """

    __tablename__ = "entry"
    __table_args__ = (
        Index("ix_entry_order", "order_id", "id"),
        Index("ix_entry_request", "request_id", "id"),
        CheckConstraint("order_id IS NOT NULL OR request_id IS NOT NULL", name="has_subject"),
    )

    id: Mapped[Id]
    order_id: Mapped[int | None] = mapped_column(ForeignKey("work_order.id"))
    request_id: Mapped[int | None] = mapped_column(ForeignKey("request.id"))
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    actor_name: Mapped[str] = mapped_column(String(200), default="")
    kind: Mapped[str] = mapped_column(String(20))
    """comment, move, photo, part, alarm, check, labour, rating."""
    is_public: Mapped[bool] = mapped_column(default=False)
    text: Mapped[str] = mapped_column(String(4000), default="")
    detail: Mapped[Json] = mapped_column(default=dict)
    file_id: Mapped[int | None] = mapped_column(ForeignKey("file.id"))

    file: Mapped[File | None] = relationship()


class Assignment(Row):
    """Who had the order from when to when, and how it ended: moved on, refused, finished."""

    __tablename__ = "assignment"

    id: Mapped[Id]
    order_id: Mapped[int] = mapped_column(ForeignKey("work_order.id"), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))
    ended_at: Mapped[datetime | None]
    end: Mapped[str | None] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(String(500))
    decision_id: Mapped[int | None] = mapped_column(BigInteger)
