"""The months behind the demo company: faults that were repaired, parts that were used, customers who rated.

Rows are written as they would stand had the product run all the time: every order with its times in order, its
timeline, its part movements and, where a machine raised it, its alarm and the curve that shows why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.demo import physics
from api.demo.physics import Fault, Signal
from api.runtime import Runtime
from assets.models import Asset
from kernel import clock, db, numbering
from maintenance.orders import kinds
from maintenance.orders.models import Assignment, Entry, Order
from maintenance.parts import stock
from maintenance.parts.models import Part, Place
from people.models import Account, AccountSkill, Skill, Team
from rules.models import Alarm, AlarmType
from telemetry import series
from telemetry.readings import Readings

SEED = 20260101
ORDERS = 170
EVERY_MS = 300_000
"""Past readings are five minutes apart."""
ACTOR = "system"
PRIORITY_OF = {"critical": 1, "major": 2, "minor": 3}


@dataclass(frozen=True, slots=True)
class Story:
    """What can happen to a kind of machine, and how it was mended; English and Chinese as people write them."""

    kind: str
    fault: int
    """Index into ``physics.FAULTS[kind]``; that fault's curve is drawn into the past."""
    alarm: str | None
    metric: str
    title: str
    title_zh: str
    resolution: str
    part: str
    severity: str = "major"


STORIES = (
    Story("compressor", 0, "compressor-overheat", "temperature", "Outlet too hot", "排气温度过高",
          "Oil cooler cleaned, thermostatic valve replaced. 清洗油冷却器，更换温控阀。", "VLV"),
    Story("compressor", 1, "compressor-vibration", "vibration", "Strong vibration", "振动过大",
          "Motor bearing replaced, coupling aligned. 更换电机轴承，重新对中。", "BRG"),
    Story("chiller", 0, "chiller-pressure", "condenser_pressure", "Condenser pressure high", "冷凝压力过高",
          "Condenser coil cleaned. 清洗冷凝器翅片。", "CLN"),
    Story("moulding", 0, "moulding-oil", "oil_temperature", "Hydraulic oil too hot", "液压油温过高",
          "Oil cooler flushed, hose replaced. 冲洗油冷器，更换软管。", "HOS"),
    Story("pump", 0, "pump-vibration", "vibration", "Pump vibrates", "水泵振动过大",
          "Bearings replaced. 更换轴承。", "BRG"),
    Story("pump", 1, "pump-flow", "flow", "Flow too low", "流量过低",
          "Mechanical seal replaced, suction line vented. 更换机械密封，吸入管排气。", "SEL"),
    Story("conveyor", 0, "conveyor-motor", "motor_temperature", "Motor too hot", "电机过热",
          "Belt freed, contactor replaced. 清除卡料，更换接触器。", "CNT"),
    Story("transformer", 0, "transformer-winding", "winding_temperature", "Winding too hot", "绕组温度过高",
          "Cooling fan replaced. 更换冷却风机。", "FAN", "critical"),
)  # fmt: skip
REMARKS = (
    "Quick and friendly. 很快，态度很好。",
    "Machine runs again, thank you! 设备恢复正常，谢谢！",
    "Had to wait a while for the part. 等备件等了一会儿。",
    "Well explained. 讲解清楚。",
    "",
)


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault of the past on one machine, for its curve."""

    asset_id: int
    fault: Fault
    from_ms: int
    until_ms: int


@dataclass(slots=True)
class Past:
    """What the makers of past work draw from."""

    session: Session
    random: np.random.Generator
    now: datetime
    technicians: dict[int, list[tuple[Account, frozenset[str]]]]
    """Org unit → who works there, with their skills."""
    alarm_types: dict[str, AlarmType]
    parts: dict[str, list[Part]]
    places: dict[int, Place]
    """Org unit → its store."""
    teams: dict[int, Team]


def work(
    session: Session,
    assets: Sequence[Asset],
    parts: Sequence[Part],
    places: Mapping[str, Place],
    *,
    now: datetime,
    behind: timedelta,
) -> list[Episode]:
    """Write past work orders with all that belongs to them; return the faults for the curves."""
    random = np.random.default_rng(SEED)
    past = _past(session, random, parts, places, now)
    by_kind = {kind: [asset for asset in assets if asset.type.key == kind] for kind in physics.SIGNALS}
    began = sorted(now - timedelta(seconds=float(s)) for s in random.uniform(86_400, behind.total_seconds(), ORDERS))
    episodes = []
    for at in began:
        story = STORIES[int(random.integers(len(STORIES)))]
        asset = by_kind[story.kind][int(random.integers(len(by_kind[story.kind])))]
        episodes.append(_repair(past, story, asset, at))
    session.flush()
    return episodes


def _past(
    session: Session, random: np.random.Generator, parts: Sequence[Part], places: Mapping[str, Place], now: datetime
) -> Past:
    technicians: dict[int, list[tuple[Account, frozenset[str]]]] = {}
    skills: dict[int, set[str]] = {}
    for account_id, key in session.execute(
        select(AccountSkill.account_id, Skill.key).join(Skill, Skill.id == AccountSkill.skill_id)
    ):
        skills.setdefault(account_id, set()).add(key)
    for account in session.scalars(select(Account).where(Account.id.in_(skills))):
        technicians.setdefault(account.home_unit_id, []).append((account, frozenset(skills[account.id])))
    by_prefix: dict[str, list[Part]] = {}
    for part in parts:
        by_prefix.setdefault(part.number.partition("-")[0], []).append(part)
    return Past(
        session=session,
        random=random,
        now=now,
        technicians=technicians,
        alarm_types={kind.key: kind for kind in session.scalars(select(AlarmType))},
        parts=by_prefix,
        places={place.unit_id: place for place in places.values()},
        teams={team.unit_id: team for team in session.scalars(select(Team))},
    )


def _repair(past: Past, story: Story, asset: Asset, began: datetime) -> Episode:
    """Write one fault from its beginning to the customer's stars."""
    random, session = past.random, past.session

    def later(moment: datetime, low: float, high: float) -> datetime:
        return moment + timedelta(minutes=float(random.uniform(low, high)))

    by_scan = bool(random.random() < 0.25)  # noqa: PLR2004 - every fourth fault is reported by a person
    opened = later(began, 1, 4)
    assigned = later(opened, 0.1, 1)
    accepted = later(assigned, 2, 25)
    departed = later(accepted, 1, 15)
    arrived = later(departed, 4, 30)
    started = later(arrived, 1, 6)
    finished = later(started, 18, 150)
    verified = later(finished, 10, 240)
    closed = min(later(verified, 5, 900), past.now)
    episode = Episode(
        asset.id,
        physics.FAULTS[story.kind][story.fault],
        clock.to_ms(began - timedelta(minutes=6)),
        clock.to_ms(started + timedelta(minutes=10)),
    )
    alarm = None if by_scan else _alarm(past, story, asset, began, started)
    technician = _technician(past, asset)
    order = Order(
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        number=f"WO-{opened.year}-{numbering.draw(session, f'order/{asset.company_id}/{opened.year}'):06}",
        type=kinds.of(session, asset.company_id, "corrective"),
        origin="scan" if by_scan else "alarm",
        phase="closed",
        priority=PRIORITY_OF[story.severity],
        title=f"{story.title}: {asset.name}",
        title_zh=f"{asset.name_zh}：{story.title_zh}",
        asset=asset,
        site_id=asset.site_id,
        customer_id=asset.customer_id,
        alarm_id=alarm.id if alarm else None,
        skill=asset.type.skill,
        team_id=past.teams[asset.unit_id].id,
        assignee_id=technician.id,
        created_at=opened,
        created_by="customer" if by_scan else ACTOR,
        due_at=opened + timedelta(hours=8),
        assigned_at=assigned,
        accepted_at=accepted,
        departed_at=departed,
        arrived_at=arrived,
        started_at=started,
        finished_at=finished,
        verified_at=verified,
        closed_at=closed,
        recovered_at=started + timedelta(minutes=12),
        finding="real" if random.random() < 0.85 else "nothing_found",  # noqa: PLR2004 - some reports are nothing
        resolution=story.resolution,
        rating=int(random.choice([3, 4, 5, 5, 5])) if by_scan else None,
        last_seen_at=opened,
    )
    session.add(order)
    session.flush()
    session.add(
        Assignment(order_id=order.id, account_id=technician.id, at=assigned, by=ACTOR, ended_at=closed, end="finished")
    )
    _timeline(past, order, technician)
    _use_part(past, story, order, asset, technician, finished)
    return episode


def _technician(past: Past, asset: Asset) -> Account:
    """Return somebody of the asset's site with the skill its repair needs."""
    fit = [account for account, skills in past.technicians[asset.unit_id] if asset.type.skill in skills]
    everybody = fit or [account for account, _ in past.technicians[asset.unit_id]]
    return everybody[int(past.random.integers(len(everybody)))]


def _alarm(past: Past, story: Story, asset: Asset, began: datetime, ended: datetime) -> Alarm:
    kind = past.alarm_types[story.alarm or ""]
    signal = physics.SIGNALS[story.kind][story.metric]
    move = physics.FAULTS[story.kind][story.fault].moves[story.metric]
    value = round(signal.level + move * 0.8, 1)
    alarm = Alarm(
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        subject=f"asset:{asset.id}",
        type_key=kind.key,
        alarm_type_id=kind.id,
        asset_id=asset.id,
        origin="rule",
        severity=story.severity,
        peak_severity=story.severity,
        message=f"{story.title} {story.title_zh}",
        is_active=False,
        is_acknowledged=True,
        began_at=began - timedelta(seconds=10),
        raised_at=began,
        detected_at=began,
        announced_at=began,
        last_seen_at=ended,
        ended_at=ended + timedelta(minutes=8),
        cleared_at=ended + timedelta(minutes=8),
        acknowledged_at=began + timedelta(minutes=2),
        acknowledged_by=ACTOR,
        count=int(past.random.integers(20, 400)),
        metric=story.metric,
        value=value,
        peak_value=round(signal.level + move, 1),
        rule_version=1,
        evidence={},
    )
    past.session.add(alarm)
    past.session.flush()
    return alarm


def _timeline(past: Past, order: Order, technician: Account) -> None:
    who = f"account:{technician.id}"
    moves = (
        ("open", order.created_at, ACTOR, "", True),
        ("assign", order.assigned_at, ACTOR, "", False),
        ("accept", order.accepted_at, who, "", False),
        ("depart", order.departed_at, who, "", True),
        ("arrive", order.arrived_at, who, "", True),
        ("start", order.started_at, who, "", True),
        ("finish", order.finished_at, who, order.resolution or "", True),
        ("verify", order.verified_at, ACTOR, "", True),
        ("close", order.closed_at, ACTOR, "", True),
    )
    for verb, at, actor, text, is_public in moves:
        name = technician.name if actor == who else ""
        past.session.add(
            Entry(
                order_id=order.id,
                at=at,
                actor=actor,
                actor_name=name,
                kind="move",
                is_public=is_public,
                text=text,
                detail={"verb": verb},
            )
        )
    if order.rating:
        remark = REMARKS[int(past.random.integers(len(REMARKS)))]
        past.session.add(
            Entry(
                order_id=order.id,
                at=order.closed_at,
                actor="customer",
                kind="rating",
                is_public=True,
                text=remark,
                detail={"rating": order.rating},
            )
        )


def _use_part(past: Past, story: Story, order: Order, asset: Asset, technician: Account, at: datetime) -> None:
    """Issue a part to the order, and buy it again first where the shelf would run empty."""
    part = past.parts[story.part][int(past.random.integers(len(past.parts[story.part])))]
    place = past.places[asset.unit_id]
    row = stock.locked(past.session, part, place)
    if stock.available(row) <= (part.reorder_level or Decimal(0)) / 2:
        stock.receive(
            past.session,
            part,
            place,
            part.reorder_quantity or Decimal(5),
            unit_cost=row.average_cost,
            actor=ACTOR,
            now=at,
            reference="purchase",
        )
    stock.issue(past.session, part, place, Decimal(1), to_order=order, actor=f"account:{technician.id}", now=at)


def readings(
    runtime: Runtime,
    measured: Sequence[tuple[int, int, str]],
    episodes: Sequence[Episode],
    *,
    now: datetime,
    behind: timedelta,
) -> int:
    """Store past readings of devices given as (device id, asset id, kind); return how many there are."""
    at_ms = np.arange(clock.to_ms(now - behind), clock.to_ms(now), EVERY_MS, dtype=np.int64)
    pairs = [(device_id, metric) for device_id, _, kind in measured for metric in physics.SIGNALS[kind]]
    with db.transaction(runtime.sessions) as session:
        numbers = series.ensure(session, pairs, now=now)
    total = 0
    for device_id, asset_id, kind in measured:
        noise = np.random.default_rng(SEED + device_id)
        mine = [episode for episode in episodes if episode.asset_id == asset_id]
        columns = [
            _with_faults(metric, physics.worn(signal, metric, asset_id), at_ms, mine, noise)
            for metric, signal in physics.SIGNALS[kind].items()
        ]
        ids = [numbers[device_id, metric] for metric in physics.SIGNALS[kind]]
        rows = len(at_ms) * len(columns)
        runtime.store.write(
            Readings(
                series=np.repeat(np.array(ids, dtype=np.int64), len(at_ms)),
                ts_ms=np.tile(at_ms, len(columns)),
                value=np.concatenate(columns).round(2),
                text=None,
                flags=np.zeros(rows, dtype=np.uint8),
            )
        )
        total += rows
    return total


def _with_faults(
    metric: str, signal: Signal, at_ms: physics.Instants, episodes: Sequence[Episode], noise: np.random.Generator
) -> physics.Column:
    values = physics.column(signal, at_ms, int(at_ms[0]), noise)
    for episode in episodes:
        inside = (at_ms >= episode.from_ms) & (at_ms < episode.until_ms)
        values[inside] += episode.fault.moves.get(metric, 0.0)
    return values
