"""What holds alarms back from people, read from the rows that say so: shelves, plant state, outages, windows, floods.

One statement answers for any number of alarms, so that a flood of thousands costs what one alarm costs. For
``rules.announcing``, which writes the answer down; nothing is written here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

GATEWAY_DOWN: Final = "gateway_down"


@dataclass(frozen=True, slots=True)
class Share:
    """What an alarm may have in common with others: its gateway, and its asset with those above, the top first."""

    id: int
    subject: str
    severity: str
    gateway_id: int | None
    line: tuple[int, ...]

    def above(self) -> Iterator[str]:
        """Return what it is a part of, the most specific first; never itself."""
        if self.gateway_id is not None:
            yield f"device:{self.gateway_id}"
        for asset_id in reversed(self.line):
            if (name := f"asset:{asset_id}") != self.subject:
                yield name


@dataclass(frozen=True, slots=True)
class Held:
    """What is true of one alarm now. ``parent_id`` is the alarm that explains it."""

    id: int
    unit_id: int
    company_id: int
    severity: str
    subject: str
    type_key: str
    is_active: bool
    is_chattering: bool
    is_shelved: bool
    is_out_of_service: bool
    suppressed_by: str | None
    parent_id: int | None
    latches: bool
    gateway_id: int | None
    line: tuple[int, ...]
    was: tuple[bool, bool, str | None, int | None]
    """Shelved, out of service, suppressed by, parent: as they stand in its row."""

    @property
    def share(self) -> Share:
        """What it may have in common with others."""
        return Share(self.id, self.subject, self.severity, self.gateway_id, self.line)

    @property
    def is_held(self) -> bool:
        """Whether nobody is to hear of it."""
        return self.is_shelved or self.is_out_of_service or self.suppressed_by is not None or self.is_chattering

    @property
    def is_changed(self) -> bool:
        """Whether its row says otherwise."""
        return self.was != (self.is_shelved, self.is_out_of_service, self.suppressed_by, self.parent_id)


_ASK: Final = text(
    """
SELECT a.id, a.unit_id, a.company_id, a.severity, a.subject, a.type_key, a.is_active, a.is_chattering,
       a.is_shelved AS was_shelved, a.is_out_of_service AS was_out, a.suppressed_by AS was_suppressed,
       a.parent_id AS was_parent, coalesce(t.latches, false) AS latches, g.gateway_id, line.ids AS line,
       EXISTS (SELECT FROM alarm_hold h WHERE h.state = 'live' AND h.kind = 'shelved'
               AND h.subject = a.subject AND h.type_key = a.type_key) AS shelved,
       coalesce(s.status = 'out_of_service', false)
       OR EXISTS (SELECT FROM alarm_hold h WHERE h.state = 'live' AND h.kind = 'out_of_service'
                  AND h.subject = a.subject AND h.type_key = a.type_key)
       OR EXISTS (SELECT FROM alarm_hold h WHERE h.state = 'live' AND h.kind = 'out_of_service'
                  AND h.asset_id = ANY (line.ids)) AS out_of_service,
       coalesce(g.is_gone, false) AS behind_gateway, g.down_id, p.id AS above_id,
       EXISTS (SELECT FROM alarm_hold h WHERE h.state = 'live' AND h.kind = 'suppressed'
               AND h.asset_id = ANY (line.ids)) AS in_window,
       coalesce(s.status IN ('planned', 'scrapped'), false)
       OR coalesce(t.suppressed_while IS NOT NULL AND EXISTS (
            SELECT FROM binding b JOIN device d ON d.id = b.device_id
            WHERE b.ends_at IS NULL AND b.asset_id = ANY (line.ids)
            AND t.suppressed_while -> 'in' @> jsonb_build_array(d.attributes -> (t.suppressed_while ->> 'attribute'))
       ), false) AS in_plant_state,
       a.suppressed_by = 'flood' AND EXISTS (
            SELECT FROM alarm_flood f WHERE f.ended_at IS NULL AND f.unit_id = a.unit_id AND f.alarm_id IS NOT NULL
            AND (f.subject = 'device:' || g.gateway_id
                 OR f.subject IN (SELECT 'asset:' || above.id FROM unnest(line.ids) AS above (id)))) AS in_flood
FROM unnest(CAST(:ids AS bigint[])) AS asked (id)
JOIN alarm a ON a.id = asked.id
LEFT JOIN asset s ON s.id = a.asset_id
LEFT JOIN alarm_type t ON t.id = a.alarm_type_id
CROSS JOIN LATERAL (SELECT string_to_array(trim(BOTH '/' FROM coalesce(s.path, '')), '/')::bigint[] AS ids) line
LEFT JOIN LATERAL (
    SELECT min(d.gateway_id) AS gateway_id, min(down.id) AS down_id,
           bool_and(d.connection = 'unreachable' OR coalesce(gateway.connection = 'offline', false)
                    OR down.id IS NOT NULL) AS is_gone
    FROM device d
    LEFT JOIN device gateway ON gateway.id = d.gateway_id
    LEFT JOIN alarm down ON down.is_active AND down.subject = 'device:' || d.gateway_id AND down.type_key = :down
    WHERE d.id = a.device_id OR (a.device_id IS NULL AND d.id IN (
        SELECT b.device_id FROM binding b WHERE b.asset_id = a.asset_id AND b.ends_at IS NULL))
) g ON true
LEFT JOIN LATERAL (
    SELECT min(o.id) AS id
    FROM unnest(line.ids) AS above (id)
    JOIN alarm o ON o.is_active AND o.subject = 'asset:' || above.id
    JOIN alarm_type ot ON ot.id = o.alarm_type_id AND ot.suppresses_below
    WHERE above.id <> a.asset_id
) p ON true
ORDER BY a.subject, a.type_key
"""
)


def of(session: Session, ids: Sequence[int]) -> list[Held]:
    """Return what holds each of these alarms, in the order in which alarms are locked."""
    return [_read(row) for row in session.execute(_ASK, {"ids": list(ids), "down": GATEWAY_DOWN}).mappings()]


def _read(one: RowMapping) -> Held:
    cause, parent = _cause(one)
    was = (one["was_shelved"], one["was_out"], one["was_suppressed"], one["was_parent"])
    return Held(
        id=one["id"],
        unit_id=one["unit_id"],
        company_id=one["company_id"],
        severity=one["severity"],
        subject=one["subject"],
        type_key=one["type_key"],
        is_active=one["is_active"],
        is_chattering=one["is_chattering"],
        is_shelved=one["shelved"],
        is_out_of_service=one["out_of_service"],
        suppressed_by=cause,
        parent_id=parent,
        latches=one["latches"],
        gateway_id=one["gateway_id"],
        line=tuple(one["line"]),
        was=was,
    )


def _cause(one: RowMapping) -> tuple[str | None, int | None]:
    """Return why an alarm is suppressed, and the alarm that explains it: the physical cause before the others."""
    if one["behind_gateway"]:
        return "gateway", one["down_id"]
    if one["above_id"] is not None:
        return "parent", one["above_id"]
    if one["in_window"]:
        return "window", None
    if one["in_plant_state"]:
        return "plant_state", None
    return ("flood", one["was_parent"]) if one["in_flood"] else (None, None)
