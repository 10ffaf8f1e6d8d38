"""What is counted on an open alarm: by its machine at each instant, or for many samples at once where it is steady.

For ``rules.machine``, which decides when it opens, changes and clears, and for the engine, which leaves the samples
of a steady instance to no machine. Both count alike, so that nobody can tell which of the two it was.
"""

from typing import Self

from rules.conditions import Severity
from rules.outcome import Alarm, Held, State, Streak, Updated


class OpenAlarm:
    """The open alarm while it is stepped; see ``Alarm`` for its words."""

    __slots__ = (
        "began_ms",
        "last_seen_ms",
        "matched",
        "peak_severity",
        "raised_ms",
        "repeats",
        "severity",
        "value",
    )

    severity: Severity
    peak_severity: Severity
    began_ms: int
    raised_ms: int
    last_seen_ms: int
    matched: int
    repeats: int
    value: float | None

    @classmethod
    def again(cls, alarm: Alarm) -> Self:
        """Go on from an alarm as it was read off."""
        taken_up = cls()
        for word in cls.__slots__:
            setattr(taken_up, word, getattr(alarm, word))
        return taken_up

    def frozen(self, metric: str, peak: float | None) -> Alarm:
        """Read it off, with its leading metric and the worst that this came to."""
        return Alarm(
            self.severity,
            self.peak_severity,
            self.began_ms,
            self.raised_ms,
            self.last_seen_ms,
            self.matched,
            self.repeats,
            metric,
            self.value,
            peak,
        )


def more_extreme(peak: float | None, value: float, sign: int) -> float:
    """Return the worse of two values; without a direction the newer one."""
    if peak is None or not sign:
        return value
    return max(peak, value) if sign > 0 else min(peak, value)


def count_steady(state: State, alarm: Alarm, held: Held, *, matches: int, peak: float) -> tuple[State, Updated]:
    """Count ``matches`` further samples of a steady instance (``Machine.is_steady``), the last of which is ``held``.

    ``alarm`` is that of ``state``; ``peak`` takes the place of its peak.
    """
    at_ms = max(state.at_ms, held.ts_ms)
    counted = Alarm(
        alarm.severity,
        alarm.peak_severity,
        alarm.began_ms,
        alarm.raised_ms,
        at_ms,
        alarm.matched + matches,
        alarm.repeats + matches,
        alarm.metric,
        held.value if isinstance(held.value, float) else None,
        peak,
    )
    streaks = tuple(
        [
            # The time without a match begins with the last one.
            Streak(s.of, s.kind, at_ms) if s.kind == "quiet" else Streak(s.of, s.kind, s.began_ms, s.count + matches)
            for s in state.streaks
        ]
    )
    after = State(state.instance, at_ms, (held,), state.latched, streaks, counted)
    return after, Updated(state.instance, at_ms, counted)
