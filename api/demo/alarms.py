"""What the demo company's machines reported by themselves: codes of controllers, now and in the months before.

The past is drawn as plants have it: a few codes make most of the alarms, some are over before anybody could look,
one limit switch chatters, and on three evenings a dip of the mains sets off a whole hall at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from assets.models import Asset, Device
from rules import alarms
from rules.episodes import Fault, Seen
from rules.models import Alarm

SEED: Final = 20260102
A_DAY: Final = 7.0
"""Alarms a day over the whole company, apart from floods."""
FLOODS: Final = ((9, 46), (31, 38), (66, 57))
"""How many days ago, and how many alarms within a quarter of an hour."""
SHORTEST_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Code:
    """What a controller reports under a code, and how often and how long beside the others."""

    key: str
    severity: str
    message: str
    kinds: tuple[str, ...]
    weight: int
    minutes: float


CODES: Final = (
    Code("E17", "minor", "Low compressed air at inlet", ("moulding", "conveyor"), 9, 12),
    Code("E42", "major", "Drive overload", ("compressor", "pump", "conveyor"), 4, 35),
    Code("E07", "warning", "Filter differential pressure high", ("compressor", "chiller"), 14, 240),
    Code("E31", "minor", "Level switch fault", ("pump", "chiller"), 12, 1),
    Code("E03", "critical", "Emergency stop pressed", ("moulding", "conveyor"), 1, 6),
    Code("E55", "warning", "Phase imbalance", ("transformer", "pump"), 6, 3),
    Code("E999", "minor", "Controller fault 999", ("moulding",), 1, 20),
)
CHATTERS: Final = CODES[3]
NOW: Final = (
    ("E42", 9, 1), ("E17", 23, 4), ("E07", 2600, 1), ("E55", 41, 2), ("E31", 75, 12), ("E999", 130, 1), ("E03", 4, 1),
)  # fmt: skip
"""Code, how many minutes ago, how often since: what stands open when a newcomer looks."""


def past(
    session: Session, machines: Sequence[tuple[Device, Asset]], *, now: datetime, behind: timedelta, by: str
) -> int:
    """Write the alarms of the months before as rows that are over; return their number. ``by`` acknowledged them."""
    random = np.random.default_rng(SEED)
    of_code = {code.key: [one for one in machines if one[1].type.key in code.kinds] for code in CODES}
    days = behind.total_seconds() / 86_400
    weights = np.array([code.weight for code in CODES], float)
    rows = []
    for which in random.choice(len(CODES), int(A_DAY * days), p=weights / weights.sum()):
        code = CODES[which]
        # Two thirds of the alarms of a code come from one machine that nobody has got round to.
        pool = of_code[code.key]
        on = pool[0] if random.random() < 0.65 else pool[int(random.integers(len(pool)))]  # noqa: PLR2004 - as said
        at = now - timedelta(days=float(random.uniform(0.3, days)))
        lasts = timedelta(seconds=max(SHORTEST_S, float(random.exponential(code.minutes * 60))))
        rows.append(_over(code, on, at, lasts, random, by))
    for ago, number in FLOODS:
        if ago < days:
            rows += _flood(machines, now - timedelta(days=ago, hours=5), number, random, by)
    start = now - timedelta(days=min(2.0, days / 2))
    rows += [
        _over(
            CHATTERS, of_code[CHATTERS.key][-1], start + timedelta(seconds=14 * beat), timedelta(seconds=6), random, by
        )
        for beat in range(24)
    ]
    session.execute(insert(Alarm), sorted(rows, key=lambda row: row["detected_at"]))
    return len(rows)


def _flood(
    machines: Sequence[tuple[Device, Asset]], at: datetime, number: int, random: np.random.Generator, by: str
) -> list[dict[str, Any]]:
    """Return the alarms of a dip of the mains at one site: every drive reports, then all comes back."""
    unit = machines[int(random.integers(len(machines)))][1].unit_id
    hall = [one for one in machines if one[1].unit_id == unit]
    rows = []
    for turn in range(number):
        on = hall[turn % len(hall)]
        fit = [code for code in CODES if on[1].type.key in code.kinds] or [CODES[5]]
        code = fit[turn // len(hall) % len(fit)]
        begins = at + timedelta(seconds=float(random.uniform(0, 900)))
        rows.append(_over(code, on, begins, timedelta(minutes=float(random.uniform(2, 25))), random, by))
    return rows


def _over(
    code: Code, on: tuple[Device, Asset], at: datetime, lasts: timedelta, random: np.random.Generator, by: str
) -> dict[str, Any]:
    """Return the row of an alarm that is over and acknowledged, sooner the worse it was."""
    device, asset = on
    patience = {"critical": 2.0, "major": 6.0, "minor": 25.0}.get(code.severity, 90.0)
    taken = at + timedelta(minutes=float(random.exponential(patience)) + 0.3)
    return {
        "company_id": asset.company_id,
        "unit_id": asset.unit_id,
        "subject": f"asset:{asset.id}",
        "type_key": code.key,
        "asset_id": asset.id,
        "device_id": device.id,
        "origin": "device",
        "severity": code.severity,
        "peak_severity": code.severity,
        "message": code.message,
        "is_active": False,
        "is_acknowledged": True,
        "began_at": at,
        "raised_at": at,
        "detected_at": at + timedelta(milliseconds=400),
        "announced_at": at + timedelta(milliseconds=400),
        "last_seen_at": at + lasts,
        "ended_at": at + lasts,
        "cleared_at": at + lasts + timedelta(milliseconds=400),
        "acknowledged_at": taken,
        "acknowledged_by": by,
        "count": 1,
        "evidence": {},
    }


def standing(session: Session, machines: Sequence[tuple[Device, Asset]], *, now: datetime, by: str) -> None:
    """Raise what stands open now, by the verbs of the product; ``by`` has taken note of some of it."""
    codes = {code.key: code for code in CODES}
    for turn, (key, minutes, times) in enumerate(NOW):
        code = codes[key]
        device, asset = [one for one in machines if one[1].type.key in code.kinds][turn]
        fault = Fault(
            f"asset:{asset.id}", key, "device", f"device:{device.id}", asset.company_id, asset.unit_id, asset.id,
            device.id,
        )  # fmt: skip
        at = now - timedelta(minutes=minutes)
        seen = Seen(fault, code.severity, began_at=at, at=at, message=code.message, times=times)
        alarm_id = alarms.raise_(session, seen, now=at)
        if turn % 3 == 1:
            alarms.acknowledge(session, session.get_one(Alarm, alarm_id), by=by, now=at + timedelta(minutes=3))
