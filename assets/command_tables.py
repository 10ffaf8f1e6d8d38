"""What devices are asked to do, and what became of it."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from assets.models import Device
from kernel.db import Id, Json, Row


class DeviceCommand(Row):
    """Something a device was asked to do. The rows are the queue: whoever asks writes one, ingest sends it."""

    __tablename__ = "device_command"
    __table_args__ = (
        UniqueConstraint("token"),
        Index("ix_device_command_device", "device_id", "id"),
        Index("ix_device_command_open", "device_id", postgresql_where=text("state IN ('queued', 'sent', 'delivered')")),
        CheckConstraint("kind IN ('one_way', 'reply', 'kept')", name="kind"),
        CheckConstraint(
            "state IN ('queued', 'sent', 'delivered', 'done', 'failed', 'timed_out', 'expired', 'cancelled')",
            name="state",
        ),
    )

    id: Mapped[Id]
    token: Mapped[str] = mapped_column(String(40))
    """Its name in topics and addresses; a device that sees it twice has nothing to do the second time."""
    device_id: Mapped[int] = mapped_column(ForeignKey("device.id"))
    method: Mapped[str] = mapped_column(String(80))
    params: Mapped[Json] = mapped_column(default=dict)
    kind: Mapped[str] = mapped_column(String(10))
    """*one_way*: nobody answers; *reply*: an answer ends it; *kept*: so does this, and it waits for the device."""
    waits: Mapped[bool] = mapped_column(default=False)
    """Whether it waits for a device that is not online, instead of failing."""
    state: Mapped[str] = mapped_column(String(10), default="queued")
    created_at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    timeout_s: Mapped[int]
    expires_at: Mapped[datetime]
    """It is not sent after this."""
    next_at: Mapped[datetime]
    """While it is open: when it is looked at again."""
    attempts: Mapped[int] = mapped_column(default=0)
    sent_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    replied_at: Mapped[datetime | None]
    reply: Mapped[Json | None]
    """What the device answered, also where that came too late to count."""
    error: Mapped[str] = mapped_column(String(300), default="")
    settings_version: Mapped[int | None]
    """Set where it brings the desired settings of that version."""

    device: Mapped[Device] = relationship()

    @property
    def is_late(self) -> bool:
        """Whether the answer came after the command had been given up."""
        return self.replied_at is not None and self.state in {"timed_out", "expired", "cancelled"}
