"""How it stands with the platform, however many workers look at it: one statement of the installation (ING-15).

Each worker tells what it found with its heartbeat. The eldest of those that live puts that together, raises the one
alarm and ends it: while any worker is in trouble, so is the installation, whatever good news another has. What a
worker found counts for as long as its licence does, and who has said nothing yet counts neither way.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.events import IntakeCaughtUp, IntakeFellBehind
from ingest.models import IngestWorker
from ingest.watch import Finding
from kernel import events
from kernel.db import Json
from rules import platform
from rules.models import SEVERITIES

BACKLOG: Final = "backlog"


@dataclass(frozen=True, slots=True)
class Said:
    """What one living worker found, with the name that people know it by."""

    worker: str
    findings: Sequence[Finding]


def combine(said: Sequence[Said]) -> list[Finding]:
    """Return how it stands with each part of the platform that anybody spoke of; the workers are named in trouble."""
    spoken = [(one.worker, finding) for one in said for finding in one.findings]
    return [
        _together(what, [one for one in spoken if one[1].what == what], len(said))
        for what in sorted({finding.what for _, finding in spoken})
    ]


def _together(what: str, spoken: Sequence[tuple[str, Finding]], workers: int) -> Finding:
    wrong = [(worker, finding) for worker, finding in spoken if finding.is_wrong]
    if not wrong:
        return Finding(what, is_wrong=False)
    detail = wrong[0][1].detail
    if workers > 1:
        names = ", ".join(worker for worker, _ in wrong)
        detail = f"{detail} In trouble: {names}; {len(wrong)} of {workers} workers."
    severity = min((finding.severity for _, finding in wrong), key=SEVERITIES.index)
    return Finding(what, True, severity, detail, max(finding.lag_s for _, finding in wrong))


def as_json(findings: Sequence[Finding]) -> Json:
    """Return findings as a worker's row holds them."""
    return {one.what: asdict(one) for one in findings}


def living(session: Session) -> list[Said]:
    """Return what the workers found that read now, the eldest first."""
    found = session.execute(
        select(IngestWorker.host, IngestWorker.pid, IngestWorker.findings)
        .where(IngestWorker.ended_at.is_(None), IngestWorker.role == "active")
        .order_by(IngestWorker.id)
    )
    return [Said(f"{host} ({pid})", [Finding(**one) for one in findings.values()]) for host, pid, findings in found]


def pronounce(session: Session, *, now: datetime) -> None:
    """Raise, keep up to date or end the alarms about the platform; tell when messages begin and cease to wait too long.

    Saying the same again changes nothing: what stands is read from the alarms, and so outlives whoever said it.
    """
    for one in combine(living(session)):
        stood = platform.stands(session, one.what)
        told = platform.report(session, one.what, one.is_wrong, severity=one.severity, detail=one.detail, now=now)
        if one.what == BACKLOG and stood is not (told is not None):
            event = IntakeCaughtUp() if stood else IntakeFellBehind(one.lag_s)
            events.emit(session, event, subject="ingest", at=now, actor="system")
