"""Rows to test with, made as plain rows: a company with two regions and three sites, people, machines, work.

    acme = factories.company(session)
    pump = factories.asset(session, acme, "harbour")
    boss = factories.account(session, acme, "dispatcher", "north")

The tree of a company, by the names used here as ``where``:

    company ─┬─ north ─┬─ harbour   (Asia/Shanghai)
             │         └─ mill      (Europe/Berlin)
             └─ south ─── quarry    (UTC)

Every maker takes a session and what it belongs to, fills in the rest, flushes and returns the row; whoever calls
commits. Any column can be given as a keyword.
"""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset, AssetType, Binding, Device, Location, Metric, Site
from kernel import ids
from kernel.models import File
from maintenance.orders.models import Entry, Order, OrderType, Request
from maintenance.parts.models import Movement, Part, Place, Reservation, Stock
from maintenance.plans.models import Checklist, ChecklistVersion, Occurrence, Plan
from people.models import (
    Account,
    AccountSkill,
    Customer,
    Membership,
    OrgUnit,
    Role,
    Shift,
    SignIn,
    Skill,
    Team,
    Token,
)
from people.rights import ROLES
from qr.models import Tag
from rules.models import Alarm, AlarmType, RuleVersion
from telemetry.models import Series

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
"""A Friday. What a factory dates without being told is dated with this."""
ZONES = {"harbour": "Asia/Shanghai", "mill": "Europe/Berlin", "quarry": "UTC"}
_numbers = itertools.count(1)
Made = TypeVar("Made")


@dataclass(slots=True)
class Company:
    """A company's tree: ``units`` by name (company, north, south, harbour, mill, quarry), its sites and roles."""

    key: str
    units: dict[str, OrgUnit] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)

    @property
    def id(self) -> int:
        return self.units["company"].id


def company(session: Session, key: str = "acme", name: str = "Acme Machines") -> Company:
    """Make a company with two regions, three sites and the roles the product comes with."""
    made = Company(key)
    made.roles = roles(session)
    made.units["company"] = unit(session, None, name, kind="company", name_zh="安科机械")
    for region, name_zh in (("north", "北区"), ("south", "南区")):
        made.units[region] = unit(session, made.units["company"], region.title(), kind="region", name_zh=name_zh)
    for where, region, name_zh in (
        ("harbour", "north", "港口厂"),
        ("mill", "north", "磨坊厂"),
        ("quarry", "south", "采石场"),
    ):
        below = made.units[where] = unit(session, made.units[region], where.title(), kind="site", name_zh=name_zh)
        site = Site(
            company_id=made.id,
            unit_id=below.id,
            name=where.title(),
            name_zh=name_zh,
            zone=ZONES[where],
            address="1 Road",
        )
        session.add(site)
        made.sites[where] = site
    session.flush()
    return made


def unit(session: Session, parent: OrgUnit | None, name: str, *, kind: str, **values: Any) -> OrgUnit:
    """Make an org unit below ``parent``, or a company without one, with its path."""
    row = OrgUnit(name=name, kind=kind, parent_id=parent.id if parent else None, **values)
    session.add(row)
    session.flush()
    row.path = f"{parent.path if parent else '/'}{row.id}/"
    row.company_id = parent.company_id if parent else row.id
    session.flush()
    return row


def roles(session: Session) -> dict[str, Role]:
    """Return the built-in roles as ``people.rights`` has them, made where they are missing."""
    known = {role.key: role for role in session.scalars(select(Role).where(Role.company_id.is_(None)))}
    for key, (name, rights) in ROLES.items():
        role = known.setdefault(key, Role(key=key, name=name))
        role.rights = sorted(rights)
        session.add(role)
    session.flush()
    return known


def account(
    session: Session, of: Company, role: str | None = "technician", where: str = "harbour", **values: Any
) -> Account:
    """Make, or find again by its user name, the account that holds ``role`` at ``where``; no role with None."""
    username = values.pop("username", None) or f"{role or 'nobody'}.{where}.{of.key}"
    known = session.scalars(select(Account).where(Account.username == username)).one_or_none()
    if known is not None:
        return known
    home = of.units[where]
    row = Account(
        **{
            "company_id": of.id,
            "home_unit_id": home.id,
            "username": username,
            "name": f"{(role or 'nobody').title()} {where.title()}",
            "zone": ZONES.get(where, "UTC"),
            "created_at": NOW,
            **values,
        }
    )
    session.add(row)
    session.flush()
    if role is not None:
        session.add(Membership(account_id=row.id, role_id=of.roles[role].id, unit_id=home.id))
        session.flush()
    return row


def sign_in(session: Session, account: Account, *, now: datetime) -> tuple[str, str]:
    """Sign an account in as a browser does; return the cookie's secret and the anti-forgery token."""
    secret, csrf = ids.token(), ids.token()
    session.add(
        SignIn(
            account_id=account.id,
            secret_hash=ids.fingerprint(secret),
            csrf_token=csrf,
            at=now,
            seen_at=now,
            expires_at=now + timedelta(hours=12),
            address="127.0.0.1",
            agent="tests",
        )
    )
    session.flush()
    return secret, csrf


def token(session: Session, account: Account, *, now: datetime, rights: list[str] | None = None) -> str:
    """Make a bearer token and return its secret; None gives all of the owner's rights."""
    secret = ids.token()
    session.add(
        Token(
            account_id=account.id,
            name="tests",
            secret_hash=ids.fingerprint(secret),
            rights=rights,
            created_at=now,
            expires_at=now + timedelta(days=1),
        )
    )
    session.flush()
    return secret


def team(session: Session, of: Company, where: str = "harbour", members: tuple[Account, ...] = ()) -> Team:
    row = Team(**_at(of, where), name=f"Team {next(_numbers)}", name_zh="班组", members=list(members))
    return _added(session, row)


def skill(session: Session, of: Company, key: str = "hydraulics") -> Skill:
    known = session.scalars(select(Skill).where(Skill.company_id == of.id, Skill.key == key)).one_or_none()
    return known or _added(session, Skill(company_id=of.id, key=key, name=key.title()))


def skilled(session: Session, account: Account, skill: Skill, **values: Any) -> AccountSkill:
    return _added(session, AccountSkill(account_id=account.id, skill_id=skill.id, **values))


def shift(session: Session, account: Account, **values: Any) -> Shift:
    """Make a shift: Monday to Friday 08:00 to 17:00 in the account's zone unless told otherwise."""
    usual = {"weekdays": [0, 1, 2, 3, 4], "starts": time(8), "ends": time(17), "zone": account.zone}
    return _added(session, Shift(**{"account_id": account.id, "valid_from": date(2026, 1, 1), **usual, **values}))


def customer(session: Session, of: Company, where: str = "harbour", **values: Any) -> Customer:
    return _added(session, Customer(**{**_at(of, where), "name": "Northwind Foods", "tier": "standard", **values}))


def location(session: Session, of: Company, where: str = "harbour", **values: Any) -> Location:
    return _added(session, Location(**{"site_id": of.sites[where].id, "name": f"Hall {next(_numbers)}", **values}))


def asset_type(session: Session, of: Company, key: str = "compressor") -> AssetType:
    """Make, or find again, an asset type that measures temperature (°C), pressure (bar) and running (0/1)."""
    known = session.scalars(select(AssetType).where(AssetType.company_id == of.id, AssetType.key == key)).one_or_none()
    if known is not None:
        return known
    return _added(
        session,
        AssetType(
            company_id=of.id,
            key=key,
            name=key.title(),
            name_zh="空压机",
            metrics=[
                Metric(key="temperature", name="Temperature", name_zh="温度", unit="°C", low=-50, high=250, position=0),
                Metric(key="pressure", name="Pressure", name_zh="压力", unit="bar", low=0, high=40, position=1),
                Metric(key="running", name="Running", name_zh="运行", kind="state", decimals=0, position=2),
            ],
        ),
    )


def asset(session: Session, of: Company, where: str = "harbour", **values: Any) -> Asset:
    """Make an asset of the type ``compressor`` at a site."""
    number = next(_numbers)
    row = Asset(
        **{
            **_at(of, where),
            "code": f"A-{number:05}",
            "name": f"Compressor {number}",
            "name_zh": f"空压机{number}号",
            "type_id": asset_type(session, of).id,
            "site_id": of.sites[where].id,
            "created_at": NOW,
            **values,
        }
    )
    session.add(row)
    session.flush()
    above = session.get_one(Asset, row.parent_id).path if row.parent_id else "/"
    row.path = f"{above}{row.id}/"
    session.flush()
    return row


def device(session: Session, of: Company, where: str = "harbour", *, on: Asset | None = None, **values: Any) -> Device:
    """Make a device with its series, bound to ``on`` since before everything when one is given."""
    number = next(_numbers)
    row = _added(
        session,
        Device(
            **{**_at(of, where), "key": f"dev-{number:05}", "name": f"Sensor {number}", "created_at": NOW, **values}
        ),
    )
    for metric in ("temperature", "pressure", "running"):
        session.add(Series(device_id=row.id, metric=metric, created_at=NOW))
    if on is not None:
        session.add(Binding(device_id=row.id, asset_id=on.id, starts_at=NOW - timedelta(days=400)))
    session.flush()
    return row


def alarm_type(session: Session, of: Company, where: str = "harbour", **values: Any) -> AlarmType:
    """Make the alarm type ``overheat`` of compressors: critical above 90 °C."""
    number = next(_numbers)
    row = _added(
        session,
        AlarmType(
            **{
                **_at(of, where),
                "key": f"overheat-{number}",
                "name": f"Overheat {number}",
                "name_zh": "过热",
                "asset_type_id": asset_type(session, of).id,
                "changed_at": NOW,
                **values,
            }
        ),
    )
    definition = {"create": {"critical": {"all": [{"metric": "temperature", "op": ">", "value": 90}]}}}
    session.add(RuleVersion(alarm_type_id=row.id, number=1, definition=definition, author="account:1", at=NOW))
    session.flush()
    return row


def alarm(session: Session, on: Asset, **values: Any) -> Alarm:
    """Make an active, unacknowledged critical alarm on an asset."""
    return _added(
        session,
        Alarm(
            **{
                "company_id": on.company_id,
                "unit_id": on.unit_id,
                "subject": f"asset:{on.id}",
                "type_key": f"overheat-{next(_numbers)}",
                "asset_id": on.id,
                "origin": "rule",
                "severity": "critical",
                "peak_severity": "critical",
                "message": "Temperature above 90 °C",
                "began_at": NOW,
                "raised_at": NOW,
                "detected_at": NOW,
                "last_seen_at": NOW,
                "metric": "temperature",
                "value": 96.5,
                "limit": 90.0,
                **values,
            }
        ),
    )


def order_type(session: Session, of: Company, key: str = "corrective") -> OrderType:
    known = session.scalars(select(OrderType).where(OrderType.company_id == of.id, OrderType.key == key)).one_or_none()
    return known or _added(
        session, OrderType(company_id=of.id, key=key, name="Repair", name_zh="维修", requires={"finish": ["finding"]})
    )


def order(session: Session, of: Company, on: Asset, **values: Any) -> Order:
    """Make a new, unassigned order on an asset."""
    return _added(
        session,
        Order(
            **{
                "company_id": on.company_id,
                "unit_id": on.unit_id,
                "number": f"WO-2026-{next(_numbers):06}",
                "type_id": order_type(session, of).id,
                "origin": "person",
                "title": "Runs hot",
                "title_zh": "温度过高",
                "asset_id": on.id,
                "site_id": on.site_id,
                "created_at": NOW,
                "created_by": "system",
                **values,
            }
        ),
    )


def entry(session: Session, on: Order, **values: Any) -> Entry:
    return _added(
        session,
        Entry(
            **{"order_id": on.id, "at": NOW, "actor": "system", "kind": "comment", "text": "Looked at it.", **values}
        ),
    )


def request(session: Session, on: Asset, **values: Any) -> tuple[Request, str]:
    """Make a new fault report and return it with the secret of its tracking link."""
    secret = ids.token()
    row = Request(
        **{
            "company_id": on.company_id,
            "unit_id": on.unit_id,
            "number": f"RQ-2026-{next(_numbers):06}",
            "origin": "scan",
            "asset_id": on.id,
            "what": "It makes a strange noise",
            "created_at": NOW,
            "track_hash": ids.fingerprint(secret),
            "track_expires_at": NOW + timedelta(days=3650),
            **values,
        }
    )
    return _added(session, row), secret


def part(session: Session, of: Company, **values: Any) -> Part:
    number = next(_numbers)
    return _added(
        session,
        Part(
            **{"company_id": of.id, "number": f"P-{number:05}", "name": f"Filter {number}", "name_zh": "滤芯", **values}
        ),
    )


def place(session: Session, of: Company, where: str = "harbour", **values: Any) -> Place:
    number = next(_numbers)
    return _added(session, Place(**{**_at(of, where), "code": f"W-{number:03}", "name": f"Store {number}", **values}))


def stock(session: Session, part: Part, place: Place, on_hand: Decimal | int = 10, cost: Decimal | int = 5) -> Stock:
    """Put ``on_hand`` of a part into a place, with the movement that says so."""
    session.add(
        Movement(
            part_id=part.id,
            place_id=place.id,
            kind="receive",
            quantity=Decimal(on_hand),
            unit_cost=Decimal(cost),
            at=NOW,
            by="system",
        )
    )
    return _added(
        session,
        Stock(part_id=part.id, place_id=place.id, on_hand=Decimal(on_hand), committed=0, average_cost=Decimal(cost)),
    )


def reservation(session: Session, stock: Stock, order: Order, quantity: Decimal | int = 1) -> Reservation:
    """Promise some of a stock to an order."""
    stock.committed += Decimal(quantity)
    return _added(
        session,
        Reservation(
            part_id=stock.part_id,
            place_id=stock.place_id,
            order_id=order.id,
            quantity=Decimal(quantity),
            at=NOW,
            by="system",
        ),
    )


def checklist(session: Session, of: Company, where: str = "harbour") -> Checklist:
    number = next(_numbers)
    row = _added(session, Checklist(**_at(of, where), key=f"round-{number}", name=f"Round {number}", name_zh="巡检"))
    items = [
        {"key": "oil", "name": "Oil level", "name_zh": "油位", "kind": "tick"},
        {
            "key": "temp",
            "name": "Temperature",
            "name_zh": "温度",
            "kind": "number",
            "unit": "°C",
            "low": 20,
            "high": 80,
        },
    ]
    session.add(ChecklistVersion(checklist_id=row.id, number=1, items=items, at=NOW, author="system"))
    session.flush()
    return row


def plan(session: Session, of: Company, on: Asset, **values: Any) -> Plan:
    """Make a weekly inspection plan of an asset."""
    return _added(
        session,
        Plan(
            **{
                "company_id": on.company_id,
                "unit_id": on.unit_id,
                "name": f"Weekly round {next(_numbers)}",
                "name_zh": "每周巡检",
                "asset_id": on.id,
                "order_type_id": order_type(session, of, "inspection").id,
                "rrule": "FREQ=WEEKLY;BYDAY=MO",
                "starts_on": date(2026, 11, 2),
                "at_time": time(8),
                "zone": "UTC",
                "next_due_at": NOW + timedelta(days=3),
                **values,
            }
        ),
    )


def occurrence(session: Session, plan: Plan, **values: Any) -> Occurrence:
    return _added(
        session,
        Occurrence(
            **{
                "plan_id": plan.id,
                "key": f"2026-11-{next(_numbers) % 28 + 1:02}T08:00",
                "due_at": NOW,
                "state": "skipped",
                "policy": "once",
                "created_at": NOW,
                **values,
            }
        ),
    )


def tag(session: Session, of: Company, where: str = "harbour", *, on: Asset | None = None, **values: Any) -> Tag:
    return _added(
        session,
        Tag(
            **{
                **_at(of, where),
                "token": ids.token(),
                "code": ids.code(),
                "asset_id": on.id if on else None,
                "made_at": NOW,
                **values,
            }
        ),
    )


def file(session: Session, of: Company, **values: Any) -> File:
    """Make the row of a picture; the picture itself is not on the disk."""
    usual = {"sha256": f"{next(_numbers):064x}", "media_type": "image/png", "size": 68, "name": "photo.png"}
    return _added(session, File(**{**usual, "company_id": of.id, "uploaded_at": NOW, **values}))


def _at(of: Company, where: str) -> dict[str, int]:
    return {"company_id": of.id, "unit_id": of.units[where].id}


def _added(session: Session, row: Made) -> Made:
    session.add(row)
    session.flush()
    return row
