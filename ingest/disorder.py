"""Alarm reports that arrive out of order: what the alarms of a code should have been, and bringing them to it.

A broker that loses messages makes a device repeat them, so *raised* 17 may come after *cleared* 18. In the order of
the numbers, each run of *raised* up to the next *cleared* is one alarm. Alarms that exist are amended, missing ones
are added, and a *cleared* that follows no *raised* concerns none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.models import AlarmReport
from rules import alarm_rows, alarms, episodes
from rules.episodes import Episode, Fault, Line, Over, Seen, Sighting
from rules.events import AlarmCleared


@dataclass(slots=True, eq=False)
class Run:
    """One alarm as the reports tell it: at least one *raised*, and the *cleared* that ended it, if any."""

    raised: list[AlarmReport] = field(default_factory=list)
    cleared: AlarmReport | None = None


def told(session: Session, device_id: int, code: str, *, around: int) -> Sequence[AlarmReport]:
    """Return the reports of a code by number, from the run that a number belongs to onwards."""
    mine = select(AlarmReport).where(AlarmReport.device_id == device_id, AlarmReport.code == code)
    before = session.scalars(
        mine.where(AlarmReport.seq < around, AlarmReport.seq >= 0, AlarmReport.state == "cleared")
        .order_by(AlarmReport.seq.desc())
        .limit(1)
    ).first()
    first = 0 if before is None else before.seq + 1
    return session.scalars(mine.where(AlarmReport.seq >= first).order_by(AlarmReport.seq)).all()


def runs(reports: Sequence[AlarmReport]) -> list[Run]:
    """Return the alarms that reports in the order of their numbers tell of."""
    found: list[Run] = []
    current: Run | None = None
    for report in reports:
        if report.state == "raised":
            if current is None:
                current = Run()
                found.append(current)
            current.raised.append(report)
        elif current is not None:
            current.cleared = report
            current = None
    return found


def put_in_order(session: Session, reports: Sequence[AlarmReport], late: Sighting, *, now: datetime) -> dict[int, int]:
    """Bring the alarms of reports to what these tell; return which alarm each number concerns, if any.

    ``late`` is what the report that came out of order says.
    """
    held = alarm_rows.lock(session, {report.alarm_id for report in reports if report.alarm_id is not None})
    amended: list[tuple[Run, Episode]] = []
    unused = dict(held)
    severity, message = "warning", ""
    if isinstance(late, Seen):
        severity, message = late.severity, late.message or ""
    for run in runs(reports):
        known = next((unused.pop(one.alarm_id) for one in run.raised if one.alarm_id in unused), None)
        if known is None:
            known = _made(run, late.fault, severity, message, now)
        else:
            severity, message = known.row["severity"], known.row["message"]
            _brought(known, run, late.fault, now)
        amended.append((run, known))
    alarms.amend(session, [episode for _, episode in amended], now=now)
    return {
        report.seq: episode.id
        for run, episode in amended
        for report in (*run.raised, *(() if run.cleared is None else (run.cleared,)))
    }


def _made(run: Run, fault: Fault, severity: str, message: str, now: datetime) -> Episode:
    """Return the alarm of a run that has none yet: a run was cut in two, or its *raised* came last."""
    seen: list[tuple[int, Sighting]] = [
        (report.seq, Seen(fault, severity, report.at, report.at, message=message)) for report in run.raised
    ]
    if run.cleared is not None:
        seen.append((run.cleared.seq, Over(fault, run.cleared.at)))
    (episode,) = episodes.fold(None, seen, now)
    episode.row["evidence"] = {"seq": run.raised[0].seq, "came_out_of_order": True}
    return episode


def _brought(episode: Episode, run: Run, fault: Fault, now: datetime) -> None:
    """Bring an alarm that exists to what its run tells."""
    row, times = episode.row, [report.at for report in run.raised]
    episode.taken = [report.seq for report in run.raised]
    row |= {"count": len(times), "began_at": min(times), "raised_at": min(times), "last_seen_at": max(times)}
    # Told run by run, it is no longer held as one alarm for many.
    row |= {"count_before": 0, "recovered_at": None}
    if run.cleared is None:
        return
    ended_at = max(run.cleared.at, row["raised_at"])
    if row["is_active"]:
        episode.lines.append(Line("cleared", fault.actor, {"at": ended_at}, (AlarmCleared, {})))
        row |= {"is_active": False, "cleared_at": now, "is_chattering": False, "next_at": None}
    row["ended_at"] = ended_at
