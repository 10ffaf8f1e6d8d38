"""Alarms that devices report themselves: each sequence number once, whatever is sent again (ING-10).

A device repeats an alarm until it sees its number acknowledged, which happens after the commit. A number that was
taken before is acknowledged again and changes nothing. Reports are taken in the order of their numbers; one that
arrives after a later one of the same code is put in its place, so that the alarms end up as if in order. *Cleared*
without *raised* is kept as an orphan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Boolean, cast, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from ingest import disorder
from ingest.decoded import AlarmReport as Said
from ingest.models import AlarmReport
from ingest.registry import Known
from kernel import clock
from rules import alarms
from rules.episodes import Fault, Over, Seen, Sighting

DEVICE_CLOCK: Final = "device_ts_ms"
"""In the evidence, the time a device gave that was not believed."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report and who sent it."""

    said: Said
    device: Known

    @property
    def key(self) -> tuple[int, int]:
        """What is taken once."""
        return self.device.id, self.said.seq

    @property
    def is_acknowledged(self) -> bool:
        """Whether the device gave a number that is to be acknowledged to it."""
        return self.said.seq >= 0


def take(session: Session, reports: Sequence[Report], *, now: datetime) -> set[int]:
    """Take the reports of a batch; return the positions of those that were news."""
    if not reports:
        return set()
    first: dict[tuple[int, int], int] = {}
    for position, report in enumerate(reports):
        first.setdefault(report.key, position)
    latest = _latest(session, {device_id for device_id, _ in first})
    fresh = _enter(session, [reports[position] for _, position in sorted(first.items())], now)
    news = [position for key, position in sorted(first.items()) if key in fresh]
    late = {
        position for position in news if 0 <= reports[position].said.seq < latest.get(reports[position].device.id, 0)
    }
    _apply(session, [reports[position] for position in news if position not in late], now)
    for position in sorted(late):
        _put_in_place(session, reports[position], now)
    return set(news)


def _latest(session: Session, device_ids: Iterable[int]) -> dict[int, int]:
    """Return the highest number that each device ever used."""
    asked = func.unnest(cast(sorted(device_ids), ARRAY(BigInteger))).table_valued("id", name="asked").render_derived()
    highest = select(func.max(AlarmReport.seq)).where(AlarmReport.device_id == asked.c.id).scalar_subquery()
    return {device_id: seq for device_id, seq in session.execute(select(asked.c.id, highest)) if seq is not None}


def _enter(session: Session, reports: Sequence[Report], now: datetime) -> set[tuple[int, int]]:
    """Write down the reports that were not taken before, and return their keys."""
    entered = session.execute(
        upsert(AlarmReport).on_conflict_do_nothing().returning(AlarmReport.device_id, AlarmReport.seq),
        [
            {
                "device_id": report.device.id,
                "seq": report.said.seq,
                "code": report.said.code,
                "state": "raised" if report.said.is_raised else "cleared",
                "at": clock.from_ms(report.said.ts_ms),
                "received_at": now,
                "is_orphan": False,
            }
            for report in reports
        ],
    )
    return {(device_id, seq) for device_id, seq in entered}


def _apply(session: Session, reports: Sequence[Report], now: datetime) -> None:
    taken = alarms.take(session, [_sighting(report) for report in reports], now=now)
    _link(session, [(report, alarm_id) for report, alarm_id in zip(reports, taken, strict=True)])


def _put_in_place(session: Session, report: Report, now: datetime) -> None:
    """Take a report that came after a later one of its device, as if it had come in order."""
    told = disorder.told(session, report.device.id, report.said.code, around=report.said.seq)
    if told[-1].seq == report.said.seq:
        # Only other codes have higher numbers: for this one it is the latest.
        _apply(session, [report], now)
        return
    linked = disorder.put_in_order(session, told, _sighting(report), now=now)
    for row in told:
        row.alarm_id = linked.get(row.seq)
        row.is_orphan = row.alarm_id is None
    session.flush()


def _link(session: Session, taken: Iterable[tuple[Report, int | None]]) -> None:
    """Note on each report which alarm it concerned, or that it concerned none."""
    rows = [(*report.key, alarm_id, alarm_id is None) for report, alarm_id in taken]
    if not rows:
        return
    devices, seqs, alarm_ids, orphans = zip(*rows, strict=True)
    linked = (
        func.unnest(
            cast(list(devices), ARRAY(BigInteger)),
            cast(list(seqs), ARRAY(BigInteger)),
            cast(list(alarm_ids), ARRAY(BigInteger)),
            cast(list(orphans), ARRAY(Boolean)),
        )
        .table_valued("device_id", "seq", "alarm_id", "is_orphan", name="linked")
        .render_derived()
    )
    session.execute(
        update(AlarmReport)
        .where(AlarmReport.device_id == linked.c.device_id, AlarmReport.seq == linked.c.seq)
        .values(alarm_id=linked.c.alarm_id, is_orphan=linked.c.is_orphan)
        .execution_options(synchronize_session=False)
    )


def _sighting(report: Report) -> Sighting:
    said, device = report.said, report.device
    at = clock.from_ms(said.ts_ms)
    fault = fault_of(device, said.code)
    if not said.is_raised:
        return Over(fault, at)
    evidence: dict[str, object] = {"seq": said.seq, "ts_ms": said.ts_ms}
    if said.device_ts_ms is not None:
        evidence[DEVICE_CLOCK] = said.device_ts_ms
    return Seen(fault, said.severity, at, at, message=said.text, evidence=evidence)


def fault_of(device: Known, code: str) -> Fault:
    """Return what a code of a device is about: its asset, or the device itself where it measures none."""
    return Fault(
        subject=device.subject,
        type_key=code,
        origin="device",
        actor=f"device:{device.id}",
        company_id=device.company_id,
        unit_id=device.unit_id if device.asset_unit_id is None else device.asset_unit_id,
        asset_id=device.asset_id,
        device_id=device.id,
    )
