"""How sightings of one fault become alarms: raise, repeat, change of severity, end. For ``rules.alarms``.

Pure: an open alarm and what was seen since go in, the alarms as they then stand come out, each with its history.
Any number of sightings of a batch are folded before anything is written, so that a flood costs few statements.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from kernel import clock
from rules.events import AlarmCleared, AlarmFlagged, AlarmRaised, AlarmSeverityChanged
from rules.models import SEVERITIES

CHATTERS_AT: Final = 3
"""So many times raised and over within ``CHATTERS_WITHIN`` of device time, and the next raise is held as one alarm."""
CHATTERS_WITHIN: Final = timedelta(minutes=1)
CALM_AFTER: Final = timedelta(minutes=1)
"""For so long, in server time, the signal of a chattering alarm must neither come nor go until it is calm."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What may be wrong with what: the identity of an alarm (A2), whose it is, and who says so.

    ``origin`` is ``rule`` or ``device``; ``actor`` is ``rule:3`` or ``device:7``.
    """

    subject: str
    type_key: str
    origin: str
    actor: str
    company_id: int
    unit_id: int
    asset_id: int | None
    device_id: int | None
    alarm_type_id: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What at most one open alarm may have."""
        return self.subject, self.type_key


@dataclass(frozen=True, slots=True)
class Seen:
    """The fault is there. ``began_at`` and ``at`` are device time: of its first sign, and of this sighting.

    It opens an alarm where none is open, unless ``opens`` is False. ``message`` None leaves the text as it is.
    ``times`` are counted, or ``total`` is what the count becomes. ``peak`` is the worst value so far, by whoever
    knows which direction is worse.
    """

    fault: Fault
    severity: str
    began_at: datetime
    at: datetime
    message: str | None = None
    metric: str | None = None
    value: float | None = None
    peak: float | None = None
    limit: float | None = None
    rule_version: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    opens: bool = True
    times: int = 1
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """The fault is gone since ``at``, in device time."""

    fault: Fault
    at: datetime


Sighting = Seen | Over


@dataclass(frozen=True, slots=True)
class Line:
    """One change of an alarm: for its history, the audit trail and, with ``happening``, the outbox.

    ``happening`` is an event's class with what it holds besides the alarm's id. ``announces`` says why people are
    to hear of it, unless the alarm is held.
    """

    kind: str
    actor: str
    detail: dict[str, Any]
    happening: tuple[type[Any], dict[str, Any]]
    announces: str | None = None


@dataclass(slots=True, eq=False)
class Episode:
    """One alarm from raise to end, as it will stand in its row. ``id`` is 0 until it is given.

    ``first`` is the number of the sighting that opened it; ``taken`` are the numbers of those it took.
    ``repeats`` counts what a device said again. What ``is_late`` is recorded and never announced.
    """

    fault: Fault
    row: dict[str, Any]
    id: int = 0
    is_new: bool = True
    first: int = -1
    before: "Episode | None" = None
    taken: list[int] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    repeats: int = 0
    repeated_by: str = ""
    is_late: bool = False


CHANGING = (
    "severity", "peak_severity", "message", "is_active", "is_acknowledged", "acknowledged_at", "acknowledged_by",
    "began_at", "raised_at", "last_seen_at", "ended_at", "cleared_at", "count", "value", "peak_value", "limit",
    "rule_version", "is_chattering", "cycles", "count_before", "recovered_at", "next_at", "is_unsupported",
)  # fmt: skip
"""The columns that change while an alarm is open."""


def fold(
    standing: Episode | None,
    sightings: Iterable[tuple[int, Sighting]],
    now: datetime,
    cycles: Sequence[int] = (),
) -> list[Episode]:
    """Return the episodes that numbered sightings of one fault make, ``standing`` (the open one) first.

    ``now`` is server time. ``cycles`` are those of the last alarm where none stands. A sighting that no episode took
    met nothing to end or to update.
    """
    episodes = [] if standing is None else [standing]
    current = standing
    for number, sighting in sightings:
        if current is None:
            if isinstance(sighting, Over) or not sighting.opens:
                continue
            current = _opened(sighting, number, now, cycles)
            current.before = episodes[-1] if episodes else None
            episodes.append(current)
        elif isinstance(sighting, Seen):
            _update(current, sighting, now)
        else:
            _end(current, sighting, now)
        current.taken.append(number)
        if not current.row["is_active"]:
            cycles = current.row["cycles"]
            current = None
    return episodes


def is_worse(severity: str, than: str) -> bool:
    """Return whether one severity is more severe than another."""
    return SEVERITIES.index(severity) < SEVERITIES.index(than)


def _opened(seen: Seen, number: int, now: datetime, cycles: Sequence[int]) -> Episode:
    fault = seen.fault
    lately = _lately(cycles, seen.at)
    is_chattering = len(lately) >= CHATTERS_AT
    row = {
        "subject": fault.subject,
        "type_key": fault.type_key,
        "alarm_type_id": fault.alarm_type_id,
        "asset_id": fault.asset_id,
        "device_id": fault.device_id,
        "company_id": fault.company_id,
        "unit_id": fault.unit_id,
        "origin": fault.origin,
        "severity": seen.severity,
        "peak_severity": seen.severity,
        "message": (seen.message or "")[:500],
        "is_active": True,
        "is_acknowledged": False,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "began_at": min(seen.began_at, seen.at),
        "raised_at": seen.at,
        "detected_at": now,
        "last_seen_at": seen.at,
        "ended_at": None,
        "cleared_at": None,
        "count": seen.times if seen.total is None else seen.total,
        "metric": seen.metric,
        "value": seen.value,
        "peak_value": seen.value if seen.peak is None else seen.peak,
        "limit": seen.limit,
        "rule_version": seen.rule_version,
        "evidence": dict(seen.evidence),
        "previous_id": None,
        "is_chattering": is_chattering,
        "cycles": lately,
        "count_before": 0,
        "recovered_at": None,
        "next_at": now + CALM_AFTER if is_chattering else None,
    }
    opened = Episode(fault, row, first=number)
    said = {"severity": seen.severity, "at": seen.at}
    opened.lines.append(Line("raised", fault.actor, said, (AlarmRaised, {}), announces="raised"))
    if is_chattering:
        flag = {"flag": "chattering"}
        opened.lines.append(Line("flagged", fault.actor, flag, (AlarmFlagged, flag)))
    return opened


def _lately(cycles: Sequence[int], at: datetime) -> list[int]:
    """Return those of the ends that count for chattering at an instant."""
    since = clock.to_ms(at - CHATTERS_WITHIN)
    return [one for one in cycles if one >= since][-CHATTERS_AT:]


def _update(episode: Episode, seen: Seen, now: datetime) -> None:
    row = episode.row
    if row["recovered_at"] is not None:
        # The signal of a chattering alarm is back: whoever counts its matches begins at one again.
        row |= {"recovered_at": None, "count_before": row["count"], "next_at": now + CALM_AFTER}
    row["count"] = row["count"] + seen.times if seen.total is None else row["count_before"] + seen.total
    if seen.opens and row.get("is_unsupported"):
        # What history had refuted is there now, and from now on.
        row |= {"is_unsupported": False, "began_at": seen.began_at, "raised_at": seen.at}
    row["began_at"] = min(row["began_at"], seen.began_at)
    # A repetition that arrives late amends the beginning (A18).
    row["raised_at"] = min(row["raised_at"], max(seen.at, row["began_at"]))
    row["last_seen_at"] = max(row["last_seen_at"], seen.at)
    if seen.message is not None:
        row["message"] = seen.message[:500]
    if seen.value is not None:
        row["value"] = seen.value
    if seen.peak is not None:
        row["peak_value"] = seen.peak
    if seen.limit is not None:
        row["limit"] = seen.limit
    if seen.rule_version is not None:
        row["rule_version"] = seen.rule_version
    if seen.severity != row["severity"]:
        _change_severity(episode, seen)
    elif seen.fault.origin == "device":
        episode.repeats += seen.times
        episode.repeated_by = seen.fault.actor


def _change_severity(episode: Episode, seen: Seen) -> None:
    row, before = episode.row, episode.row["severity"]
    row["severity"] = seen.severity
    if is_worse(seen.severity, row["peak_severity"]):
        row["peak_severity"] = seen.severity
    if is_worse(seen.severity, before):
        # Whoever took note of the lesser fault has not seen this one.
        row |= {"is_acknowledged": False, "acknowledged_at": None, "acknowledged_by": None}
    change = {"before": before, "after": seen.severity}
    told = "severity" if is_worse(seen.severity, before) else None
    line = Line("severity", seen.fault.actor, {**change, "at": seen.at}, (AlarmSeverityChanged, change), told)
    episode.lines.append(line)


def calm(episode: Episode, now: datetime) -> None:
    """Let a chattering alarm be an alarm like others: over since its signal went, if that has not come back."""
    row = episode.row
    episode.taken.append(-1)
    ended_at = row["recovered_at"]
    row |= {"is_chattering": False, "recovered_at": None, "next_at": None, "cycles": []}
    if ended_at is not None:
        row |= {"is_active": False, "ended_at": ended_at, "cleared_at": now}
        episode.lines.append(Line("cleared", "system", {"at": ended_at}, (AlarmCleared, {})))


def _end(episode: Episode, over: Over, now: datetime) -> None:
    row = episode.row
    ended_at = max(over.at, row["raised_at"])
    if row["is_chattering"]:
        # Held as one: it ends when it has been calm, at the last instant at which its signal went.
        row |= {"recovered_at": row["recovered_at"] or ended_at, "next_at": now + CALM_AFTER}
        return
    row |= {"is_active": False, "ended_at": ended_at, "cleared_at": now, "next_at": None}
    row["cycles"] = [*_lately(row["cycles"], ended_at), clock.to_ms(ended_at)][-CHATTERS_AT:]
    episode.lines.append(Line("cleared", over.fault.actor, {"at": ended_at}, (AlarmCleared, {})))
