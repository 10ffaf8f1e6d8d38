"""What ingest keeps beside the readings: messages set aside, counts by device and hour, alarm sequences."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Row


class RejectedMessage(Row):
    """A message that could not be used, whole, with the reason, until it is replayed."""

    __tablename__ = "rejected_message"
    __table_args__ = (
        Index("ix_rejected_message_open", "id", postgresql_where=text("replayed_at IS NULL")),
        Index("ix_rejected_message_asked", "id", postgresql_where=text("replay_asked_at IS NOT NULL")),
        Index("uq_rejected_message_digest", "digest", unique=True),
    )

    id: Mapped[Id]
    received_at: Mapped[datetime]
    topic: Mapped[str] = mapped_column(String(1000))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    device_key: Mapped[str | None] = mapped_column(String(200), index=True)
    unit_id: Mapped[int | None] = mapped_column(ForeignKey("org_unit.id"), index=True)
    """None when the device is unknown: then only a viewer of the whole company sees it."""
    reason: Mapped[str] = mapped_column(String(40))
    detail: Mapped[str] = mapped_column(String(400), default="")
    repeats: Mapped[int] = mapped_column(default=1)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of topic, payload and reason, so that a redelivered message is kept once and counted."""
    replay_asked_at: Mapped[datetime | None]
    """Set while a person waits for the ingest process to try it again; ``replayed_by`` says who."""
    replayed_at: Mapped[datetime | None]
    replayed_by: Mapped[str | None] = mapped_column(String(80))


class IntakeCount(Row):
    """Messages and readings of one device in one hour: received = stored + duplicate + rejected."""

    __tablename__ = "intake_count"

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """0 for messages of unknown devices."""
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    stored: Mapped[int] = mapped_column(BigInteger, default=0)
    duplicate: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)


class AlarmReport(Row):
    """An alarm message of a device, once a sequence number: a repeated one is acknowledged and changes nothing."""

    __tablename__ = "alarm_report"

    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    code: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(10))
    at: Mapped[datetime]
    received_at: Mapped[datetime]
    is_orphan: Mapped[bool] = mapped_column(default=False)
    alarm_id: Mapped[int | None] = mapped_column(ForeignKey("alarm.id"))
