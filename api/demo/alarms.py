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
from maintenance.orders import dictionary
from maintenance.orders.dictionary import Draft
from rules import alarms
from rules.episodes import Fault, Seen
from rules.models import Alarm

SEED: Final = 20260102
A_DAY: Final = 7.0
"""Alarms a day over the whole company, apart from floods."""
FLOODS: Final = ((9, 46), (31, 38), (66, 57))
"""How many days ago, and how many alarms within a quarter of an hour."""
EXPLAINED: Final = (
    Draft(code="E17", name="Air pressure at the inlet is too low", name_zh="进气压力过低",
          causes="A leak, or the compressors are overloaded", causes_zh="漏气，或空压机过载",
          remedy="Look for leaks from the branch on; check the filter regulator",
          remedy_zh="自支管起查漏；检查过滤减压阀"),
    Draft(code="E42", name="The drive is overloaded", name_zh="驱动过载", severity="major",
          causes="Belt too tight, bearing dry, or one phase missing", causes_zh="皮带过紧、轴承缺油或缺相",
          remedy="Isolate, turn by hand, measure all three phases; loosen the belt; reset the drive",
          remedy_zh="断电隔离，手动盘车，测量三相；松开皮带；复位驱动器"),
    Draft(code="E07", name="The filter is clogged", name_zh="滤芯堵塞", severity="warning",
          causes="Due for a change", causes_zh="到期未更换", remedy="Change the element", remedy_zh="更换滤芯"),
    Draft(code="E31", name="The level switch reports nothing usable", name_zh="液位开关信号异常",
          causes="Float stuck, or a loose terminal", causes_zh="浮子卡住或端子松动",
          remedy="Free the float, tighten the terminals", remedy_zh="清理浮子，紧固端子"),
    Draft(code="E03", name="Somebody has pressed the emergency stop", name_zh="急停被按下", severity="critical",
          remedy="Ask at the machine before you reset it", remedy_zh="先到现场询问，再复位"),
)  # fmt: skip
"""What is in the company's dictionary; E55 and E999 are not."""
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


def explain(session: Session, company_id: int, *, now: datetime, by: str) -> None:
    """Write the dictionary of the codes."""
    for draft in EXPLAINED:
        dictionary.save(session, draft, company_id=company_id, actor=by, now=now)


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
        "evidence": {"seq": 1},
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
        seen = Seen(
            fault, code.severity, began_at=at, at=at, message=code.message, times=times, evidence={"seq": turn + 1}
        )
        alarm_id = alarms.raise_(session, seen, now=at)
        if turn % 3 == 1:
            alarms.acknowledge(session, session.get_one(Alarm, alarm_id), by=by, now=at + timedelta(minutes=3))
