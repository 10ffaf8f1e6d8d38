"""What is under way when a newcomer looks at the demo company for the first time: work in every hand, and some in none.

Nothing here is written past the product: orders are opened, given and moved, a report is made and parts are issued by
the same verbs that people use, at instants of the last day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy.orm import Session

from assets.models import Asset
from maintenance.orders import desk, opening, requests, timeline
from maintenance.orders.requests import Report
from maintenance.parts import stock
from maintenance.parts.models import Part, Place
from people.models import Account

ACTOR = "system"


@dataclass(frozen=True, slots=True)
class Step:
    """Something a technician did: minutes after the order was opened, the verb, and the words that go with it."""

    after: int
    verb: str
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """Work that is open now, on the last asset whose code begins with ``asset``.

    ``who`` is a user name; nobody has it where that is empty.
    """

    asset: str
    title: str
    title_zh: str
    opened_min_ago: int
    who: str = ""
    steps: Sequence[Step] = ()
    priority: int = 3
    skill: str | None = None
    due_after_min: int | None = None
    note: str = ""


JOBS = (
    Job("NI-PUM", "Heat exchanger leaks coolant", "换热器泄漏冷媒", 95, priority=2, skill="refrigeration",
        note="Needs a licence for refrigerants. 需要制冷剂操作证，宁波厂无人持证。"),
    Job("NI-CON", "Belt runs off to the left", "皮带向左跑偏", 150, "wu.tao",
        (Step(9, "accept"), Step(20, "depart"), Step(41, "arrive"), Step(46, "start"))),
    Job("NI-COM", "Condensate drain is blocked", "冷凝水排放阀堵塞", 640, "xu.lin",
        (Step(12, "accept"), Step(30, "depart"), Step(52, "arrive"), Step(58, "start"),
         Step(110, "pause", {"reason": "No drain valve in the van. 车上没有排放阀，等下一批到货。"})),
        priority=2, due_after_min=480),
    Job("HA-PUM", "Seal drips", "机械密封滴漏", 400, "piotr",
        (Step(15, "accept"), Step(25, "depart"), Step(44, "arrive"), Step(50, "start"),
         Step(125, "finish", {"finding": "real", "resolution": "Mechanical seal replaced; dry."}))),
    Job("HA-MOU", "Noise from the clamping unit", "锁模机构异响", 35, "leyla", (Step(6, "accept"),)),
)  # fmt: skip
REPORTED = "HA-MOU"
REPORT = Report(
    what="It squeals every time the mould closes, louder since this morning.", contact_name="A. Petersen", language="en"
)
SCARCE = (("suzhou", "SEL"), ("ningbo", "BRG"), ("hamburg", "PRS"))
"""Store and kind of part of which the last count found one."""
COUNTED = "Count of the shelf. 货架盘点。"


def work(
    session: Session,
    assets: Sequence[Asset],
    people: Mapping[str, Account],
    parts: Sequence[Part],
    places: Mapping[str, Place],
    *,
    now: datetime,
) -> None:
    """Open what is open today, and let some shelves run low."""
    for job in JOBS:
        _open(session, job, _last(assets, job.asset), people, now)
    requests.make(
        session, _last(assets, REPORTED), REPORT, origin="scan", actor="customer", now=now - timedelta(minutes=12)
    )
    for store, kind in SCARCE:
        part = next(one for one in parts if one.number.startswith(kind))
        stock.correct(
            session, part, places[store], Decimal(1), reason=COUNTED, actor=ACTOR, now=now - timedelta(hours=3)
        )


def _last(assets: Sequence[Asset], codes: str) -> Asset:
    """Return the last asset whose code begins so."""
    return [asset for asset in assets if asset.code.startswith(codes)][-1]


def _open(session: Session, job: Job, asset: Asset, people: Mapping[str, Account], now: datetime) -> None:
    opened = now - timedelta(minutes=job.opened_min_ago)
    due = None if job.due_after_min is None else opened + timedelta(minutes=job.due_after_min)
    draft = opening.about(
        asset,
        origin="person",
        title=job.title,
        title_zh=job.title_zh,
        priority=job.priority,
        skill=job.skill,
        due_at=due,
    )
    order = opening.open_order(session, draft, actor=ACTOR, now=opened)
    if job.note:
        timeline.comment(session, order, job.note, actor=ACTOR, now=opened)
    if job.who:
        person = people[job.who]
        desk.give(session, order, person, "assign", actor=ACTOR, now=opened + timedelta(minutes=1))
        for step in job.steps:
            at = opened + timedelta(minutes=step.after)
            desk.move(session, order, step.verb, actor=f"account:{person.id}", now=at, **step.words)
