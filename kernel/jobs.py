"""Long work as rows: asked for by a person, claimed by whoever has time, claimed again when its runner has died.

For exports, imports of history and backtests, each with a table of its own. Locks decide who gets a row, so any number
of processes may look, and a killed one keeps nothing but its last beat.
"""

from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import String, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from kernel.db import Id

DEAD_AFTER: Final = timedelta(minutes=2)
"""A runner that has not beaten for so long is gone."""


class Job:
    """What such a row has: where it stands, and when its runner was last heard of."""

    id: Mapped[Id]
    state: Mapped[str] = mapped_column(String(10))
    beat_at: Mapped[datetime | None]
    """When whoever runs it was last heard of."""


Work = TypeVar("Work", bound=Job)


def take(session: Session, kind: type[Work], now: datetime) -> Work | None:
    """Claim the next row that waits, or whose runner died, for as long as it beats; None when there is none."""
    row = session.scalars(
        select(kind)
        .where(
            kind.state.in_(("queued", "running")),
            or_(kind.state == "queued", kind.beat_at < now - DEAD_AFTER),
        )
        .order_by(kind.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is not None:
        row.state, row.beat_at = "running", now
    return row
