"""The one place that reads the wall clock.

Decisions never call these functions: they receive ``now``. Edges (request, batch, delivery, tick) read the
clock once and pass it down, so that everything within one transaction happens at one instant.
"""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current instant, aware, in UTC, cut to milliseconds as the database keeps it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now_ms() -> int:
    """Return the current instant in milliseconds since 1970-01-01T00:00Z, the unit of device time."""
    return to_ms(datetime.now(UTC))


def to_ms(moment: datetime) -> int:
    """Return an aware instant as milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """Return milliseconds since 1970 as an aware instant in UTC.

    Raises:
        OverflowError: the instant lies outside the years 1 to 9999.
    """
    return datetime.fromtimestamp(ms / 1000, UTC)
