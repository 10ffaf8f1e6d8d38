"""Rate limits that hold across processes and restarts: one row a key and window."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kernel.errors import TooMany
from kernel.models import RateWindow


def used(session: Session, key: str, *, window: timedelta, now: datetime) -> int:
    """Return how often ``key`` was used in the current window, without counting a use."""
    began = _began(window, now)
    uses = select(RateWindow.uses).where(RateWindow.key == key[:160], RateWindow.began_at == began)
    return session.scalar(uses) or 0


def require_room(session: Session, key: str, *, limit: int, window: timedelta, now: datetime) -> None:
    """Make sure that ``key`` may be used once more, without counting a use.

    For uses that are counted only when they fail: those who ask at once may each find room, so a limit can be
    passed by as many as are inside at once.

    Raises:
        TooMany: ``key`` has been used ``limit`` times in the current window already.
    """
    if used(session, key, window=window, now=now) >= limit:
        raise _too_many(_began(window, now) + window, now)


def spend(session: Session, key: str, *, limit: int, window: timedelta, now: datetime) -> None:
    """Count one use of ``key``.

    Raises:
        TooMany: ``key`` has been used ``limit`` times in the current window already.
    """
    uses = count(session, key, window=window, now=now)
    if uses > limit:
        raise _too_many(_began(window, now) + window, now)


def count(session: Session, key: str, *, window: timedelta, now: datetime) -> int:
    """Count one use of ``key`` and return the uses in the current window, this one included."""
    row = insert(RateWindow).values(key=key[:160], began_at=_began(window, now), uses=1)
    return session.execute(
        row.on_conflict_do_update(
            index_elements=[RateWindow.key, RateWindow.began_at], set_={"uses": RateWindow.uses + 1}
        ).returning(RateWindow.uses)
    ).scalar_one()


def sweep(session: Session, *, before: datetime) -> None:
    """Forget windows that began before an instant."""
    session.execute(delete(RateWindow).where(RateWindow.began_at < before))


def _too_many(until: datetime, now: datetime) -> TooMany:
    return TooMany("Too many attempts. Please wait a moment.", retry_after_s=int((until - now).total_seconds()) + 1)


def _began(window: timedelta, now: datetime) -> datetime:
    seconds = int(window.total_seconds())
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)
