"""Seeds the demo company into an empty installation: people, places, machines, rules, parts, plans."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.demo import alarms, catalogue, history, today
from api.runtime import Runtime
from assets import derivations
from assets import passwords as device_passwords
from assets.models import Asset, AssetType, Binding, Device, Location, Metric, Site
from kernel import clock, db, ids
from kernel.errors import Misconfigured
from kernel.settings import Settings, host_and_port
from maintenance.orders import kinds
from maintenance.parts import stock
from maintenance.parts.models import Part, Place
from maintenance.plans import checklists, planning
from maintenance.plans.models import Checklist
from people import org, passwords
from people.models import Account, AccountSkill, Customer, Membership, OrgUnit, Role, Shift, Skill, Team
from qr.models import Tag
from rules import library, trends

FIRST_ROUND_MIN, ROUND_MIN, ROUNDS_A_DAY = 8 * 60, 45, 8
PASSWORD = "heng-feng-demo"  # noqa: S105 - demo accounts exist only with --demo, on loopback
ACTOR = "system"
BEHIND = timedelta(days=90)
"""How much of a past the company has."""
Say = Callable[[str], object]


def require_loopback(settings: Settings) -> None:
    """Refuse to show demo accounts to a network.

    Raises:
        Misconfigured: the pages or the broker would be reachable from outside.
    """
    for bind in (settings.http_bind, settings.mqtt_bind):
        host, _ = host_and_port(bind)
        if host not in {"127.0.0.1", "localhost", "::1"}:
            raise Misconfigured("The demo has known passwords, so it binds to loopback only, not to {host}.", host=host)


@dataclass(slots=True)
class Built:
    """What the seed has made so far, by the keys of the catalogue."""

    company: OrgUnit
    now: datetime
    units: dict[str, OrgUnit] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    halls: dict[tuple[str, int], Location] = field(default_factory=dict)
    types: dict[str, AssetType] = field(default_factory=dict)
    skills: dict[str, Skill] = field(default_factory=dict)
    teams: dict[str, Team] = field(default_factory=dict)
    people: dict[str, Account] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    assets: list[Asset] = field(default_factory=list)
    devices: list[tuple[Device, Asset]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)


def is_seeded(session: Session) -> bool:
    """Return whether this installation has machines already."""
    return bool(session.scalar(select(func.count()).select_from(select(Asset.id).limit(1).subquery())))


def seed(runtime: Runtime, *, say: Say) -> None:
    """Fill an empty installation; one that has machines is left as it is."""
    with runtime.sessions() as session:
        if is_seeded(session):
            return
    now = clock.now()
    with db.transaction(runtime.sessions) as session:
        company = session.scalars(select(OrgUnit).where(OrgUnit.parent_id.is_(None)).order_by(OrgUnit.id)).one()
        company.name, company.name_zh = catalogue.COMPANY
        built = Built(company, now)
        for sentence, step in STEPS:
            say(f"  … {sentence}")
            step(session, built, runtime)
        session.flush()
        say("  … 90 days of work orders and stock movements")
        episodes = history.work(session, built.assets, built.parts, built.places, now=now, behind=BEHIND)
        today.work(session, built.assets, built.people, built.parts, built.places, now=now)
        say("  … what machines reported by themselves")
        boss = f"account:{built.people['dispatcher'].id}"
        alarms.explain(session, company.id, now=now, by=boss)
        alarms.past(session, built.devices, now=now, behind=BEHIND, by=boss)
        alarms.standing(session, built.devices, now=now, by=boss)
        measured = [(device.id, asset.id, asset.type.key) for device, asset in built.devices]
    say("  … 90 days of readings")
    points = history.readings(runtime, measured, episodes, now=now, behind=BEHIND)
    with db.transaction(runtime.sessions) as session:
        for key, draft in catalogue.DERIVED:
            kind = session.get_one(AssetType, built.types[key].id)
            derivations.add(session, kind, draft, actor=ACTOR, now=clock.now())
    say(f"  The demo company is ready: {len(built.assets)} machines, {points:,} readings.")


def accounts() -> list[tuple[str, str, str, str]]:
    """Return who can be signed in as with one click: role key, name, user name, password."""
    return [(person.role, person.name, person.username, PASSWORD) for person in catalogue.PEOPLE]


def password_of(secret: bytes, key: str) -> str:
    """Return the MQTT password of a demo device: derived, so that it need not be kept anywhere."""
    return hmac.new(secret, f"demo device {key}".encode(), hashlib.sha256).hexdigest()[:32]


def _org(session: Session, built: Built, _: Runtime) -> None:
    def add(parent: OrgUnit, kind: str, name: str, name_zh: str) -> OrgUnit:
        return org.add(session, parent, kind=kind, name=name, name_zh=name_zh, actor=ACTOR, now=built.now)

    built.units["company"] = built.company
    for region in catalogue.REGIONS:
        built.units[region.key] = add(built.company, "region", region.name, region.name_zh)
        for place in region.sites:
            unit = built.units[place.key] = add(built.units[region.key], "site", place.name, place.name_zh)
            site = built.sites[place.key] = Site(
                company_id=built.company.id,
                unit_id=unit.id,
                name=place.name,
                name_zh=place.name_zh,
                zone=place.zone,
                address=place.address,
                latitude=place.latitude,
                longitude=place.longitude,
            )
            session.add(site)
            session.flush()
            for number, (name, name_zh) in enumerate(place.halls):
                hall = built.halls[place.key, number] = Location(site_id=site.id, name=name, name_zh=name_zh)
                session.add(hall)
    for name, name_zh, where, tier in catalogue.CUSTOMERS:
        customer = built.customers[where] = Customer(
            company_id=built.company.id, unit_id=built.units[where].id, name=name, name_zh=name_zh, tier=tier
        )
        session.add(customer)
    session.flush()


def _people(session: Session, built: Built, _: Runtime) -> None:
    for key, name, name_zh in catalogue.SKILLS:
        skill = built.skills[key] = Skill(company_id=built.company.id, key=key, name=name, name_zh=name_zh)
        session.add(skill)
    for key in built.sites:
        unit = built.units[key]
        team = built.teams[key] = Team(
            company_id=built.company.id,
            unit_id=unit.id,
            name=f"Maintenance {unit.name}",
            name_zh=f"{unit.name_zh}维修班",
        )
        session.add(team)
    session.flush()
    roles = {role.key: role for role in session.scalars(select(Role).where(Role.company_id.is_(None)))}
    known_hash = passwords.hashed(PASSWORD)
    for person in catalogue.PEOPLE:
        unit, site = built.units[person.where], built.sites.get(person.where)
        account = built.people[person.username] = Account(
            company_id=built.company.id,
            home_unit_id=unit.id,
            username=person.username,
            name=person.name,
            password_hash=known_hash,
            language=person.language,
            zone=site.zone if site else ("Asia/Shanghai" if person.language == "zh" else "Europe/Berlin"),
            created_at=built.now - BEHIND,
        )
        account.memberships.append(Membership(role=roles[person.role], unit=unit))
        account.skills.extend(AccountSkill(skill=built.skills[key], level=2) for key in person.skills)
        if site and person.role == "technician":
            account.teams.append(built.teams[person.where])
        session.add(account)
        session.flush()
        if person.shift:
            starts, ends = person.shift
            # Technicians cover the week in three shifts, so that somebody is on duty whenever a newcomer looks.
            days = list(range(7)) if person.role == "technician" else list(range(5))
            began = (built.now - BEHIND).date()
            row = Shift(
                account_id=account.id, weekdays=days, starts=starts, ends=ends, zone=account.zone, valid_from=began
            )
            session.add(row)


def _machines(session: Session, built: Built, runtime: Runtime) -> None:
    for kind in catalogue.KINDS:
        made = built.types[kind.key] = AssetType(
            company_id=built.company.id,
            key=kind.key,
            name=kind.name,
            name_zh=kind.name_zh,
            icon=kind.icon,
            skill=kind.skill,
        )
        made.metrics.extend(
            Metric(
                key=measure.key,
                name=measure.name,
                name_zh=measure.name_zh,
                unit=measure.unit,
                kind=measure.kind,
                low=measure.low,
                high=measure.high,
                decimals=measure.decimals,
                expected_interval_s=5,
                position=position,
            )
            for position, measure in enumerate(kind.metrics)
        )
        session.add(made)
    session.flush()
    for place, hall, kind_key, count, with_device in catalogue.FLEET:
        for number in range(1, count + 1):
            asset = _asset(session, built, place, hall, kind_key, number)
            if number <= with_device:
                _device(session, built, asset, runtime.secret)
    session.flush()


def _asset(session: Session, built: Built, place: str, hall: int, kind_key: str, number: int) -> Asset:
    kind, site = built.types[kind_key], built.sites[place]
    maker, model = catalogue.MAKERS[kind_key]
    commissioned = (built.now - timedelta(days=400 + 137 * number)).date()
    asset = Asset(
        company_id=built.company.id,
        unit_id=site.unit_id,
        code=f"{place[:2].upper()}-{kind_key[:3].upper()}-{len(built.assets) + 1:03d}",
        name=f"{kind.name} {number}",
        name_zh=f"{number}号{kind.name_zh}",
        type=kind,
        site=site,
        location=built.halls[place, hall],
        customer=built.customers[place] if number == 1 and kind_key == "moulding" else None,
        criticality={"compressor": 2, "transformer": 1, "chiller": 2}.get(kind_key, 3),
        manufacturer=maker,
        model=model,
        serial=f"{model}-{20210 + len(built.assets) * 37}",
        commissioned_on=commissioned,
        warranty_until=commissioned + timedelta(days=730),
        created_at=built.now - BEHIND,
    )
    session.add(asset)
    session.flush()
    asset.path = f"/{asset.id}/"
    tag = Tag(
        company_id=asset.company_id, unit_id=asset.unit_id, token=ids.token(), code=ids.code(), asset_id=asset.id,
        made_at=built.now - BEHIND,
    )  # fmt: skip
    session.add(tag)
    built.assets.append(asset)
    return asset


def _device(session: Session, built: Built, asset: Asset, secret: bytes) -> None:
    key = asset.code.lower()
    device = Device(
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        key=key,
        name=f"{asset.name} controller",
        password_hash=device_passwords.hashed(password_of(secret, key)),
        attributes={"firmware": "2.4.1", "ip": "10.20.0." + str(10 + len(built.devices))},
        created_at=built.now - BEHIND,
    )
    session.add(device)
    session.flush()
    session.add(Binding(device_id=device.id, asset_id=asset.id, starts_at=built.now - BEHIND))
    built.devices.append((device, asset))


def _rules(session: Session, built: Built, _: Runtime) -> None:
    for rule in catalogue.RULES:
        draft = library.AlarmTypeDraft(rule.key, rule.name, rule.name_zh, asset_type_id=built.types[rule.kind].id)
        library.add(session, draft, rule.definition, unit=built.company, actor=ACTOR, now=built.now)
    for kind, metric, limit in catalogue.WATCHED:
        wish = trends.WatchDraft(metric=metric, limit=limit, window_days=75, lead_days=45)
        trends.watch(session, built.types[kind], wish, actor=ACTOR, now=built.now)


def _stock(session: Session, built: Built, _: Runtime) -> None:
    for key, site in built.sites.items():
        place = built.places[key] = Place(
            company_id=built.company.id,
            unit_id=site.unit_id,
            code=f"WH-{key[:2].upper()}",
            name=f"Store {site.name}",
            name_zh=f"{site.name_zh}备件库",
        )
        session.add(place)
    session.flush()
    early = built.now - BEHIND
    for number, name, name_zh, unit, category, cost, level, on_hand in catalogue.PARTS:
        part = Part(
            company_id=built.company.id,
            number=number,
            name=name,
            name_zh=name_zh,
            unit=unit,
            category=category,
            reorder_level=Decimal(level),
            reorder_quantity=Decimal(level * 2),
        )
        session.add(part)
        session.flush()
        built.parts.append(part)
        for place_key, quantity in zip(built.sites, on_hand, strict=True):
            price = Decimal(str(round(cost, 2)))
            stock.receive(
                session, part, built.places[place_key], Decimal(quantity), unit_cost=price, actor=ACTOR, now=early,
                reference="opening stock",
            )  # fmt: skip


def _plans(session: Session, built: Built, _: Runtime) -> None:
    rules = {
        "compressor": "FREQ=WEEKLY;BYDAY=MO",
        "moulding": "FREQ=WEEKLY;BYDAY=WE",
        "pump": "FREQ=MONTHLY;BYDAY=1TU",
        "chiller": "FREQ=MONTHLY;BYMONTHDAY=15",
        "transformer": "FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=1",
    }
    for kind in ("corrective", "inspection", "preventive"):
        kinds.of(session, built.company.id, kind)
    for key, name, name_zh, kind, items in catalogue.CHECKLISTS:
        made = Checklist(company_id=built.company.id, unit_id=built.company.id, key=key, name=name, name_zh=name_zh)
        session.add(made)
        session.flush()
        checklists.save(session, made, items, actor=ACTOR, now=built.now)
        looked_at = [asset for asset in built.assets if asset.type.key == kind]
        for number, asset in enumerate(looked_at):
            # One after the other through the day shift, so that one pair of hands can do them.
            minutes = FIRST_ROUND_MIN + number % ROUNDS_A_DAY * ROUND_MIN
            wish = planning.Wish(
                name=f"{name}: {asset.code}",
                name_zh=f"{name_zh}：{asset.code}",
                rrule=rules[kind],
                starts_on=(built.now - BEHIND).date(),
                at_time=time(minutes // 60, minutes % 60),
                checklist_id=made.id,
                skill=asset.type.skill,
                lead_days=2,
                estimated_minutes=30,
            )
            planning.make(session, asset, wish, actor=ACTOR, now=built.now)


STEPS: tuple[tuple[str, Callable[[Session, Built, Runtime], None]], ...] = (
    ("the company, its regions and sites", _org),
    ("people, teams, skills and shifts", _people),
    ("machines, devices and labels", _machines),
    ("alarm rules", _rules),
    ("spare parts", _stock),
    ("maintenance plans", _plans),
)
