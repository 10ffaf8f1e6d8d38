"""The org tree of a company: regions and sites below it, each with the path that scope is read from.

Changes of the tree queue at the company's row, so that two moves at once can neither make a cycle nor leave a
subtree with an old path.
"""

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kernel import audit
from kernel.db import Json
from kernel.errors import Conflict, Invalid
from people.models import OrgUnit

MOST_LEVELS = 12
KINDS = ("region", "site")
"""What may stand below a company; a site holds nothing."""


def found(session: Session, name: str, *, name_zh: str | None = None, actor: str, now: datetime) -> OrgUnit:
    """Make a company: the root of a new tree, walled off from every other.

    Raises:
        Invalid: it has no name.
    """
    company = OrgUnit(kind="company", name=_named(name), name_zh=name_zh)
    session.add(company)
    session.flush()
    company.company_id = company.id
    company.path = f"/{company.id}/"
    _note(session, "org.found", company, actor=actor, now=now, after={"name": company.name})
    return company


def add(
    session: Session,
    parent: OrgUnit,
    *,
    kind: str,
    name: str,
    name_zh: str | None = None,
    actor: str,
    now: datetime,
) -> OrgUnit:
    """Add a region or a site below a unit.

    Raises:
        Invalid: it has no name, is of another kind, or would lie below a site or too deep.
    """
    _hold(session, parent)
    if kind not in KINDS:
        raise Invalid("A unit is a region or a site.", field="kind")
    _may_hold(parent)
    unit = OrgUnit(kind=kind, name=_named(name), name_zh=name_zh, parent_id=parent.id, company_id=parent.company_id)
    session.add(unit)
    session.flush()
    unit.path = f"{parent.path}{unit.id}/"
    _note(session, "org.add", unit, actor=actor, now=now, after={"kind": kind, "name": name, "below": parent.id})
    return unit


def rename(
    session: Session, unit: OrgUnit, *, name: str, name_zh: str | None = None, actor: str, now: datetime
) -> None:
    """Give a unit other names.

    Raises:
        Invalid: the name is empty.
    """
    before = {"name": unit.name, "name_zh": unit.name_zh}
    unit.name, unit.name_zh = _named(name), name_zh
    _note(session, "org.rename", unit, actor=actor, now=now, before=before, after={"name": name, "name_zh": name_zh})


def move(session: Session, unit: OrgUnit, to: OrgUnit, *, actor: str, now: datetime) -> None:
    """Hang a unit and all below it under another unit of the same company.

    Whoever holds rights there sees them from the next request on, and who held them above no longer does.

    Raises:
        Conflict: the unit is a company, or ``to`` is the unit itself or lies below it.
        Invalid: ``to`` belongs to another company, is a site, or lies too deep.
    """
    if unit.parent_id is None:
        raise Conflict("A company cannot be moved.")
    _hold(session, unit)
    session.refresh(unit)
    session.refresh(to)
    if to.company_id != unit.company_id:
        raise Invalid("This unit belongs to another company.", field="to")
    if to.path.startswith(unit.path):
        raise Conflict("A unit cannot lie below itself.")
    _may_hold(to)
    old, new = unit.path, f"{to.path}{unit.id}/"
    if _levels(new) + _depth_below(session, unit) > MOST_LEVELS:
        raise Invalid("The tree would become too deep.", field="to")
    _note(session, "org.move", unit, actor=actor, now=now, before={"below": unit.parent_id}, after={"below": to.id})
    unit.parent_id = to.id
    session.flush()
    session.execute(
        update(OrgUnit)
        .where(OrgUnit.path.startswith(old, autoescape=True))
        .values(path=func.concat(new, func.substr(OrgUnit.path, len(old) + 1)))
        .execution_options(synchronize_session=False)
    )
    session.expire_all()


def remove(session: Session, unit: OrgUnit, *, actor: str, now: datetime) -> None:
    """Remove a unit that nothing lies below and nothing belongs to.

    Raises:
        Conflict: it is a company, or something still belongs to it.
    """
    if unit.parent_id is None:
        raise Conflict("A company cannot be removed.")
    _note(session, "org.remove", unit, actor=actor, now=now, before={"name": unit.name, "below": unit.parent_id})
    try:
        with session.begin_nested():
            session.delete(unit)
    except IntegrityError as error:
        raise Conflict("Something still belongs to this unit. Move or remove that first.") from error


def below(session: Session, unit: OrgUnit) -> list[OrgUnit]:
    """Return the unit and everything below it, each parent before its children, children by name."""
    units = session.scalars(select(OrgUnit).where(OrgUnit.path.startswith(unit.path, autoescape=True))).all()
    children: dict[int | None, list[OrgUnit]] = {}
    for one in sorted(units, key=lambda one: (one.name.casefold(), one.id)):
        children.setdefault(one.parent_id, []).append(one)
    ordered: list[OrgUnit] = []
    waiting = [one for one in units if one.id == unit.id]
    while waiting:
        ordered.append(waiting.pop())
        waiting.extend(reversed(children.get(ordered[-1].id, [])))
    return ordered


def depth(unit: OrgUnit) -> int:
    """Return how far a unit lies below its company; the company itself is 0."""
    return _levels(unit.path) - 1


def _hold(session: Session, unit: OrgUnit) -> None:
    session.execute(select(OrgUnit.id).where(OrgUnit.id == unit.company_id).with_for_update())


def _may_hold(parent: OrgUnit) -> None:
    if parent.kind == "site":
        raise Invalid("Nothing can lie below a site.", field="to")
    if _levels(parent.path) >= MOST_LEVELS:
        raise Invalid("The tree would become too deep.", field="to")


def _levels(path: str) -> int:
    return path.count("/") - 1


def _depth_below(session: Session, unit: OrgUnit) -> int:
    paths = session.scalars(select(OrgUnit.path).where(OrgUnit.path.startswith(unit.path, autoescape=True)))
    return max(_levels(path) for path in paths) - _levels(unit.path)


def _named(name: str) -> str:
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    return name.strip()[:200]


def _note(
    session: Session,
    action: str,
    unit: OrgUnit,
    *,
    actor: str,
    now: datetime,
    before: Json | None = None,
    after: Json | None = None,
) -> None:
    subject = f"unit:{unit.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=unit.company_id
    )
