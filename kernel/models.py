"""The kernel's tables: what happened, who did it, what was uploaded, and how often somebody tried."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Json, Row


class Event(Row):
    """Something that happened, written in the transaction that made it happen."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_waiting", "id", postgresql_where=text("NOT fanned_out")),
        Index("ix_event_subject", "subject", "id"),
    )

    id: Mapped[Id]
    kind: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(60))
    unit_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]
    payload: Mapped[Json]
    fanned_out: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class Delivery(Row):
    """One event on its way to one subscriber: waiting, done, or stuck until a person retries it."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("event_id", "subscriber"),
        Index("ix_delivery_due", "next_at", "id", postgresql_where=text("state = 'waiting'")),
        Index("ix_delivery_stuck", "id", postgresql_where=text("state = 'stuck'")),
        CheckConstraint("state IN ('waiting', 'done', 'stuck')", name="state"),
    )

    id: Mapped[Id]
    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"))
    subscriber: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


class AuditEntry(Row):
    """Who changed what. ``seq`` and ``seal`` are given once, as the last act before the commit."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_unsealed", "id", postgresql_where=text("seq IS NULL")),
        Index("ix_audit_entry_subject", "subject", "id"),
        Index("ix_audit_entry_at", "at"),
    )

    id: Mapped[Id]
    seq: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(80))
    company_id: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[Json | None]
    after: Mapped[Json | None]
    seal: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditHead(Row):
    """The end of the audit chain: one row, sealed like the entries, locked while the chain grows."""

    __tablename__ = "audit_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    seal: Mapped[bytes] = mapped_column(LargeBinary)


class File(Row):
    """An uploaded original, kept by the hash of its content and never changed."""

    __tablename__ = "file"

    id: Mapped[Id]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    media_type: Mapped[str] = mapped_column(String(80))
    size: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(200))
    width: Mapped[int | None]
    height: Mapped[int | None]
    company_id: Mapped[int | None] = mapped_column(BigInteger)
    uploaded_at: Mapped[datetime]


class RateWindow(Row):
    """How often a key was used in the window that began at ``began_at``."""

    __tablename__ = "rate_window"

    key: Mapped[str] = mapped_column(String(160), primary_key=True)
    began_at: Mapped[datetime] = mapped_column(primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class IdempotencyKey(Row):
    """The answer that was given to a request, so that the same request again changes nothing."""

    __tablename__ = "idempotency_key"

    owner: Mapped[str] = mapped_column(String(80), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    headers: Mapped[Json]
    at: Mapped[datetime] = mapped_column(index=True)


class Counter(Row):
    """A gapless number series, e.g. the work orders of one company and year."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
