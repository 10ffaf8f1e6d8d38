"""What a mapping found besides readings, as the reports that devices of the contract send themselves.

A payload says a state again and again, and numbers nothing: only changes of it count, and the number of such a report
is made of what was said and when, so that a redelivered one is recognised where its time is the device's own.
"""

from collections.abc import Iterator

from ingest import reports
from ingest.decoded import AlarmReport, Source, StatusReport
from ingest.reading import Said
from ingest.reports import Believe


def alarms(message: int, payload: bytes, said: Said, source: Source, believe: Believe) -> Iterator[AlarmReport]:
    """Return the alarms that a message speaks of."""
    is_beside = bool(said.elements)
    for fault in said.faults:
        ts_ms, device_ts_ms = believe(fault.ts_ms)
        yield AlarmReport(
            message,
            said.device,
            reports.unnumbered(payload + fault.code.encode(), ts_ms),
            fault.code,
            fault.severity,
            fault.is_raised,
            fault.message,
            ts_ms,
            device_ts_ms,
            mapped=source,
            is_beside=is_beside,
        )
        is_beside = True


def status(message: int, said: Said, source: Source, *, is_replayed: bool) -> Iterator[StatusReport]:
    """Return whether the device can be reached, where a message says so."""
    if said.is_online is not None:
        is_beside = bool(said.elements or said.faults)
        yield StatusReport(message, said.device, said.is_online, is_replayed, mapped=source, is_beside=is_beside)
