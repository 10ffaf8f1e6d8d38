"""What is worked out of what is measured: the recipe of a derived metric, what is due, and what was done to a meter."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Metric
from kernel.db import Id, Row


class Derivation(Row):
    """How a metric of a type is worked out of another one, hour by hour; see ``telemetry.derived.Recipe``."""

    __tablename__ = "derivation"
    __table_args__ = (
        CheckConstraint(
            "how IN ('run_hours', 'starts', 'cycles', 'energy', 'counter', 'difference', 'rate', 'deviation')",
            name="how",
        ),
    )

    metric_id: Mapped[int] = mapped_column(ForeignKey("metric.id", ondelete="CASCADE"), primary_key=True)
    """The metric that holds the value of each hour."""
    total_id: Mapped[int | None] = mapped_column(ForeignKey("metric.id", ondelete="SET NULL"), index=True)
    """The metric that holds the running total, where hours add up to one."""
    source: Mapped[str] = mapped_column(String(80))
    """The key of the metric it is worked out of."""
    how: Mapped[str] = mapped_column(String(12))
    above: Mapped[float | None]
    wraps_at: Mapped[float | None]
    scale: Mapped[float] = mapped_column(default=1.0)
    hold_s: Mapped[int | None]
    """For how long a reading speaks; None: as long as the source's expected interval says."""
    per_s: Mapped[int | None]

    metric: Mapped[Metric] = relationship(foreign_keys="Derivation.metric_id")
    total: Mapped[Metric | None] = relationship(foreign_keys="Derivation.total_id")


class DirtySpan(Row):
    """Hours of a series out of which something is to be worked out: the ledger of what is due.

    Written before a late reading is acknowledged, and removed once what follows from it is durable, unless it was
    written anew meanwhile. So a kill loses none, and one that is worked out twice gives the same.
    """

    __tablename__ = "dirty_span"
    __table_args__ = (Index("ix_dirty_span_marked_at", "marked_at"),)

    series_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    from_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    to_ms: Mapped[int] = mapped_column(BigInteger)
    marked_at: Mapped[datetime]


class HoursClosed(Row):
    """How far hours are over and have been noted as due. One row."""

    __tablename__ = "hours_closed"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    until_ms: Mapped[int] = mapped_column(BigInteger)


class MeterChange(Row):
    """What a person did to a meter of an asset: exchanged it, set it back, or said what its life-to-date is."""

    __tablename__ = "meter_change"
    __table_args__ = (
        CheckConstraint("kind IN ('exchange', 'reset', 'total')", name="kind"),
        Index("ix_meter_change_asset", "asset_id", "metric", "at"),
        Index("ix_meter_change_standing", "asset_id", postgresql_where=text("withdrawn_at IS NULL")),
    )

    id: Mapped[Id]
    asset_id: Mapped[int] = mapped_column(ForeignKey("asset.id"))
    metric: Mapped[str] = mapped_column(String(80))
    """The source that a meter shows; of a *total* the derived metric whose running total is stated."""
    kind: Mapped[str] = mapped_column(String(10))
    at: Mapped[datetime]
    final: Mapped[float | None]
    """What the meter showed last before, if somebody read it."""
    initial: Mapped[float | None]
    """What it showed first after."""
    total: Mapped[float | None]
    """The running total at that instant."""
    reason: Mapped[str] = mapped_column(String(300), default="")
    by: Mapped[str] = mapped_column(String(80))
    recorded_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by: Mapped[str | None] = mapped_column(String(80))
