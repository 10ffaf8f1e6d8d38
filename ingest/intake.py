"""The ledger of messages: received = stored + duplicate + rejected, by device and hour (ING-3, promise P7).

The unit is a message, and in a gateway's message each child's part. It is *stored* when it changed anything, a
*duplicate* when all it said was known. Counts gather in memory and are written with a batch that commits anyway, or
about once a second; a crash forgets a second of counting, all columns alike, so that the equation still holds.
Beside each device's line stands the sum of its org unit, written in the same transaction: pages add those up.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, DateTime, Select, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from assets.models import Device
from ingest.models import IntakeCount, IntakeTotal
from telemetry.readings import Int64s, Mask

NOBODY: Final = 0
"""Counts for messages whose device is unknown."""
_HOUR_MS: Final = 3_600_000
_RECEIVED, _STORED, _DUPLICATE, _REJECTED = range(4)
_Cells = dict[tuple[int, int], list[int]]


class Tally:
    """Counts of one process that are not yet written."""

    def __init__(self) -> None:
        self._cells: _Cells = {}
        self._writing: _Cells = {}

    def __bool__(self) -> bool:
        return bool(self._cells or self._writing)

    def parts(self, devices: Int64s, received_ms: int, *, is_known: Mask | None = None) -> list[int]:
        """Count messages by device, one entry each; ``is_known`` says which told nothing new. Return who was heard."""
        if is_known is not None and is_known.any():
            heard: list[int] = np.unique(devices).tolist()
            self._add(devices[is_known], _DUPLICATE, received_ms)
            self._add(devices[~is_known], _STORED, received_ms)
            return heard
        return self._add(devices, _STORED, received_ms)

    def stored(self, device_id: int, received_ms: int) -> None:
        """Count a message that changed something."""
        self._one(device_id, _STORED, received_ms, 1)

    def duplicate(self, device_id: int, received_ms: int) -> None:
        """Count a message whose content was known."""
        self._one(device_id, _DUPLICATE, received_ms, 1)

    def rejected(self, device_id: int, received_ms: int) -> None:
        """Count a message that was set aside."""
        self._one(device_id, _REJECTED, received_ms, 1)

    def refused(self, counts: Iterable[tuple[int, int]], received_ms: int) -> None:
        """Count (device id, how many) messages that were over a limit."""
        for device_id, count in counts:
            self._one(device_id, _REJECTED, received_ms, count)

    def write(self, session: Session) -> None:
        """Write what was counted; it is forgotten by ``written``, after the commit."""
        for key, counts in self._cells.items():
            before = self._writing.setdefault(key, [0, 0, 0, 0])
            for column, count in enumerate(counts):
                before[column] += count
        self._cells = {}
        if self._writing:
            _add(session, self._writing)

    def written(self) -> None:
        """Forget what ``write`` wrote."""
        self._writing = {}

    def _add(self, devices: Int64s, column: int, received_ms: int) -> list[int]:
        found, counts = np.unique(devices, return_counts=True)
        heard: list[int] = found.tolist()
        for device_id, count in zip(heard, counts.tolist(), strict=True):
            self._one(device_id, column, received_ms, count)
        return heard

    def _one(self, device_id: int, column: int, received_ms: int, count: int) -> None:
        key = (device_id, received_ms // _HOUR_MS)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0, 0, 0, 0]
        cell[_RECEIVED] += count
        cell[column] += count


def _add(session: Session, cells: _Cells) -> None:
    # In one order for all, so that two processes that count the same do not wait for each other in a circle.
    keys = sorted(cells)
    names = ("device_id", "hour", "received", "stored", "duplicate", "rejected")
    rows = (
        func.unnest(
            cast([device_id for device_id, _ in keys], ARRAY(BigInteger)),
            cast([datetime.fromtimestamp(hour * 3600, UTC) for _, hour in keys], ARRAY(DateTime(timezone=True))),
            *(cast([cells[key][column] for key in keys], ARRAY(BigInteger)) for column in range(4)),
        )
        .table_valued(*names, name="counted")
        .render_derived()
    )
    counted = [rows.c[name] for name in names]
    _upsert(session, IntakeCount, names, select(*counted).where(literal(True)))
    # Who moved to another unit meanwhile is counted where it stands now.
    unit_id = func.coalesce(Device.unit_id, 0)
    sums = select(unit_id, rows.c.hour, *(cast(func.sum(rows.c[name]), BigInteger) for name in names[2:]))
    sums = sums.select_from(rows).outerjoin(Device, Device.id == rows.c.device_id)
    _upsert(session, IntakeTotal, ("unit_id", *names[1:]), sums.group_by(unit_id, rows.c.hour).order_by(unit_id))


def _upsert(
    session: Session, table: type[IntakeCount | IntakeTotal], names: tuple[str, ...], counted: Select[Any]
) -> None:
    statement = upsert(table).from_select(names, counted)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=names[:2],
            set_={name: getattr(table, name) + statement.excluded[name] for name in names[2:]},
        )
    )
