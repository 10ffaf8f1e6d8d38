"""Which metrics are watched for a trend, and what was foretold of each asset."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Asset, AssetType
from kernel.db import Id, Row
from people.models import Scoped


class TrendWatch(Row):
    """A limit that a metric of a type wears towards, and how far ahead people want to know."""

    __tablename__ = "trend_watch"
    __table_args__ = (
        UniqueConstraint("asset_type_id", "metric", "is_rising"),
        CheckConstraint("window_days BETWEEN 14 AND 730", name="window_days"),
        CheckConstraint("lead_days BETWEEN 1 AND 365", name="lead_days"),
    )

    id: Mapped[Id]
    company_id: Mapped[int] = mapped_column(ForeignKey("org_unit.id"), index=True)
    asset_type_id: Mapped[int] = mapped_column(ForeignKey("asset_type.id", ondelete="CASCADE"), index=True)
    metric: Mapped[str] = mapped_column(String(80))
    limit: Mapped[float]
    is_rising: Mapped[bool] = mapped_column(default=True)
    """Whether the limit is reached from below."""
    window_days: Mapped[int] = mapped_column(default=90)
    """How much of the past is looked at."""
    lead_days: Mapped[int] = mapped_column(default=30)
    """An inspection is proposed once the likely crossing is no further away."""
    changed_at: Mapped[datetime]

    asset_type: Mapped[AssetType] = relationship()


class TrendForecast(Scoped, Row):
    """What is foretold of one asset by one watch, worked out anew each day; see ``rules.trend.Forecast``."""

    __tablename__ = "trend_forecast"
    __table_args__ = (
        UniqueConstraint("watch_id", "asset_id"),
        Index("ix_trend_forecast_next_at", "next_at"),
        Index("ix_trend_forecast_likely", "unit_id", "likely_at"),
    )

    id: Mapped[Id]
    watch_id: Mapped[int] = mapped_column(ForeignKey("trend_watch.id", ondelete="CASCADE"))
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"), index=True)
    outlook: Mapped[str | None] = mapped_column(String(12))
    """None until it was worked out."""
    shape: Mapped[str | None] = mapped_column(String(12))
    days: Mapped[int] = mapped_column(default=0)
    level: Mapped[float | None]
    per_day: Mapped[float | None]
    earliest_at: Mapped[datetime | None]
    likely_at: Mapped[datetime | None]
    latest_at: Mapped[datetime | None]
    worked_out_at: Mapped[datetime | None]
    next_at: Mapped[datetime]
    told_at: Mapped[datetime | None]
    """When an inspection was proposed; None again once nothing is foretold any more."""

    watch: Mapped[TrendWatch] = relationship()
    asset: Mapped[Asset] = relationship()
