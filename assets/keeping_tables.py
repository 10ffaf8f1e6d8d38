"""How long readings are kept, what keeps them longer, and those that are written into a file."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Json, Row
from kernel.jobs import Job


class Retention(Row):
    """For how many days readings of a type of asset are kept, where that differs from the settings."""

    __tablename__ = "retention"
    __table_args__ = (CheckConstraint("raw_days >= 1 AND minute_days >= 0 AND hour_days >= raw_days", name="rising"),)

    type_id: Mapped[int] = mapped_column(ForeignKey("asset_type.id", ondelete="CASCADE"), primary_key=True)
    raw_days: Mapped[int]
    minute_days: Mapped[int]
    """0 where minutes are not kept."""
    hour_days: Mapped[int]


class LegalHold(Row):
    """While this stands, no reading of the asset is forgotten, whatever its age."""

    __tablename__ = "legal_hold"

    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(String(300))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime]


class Export(Job, Row):
    """Readings on their way into a file: what was asked for, and how far it has come."""

    __tablename__ = "export"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'expired')", name="state"),
        Index("ix_export_open", "id", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_export_account", "account_id", "id"),
    )

    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    actor: Mapped[str] = mapped_column(String(80))
    wanted: Mapped[Json]
    """What was asked for, as ``assets.export.Wanted`` reads it."""
    file_name: Mapped[str] = mapped_column(String(200))
    percent: Mapped[int] = mapped_column(default=0)
    rows: Mapped[int] = mapped_column(BigInteger, default=0)
    size: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes of the file."""
    trouble: Mapped[str | None] = mapped_column(String(300))
    """Why it failed."""
    asked_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
