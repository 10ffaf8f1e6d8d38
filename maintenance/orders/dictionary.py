"""The alarm dictionary: what a code means, why it comes, what helps, and what its order brings along (ALM-14).

A code that is in no dictionary still raises and still opens its order, a plain one, and is listed as unknown.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session, joinedload

from assets import types
from assets.models import AssetType
from kernel import audit
from kernel.errors import Conflict, Invalid, NotFound
from maintenance.orders.code_tables import AlarmCode
from maintenance.plans.models import Checklist
from people import scope
from people.scope import Viewer
from rules import actions
from rules.actions import Whose
from rules.models import SEVERITIES, Alarm

LATELY: Final = timedelta(days=90)
LONGEST: Final = 2000
MOST: Final = 2000
"""Entries of one company."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry as somebody wants it."""

    code: str
    name: str
    name_zh: str | None = None
    asset_type_id: int | None = None
    severity: str | None = None
    causes: str = ""
    causes_zh: str = ""
    remedy: str = ""
    remedy_zh: str = ""
    checklist_id: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A code that devices report and nobody explained; ``alarm_id`` is the latest."""

    code: str
    count: int
    last_at: datetime
    alarm_id: int


def of_company(session: Session, company_id: int, *, text: str = "") -> Sequence[AlarmCode]:
    """Return a company's entries by code, the general ones first."""
    query = (
        select(AlarmCode)
        .where(AlarmCode.company_id == company_id)
        .options(joinedload(AlarmCode.asset_type), joinedload(AlarmCode.checklist))
        .order_by(AlarmCode.code, AlarmCode.asset_type_id.nulls_first())
        .limit(MOST)
    )
    if text:
        columns = (AlarmCode.code, AlarmCode.name, AlarmCode.name_zh)
        query = query.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
    return session.scalars(query).all()


def find(session: Session, company_id: int, code_id: int) -> AlarmCode:
    """Return one entry of a company.

    Raises:
        NotFound: it has none of this number.
    """
    found = session.scalars(
        select(AlarmCode).where(AlarmCode.id == code_id, AlarmCode.company_id == company_id)
    ).one_or_none()
    if found is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def of_alarm(session: Session, alarm: Alarm) -> AlarmCode | None:
    """Return what the code of a device's alarm means."""
    return meanings(session, [alarm]).get(alarm.id)


def meanings(session: Session, alarms: Iterable[Alarm]) -> dict[int, AlarmCode]:
    """Return what devices' codes mean, by the alarm's id: the entry of the nearest type of its asset, else the general.

    Two queries a company, however many alarms are asked about.
    """
    found: dict[int, AlarmCode] = {}
    of_devices = [alarm for alarm in alarms if alarm.origin == "device"]
    for company_id in {alarm.company_id for alarm in of_devices}:
        theirs = [alarm for alarm in of_devices if alarm.company_id == company_id]
        lines = types.lineage(session, company_id)
        entries = _entries(session, company_id, {alarm.type_key for alarm in theirs})
        for alarm in theirs:
            line = lines.get(alarm.asset.type_id, ()) if alarm.asset else ()
            nearest = (entries.get((alarm.type_key, type_id)) for type_id in (*line, None))
            if entry := next(filter(None, nearest), None):
                found[alarm.id] = entry
    return found


def _entries(session: Session, company_id: int, codes: Collection[str]) -> dict[tuple[str, int | None], AlarmCode]:
    query = select(AlarmCode).where(AlarmCode.company_id == company_id, AlarmCode.code.in_(codes))
    return {(entry.code, entry.asset_type_id): entry for entry in session.scalars(query)}


def unknown(session: Session, viewer: Viewer, now: datetime, *, limit: int = 50) -> list[Unknown]:
    """Return the codes that devices reported within 90 days and no entry explains, the most frequent first."""
    explained = exists().where(AlarmCode.company_id == Alarm.company_id, AlarmCode.code == Alarm.type_key)
    number = func.count()
    rows = session.execute(
        select(Alarm.type_key, number, func.max(Alarm.detected_at), func.max(Alarm.id))
        .where(
            Alarm.origin == "device",
            Alarm.evidence.has_key("seq"),
            Alarm.detected_at > now - LATELY,
            scope.visible(Alarm, viewer, "alarms.read"),
            ~explained,
        )
        .group_by(Alarm.type_key)
        .order_by(number.desc(), Alarm.type_key)
        .limit(limit)
    )
    return [Unknown(*row) for row in rows]


def save(
    session: Session, draft: Draft, *, company_id: int, actor: str, now: datetime, known: AlarmCode | None = None
) -> AlarmCode:
    """Write an entry, or change ``known``.

    Raises:
        Invalid: a field does not fit.
        Conflict: there is an entry for this code and type already.
    """
    _check(session, draft, company_id)
    twin = _same(session, company_id, draft)
    if twin is not None and twin is not known:
        raise Conflict("There is an entry for {code} already.", field="code", code=draft.code)
    before = None if known is None else {name: getattr(known, name) for name in asdict(draft)}
    acted = None if known is None else whose(known)
    entry = known or AlarmCode(company_id=company_id, unit_id=company_id)
    for name, value in asdict(draft).items():
        setattr(entry, name, value)
    session.add(entry)
    session.flush()
    if acted is not None:
        actions.follow(session, acted, whose(entry))
    audit.record(
        session, "alarm_code.save", subject=f"alarm_code:{entry.id}", actor=actor, at=now, before=before,
        after=asdict(draft), company_id=company_id,
    )  # fmt: skip
    return entry


def put(session: Session, draft: Draft, *, company_id: int, actor: str, now: datetime) -> AlarmCode:
    """Write an entry in place of the one for the same code and type, if there is one."""
    known = _same(session, company_id, draft)
    return save(session, draft, company_id=company_id, actor=actor, now=now, known=known)


def drop(session: Session, entry: AlarmCode, *, actor: str, now: datetime) -> None:
    """Remove an entry with what its alarms set off; alarms and orders of its code stay."""
    actions.forget(session, whose(entry), actor=actor, now=now)
    session.delete(entry)
    audit.record(
        session, "alarm_code.drop", subject=f"alarm_code:{entry.id}", actor=actor, at=now,
        before={"code": entry.code, "name": entry.name}, company_id=entry.company_id,
    )  # fmt: skip


def whose(entry: AlarmCode) -> Whose:
    """Return whose alarms set off the actions of an entry."""
    return Whose(entry.company_id, f"alarm_code:{entry.id}", code=entry.code, asset_type_id=entry.asset_type_id)


def _same(session: Session, company_id: int, draft: Draft) -> AlarmCode | None:
    of_type = AlarmCode.asset_type_id
    return session.scalars(
        select(AlarmCode).where(
            AlarmCode.company_id == company_id,
            AlarmCode.code == draft.code,
            of_type.is_(None) if draft.asset_type_id is None else of_type == draft.asset_type_id,
        )
    ).one_or_none()


def _check(session: Session, draft: Draft, company_id: int) -> None:
    if not 0 < len(draft.code) <= 80 or draft.code != draft.code.strip():  # noqa: PLR2004 - as the column is wide
        raise Invalid("A code has 1 to {most} characters and no blank at either end.", field="code", most=80)
    if not 0 < len(draft.name) <= 200:  # noqa: PLR2004 - the same
        raise Invalid("Please say what it means.", field="name")
    if draft.severity is not None and draft.severity not in SEVERITIES:
        raise Invalid("There is no such severity.", field="severity")
    for field in ("causes", "causes_zh", "remedy", "remedy_zh"):
        if len(getattr(draft, field)) > LONGEST:
            raise Invalid("At most {max_length} characters fit.", field=field, max_length=LONGEST)
    for field, model, number in (
        ("asset_type_id", AssetType, draft.asset_type_id),
        ("checklist_id", Checklist, draft.checklist_id),
    ):
        is_theirs = select(model.id).where(model.id == number, model.company_id == company_id)
        if number is not None and session.scalar(is_theirs) is None:
            raise Invalid("There is no such type of asset or checklist.", field=field)
