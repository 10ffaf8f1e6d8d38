"""Whether ingest itself hears well: since when silence means something, and what is wrong with the platform (ING-15).

Pure: what the edge shows goes in a few times a second, findings come out. While the broker is away, the database
does not answer or messages wait, a device cannot be heard whatever it says; so silence is counted anew from the
moment all is well again, and one finding about the platform stands where a thousand about devices would be a lie.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

BROKER_AFTER: Final = timedelta(seconds=30)
"""A broker that is back sooner than this was merely restarted."""
GAP: Final = timedelta(seconds=10)
"""Who did not look for so long was away itself: stopped, stalled, asleep, or without a database."""
DROPS_HELD: Final = timedelta(minutes=10)
BEHIND_MS: Final = 5_000.0
FAR_BEHIND_S: Final = 60.0
CAUGHT_UP: Final = 1 / 6
"""At which part of what is too long messages no longer wait too long."""
MANY_WAIT: Final = 5_000


@dataclass(frozen=True, slots=True)
class Signs:
    """What the edge shows. ``batches`` counts them, ``lag_ms`` is the latest one's.

    ``dropped`` is the broker's count of what it threw away, None until it told us.
    """

    is_connected: bool
    batches: int = 0
    lag_ms: float = 0.0
    waiting: int = 0
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """How it stands with one part of the platform, as ``rules.platform.report`` takes it.

    ``lag_s`` is how long messages waited when it was noticed that they wait too long.
    """

    what: str
    is_wrong: bool
    severity: str = "major"
    detail: str = ""
    lag_s: int = 0


@dataclass(slots=True)
class Watch:
    """Looks at the signs again and again. ``listening_since`` is from when on silence counts.

    ``far_behind_s`` is how long messages may wait to be stored.
    """

    listening_since: datetime
    far_behind_s: float = FAR_BEHIND_S
    _looked_at: datetime = field(init=False)
    _gone_since: datetime | None = None
    _last: Signs | None = None
    _dropped_at: datetime | None = None
    _dropped: int | None = None
    _behind_s: int | None = None

    def __post_init__(self) -> None:
        self._looked_at = self.listening_since

    def look(self, signs: Signs, now: datetime) -> list[Finding]:
        """Take the signs of this instant; return how it stands."""
        is_behind = self._is_behind(signs)
        if not signs.is_connected or is_behind or now - self._looked_at > GAP:
            self.listening_since = now
        found = [self._broker(signs, now), self._drops(signs, now), self._backlog(signs)]
        self._looked_at, self._last = now, signs
        return found

    def _is_behind(self, signs: Signs) -> bool:
        # The lag is that of the latest batch; where none came since, it is old news.
        is_news = self._last is None or signs.batches > self._last.batches or signs.waiting > 0
        return signs.waiting >= MANY_WAIT or (is_news and signs.lag_ms >= BEHIND_MS)

    def _broker(self, signs: Signs, now: datetime) -> Finding:
        if signs.is_connected:
            self._gone_since = None
            return Finding("broker", is_wrong=False)
        self._gone_since = self._gone_since or now
        is_wrong = now - self._gone_since >= BROKER_AFTER
        detail = f"Nothing has been received since {self._gone_since:%Y-%m-%d %H:%M} UTC."
        return Finding("broker", is_wrong, "critical", detail)

    def _drops(self, signs: Signs, now: datetime) -> Finding:
        # What it threw away before it first told us is not told again; a lower count is a broker that was restarted.
        if signs.dropped is not None:
            if self._dropped is not None and signs.dropped > self._dropped:
                self._dropped_at = now
            self._dropped = signs.dropped
        is_wrong = self._dropped_at is not None and now - self._dropped_at < DROPS_HELD
        return Finding("broker_drops", is_wrong, "critical", "See max_queued_messages in docs/production.md.")

    def _backlog(self, signs: Signs) -> Finding:
        lag_s = signs.lag_ms / 1000
        if signs.waiting and lag_s > self.far_behind_s:
            self._behind_s = round(lag_s) if self._behind_s is None else self._behind_s
        elif not signs.waiting or lag_s < CAUGHT_UP * self.far_behind_s:
            self._behind_s = None
        detail = f"Readings and alarms are more than {self.far_behind_s:g} s late."
        return Finding("backlog", self._behind_s is not None, "major", detail, self._behind_s or 0)
