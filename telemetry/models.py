"""The series of the telemetry store: which number stands for which device and metric."""

from datetime import datetime

from sqlalchemy import BigInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from kernel.db import Id, Row


class Series(Row):
    """One metric of one device. The store knows readings by this id only.

    ``device_id`` has no foreign key: devices live above telemetry, and a series outlives its device.
    """

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("device_id", "metric"),)

    id: Mapped[Id]
    device_id: Mapped[int] = mapped_column(BigInteger)
    metric: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime]
