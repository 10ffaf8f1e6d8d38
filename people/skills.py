"""Skills and who holds them: what one must be able, or certified, to do, at a level and for a period."""

import re
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from kernel import audit
from kernel.errors import Conflict, Invalid, NotFound
from people.models import Account, AccountSkill, OrgUnit, Skill

HIGHEST_LEVEL = 5
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def create(
    session: Session, company: OrgUnit, *, key: str, name: str, name_zh: str | None = None, actor: str, now: datetime
) -> Skill:
    """Make a skill known in a company; asset types, orders and plans name it by its key.

    Raises:
        Invalid: the key or the name is not acceptable.
        Conflict: the company has a skill with this key.
    """
    if not _KEY.fullmatch(key):
        raise Invalid("Use 1 to 40 small letters, digits, - or _", field="key")
    if not name.strip():
        raise Invalid("Please give it a name.", field="name")
    skill = Skill(company_id=company.id, key=key, name=name.strip()[:200], name_zh=name_zh)
    try:
        with session.begin_nested():
            session.add(skill)
    except IntegrityError as error:
        raise Conflict("There is a skill with this key already.", field="key") from error
    audit.record(session, "skill.create", subject=f"skill:{skill.id}", actor=actor, at=now, after={"key": key},
                 company_id=company.id)  # fmt: skip
    return skill


def of_company(session: Session, company_id: int) -> list[Skill]:
    """Return a company's skills by name."""
    return list(session.scalars(select(Skill).where(Skill.company_id == company_id).order_by(Skill.name, Skill.id)))


def hold(
    session: Session,
    account: Account,
    skill: Skill,
    *,
    level: int = 1,
    valid_from: date | None = None,
    valid_until: date | None = None,
    actor: str,
    now: datetime,
) -> AccountSkill:
    """Write that a person holds a skill at a level for ``[valid_from, valid_until)``; a second time replaces the first.

    Raises:
        Invalid: the skill belongs to another company, there is no such level, or the period is empty.
    """
    if skill.company_id != account.company_id:
        raise Invalid("This skill belongs to another company.", field="skill")
    if not 1 <= level <= HIGHEST_LEVEL:
        raise Invalid("A level is a number from 1 to {n}.", field="level", n=HIGHEST_LEVEL)
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise Invalid("The last day lies before the first.", field="valid_until")
    held = session.merge(
        AccountSkill(
            account_id=account.id, skill_id=skill.id, level=level, valid_from=valid_from, valid_until=valid_until
        )
    )
    session.flush()
    after = {"skill": skill.key, "level": level, "valid_from": valid_from, "valid_until": valid_until}
    audit.record(session, "skill.hold", subject=f"account:{account.id}", actor=actor, at=now, after=after,
                 company_id=account.company_id)  # fmt: skip
    return held


def drop(session: Session, account: Account, skill_id: int, *, actor: str, now: datetime) -> None:
    """Write that a person no longer holds a skill.

    Raises:
        NotFound: they do not hold it.
    """
    held = session.get(AccountSkill, (account.id, skill_id))
    if held is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    before = {"skill": held.skill.key, "level": held.level}
    session.delete(held)
    session.flush()
    audit.record(session, "skill.drop", subject=f"account:{account.id}", actor=actor, at=now, before=before,
                 company_id=account.company_id)  # fmt: skip
