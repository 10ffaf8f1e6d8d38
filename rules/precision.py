"""How often a rule was right, from what people found, and which limit would have been right more often (RUL-16).

Pure, for whoever shapes rules. A finding says that the fault was real, that the alarm was false, or that nothing was
found; the last decides nothing, because a fault that comes and goes is found by nobody either. A limit is only ever
suggested: the one that all real alarms still reached and that keeps the most false ones away.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

FEWEST_REAL: Final = 3
"""Fewer real alarms than these say too little for a suggestion."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An alarm with what was found, *real*, *false_alarm* or *nothing_found*.

    ``metric``, ``operator`` and ``limit`` are of the comparison that raised it, as frozen with it, None where it was
    none with a number or the asset had a limit of its own; ``peak`` is the worst value it saw.
    """

    finding: str
    metric: str | None = None
    operator: str | None = None
    limit: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """How many alarms were judged in which way; ``percent`` is the share of real among real and false ones."""

    real: int
    false: int
    nothing: int

    @property
    def percent(self) -> float | None:
        """The precision in per cent; None before anything was decided."""
        decided = self.real + self.false
        return 100 * self.real / decided if decided else None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A limit that ``real`` of ``real`` real alarms still reached and ``spared`` of ``false`` false ones did not."""

    metric: str
    operator: str
    limit: float
    suggested: float
    real: int
    false: int
    spared: int


def quality(judged: Iterable[Judged]) -> Quality:
    """Count findings."""
    counts = Counter(one.finding for one in judged)
    return Quality(counts["real"], counts["false_alarm"], counts["nothing_found"])


def suggestions(judged: Iterable[Judged]) -> list[Suggestion]:
    """Return a better limit for each comparison for which the alarms judged show one."""
    groups: dict[tuple[str, str, float], list[Judged]] = {}
    for one in judged:
        if one.metric is not None and one.operator is not None and one.limit is not None and one.peak is not None:
            groups.setdefault((one.metric, one.operator, one.limit), []).append(one)
    found = (_better(*key, group) for key, group in sorted(groups.items()))
    return [one for one in found if one is not None]


def _better(metric: str, operator: str, limit: float, group: Sequence[Judged]) -> Suggestion | None:
    if not operator.startswith((">", "<")):
        return None
    # Below a lower limit everything is upside down.
    sign = 1.0 if operator.startswith(">") else -1.0
    real = [sign * one.peak for one in group if one.finding == "real" and one.peak is not None]
    false = [sign * one.peak for one in group if one.finding == "false_alarm" and one.peak is not None]
    if len(real) < FEWEST_REAL:
        return None
    least = min(real)
    spared = [peak for peak in false if peak < least]
    if not spared or least <= sign * limit:
        return None
    # Halfway between the false ones and the least of the real ones, so that neither stands on the edge.
    suggested = _round_between(max(*spared, sign * limit), least)
    return Suggestion(metric, operator, limit, sign * suggested, len(real), len(false), len(spared))


def _round_between(low: float, high: float) -> float:
    """Return a number above ``low`` and below ``high``, with no more digits than that takes."""
    middle = (low + high) / 2
    for digits in range(12):
        rounded = round(middle, digits)
        if low < rounded < high:
            return rounded
    return middle
