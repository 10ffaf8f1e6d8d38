"""Skills: what a company knows people to be able to do, and who holds it how long."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid
from people import accounts, scope, skills
from people.models import Account, AccountSkill, OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/skills")
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]
Text = Annotated[str, Form()]


@router.get("")
def list_skills(request: Request, db: Db, viewer: Reader) -> Response:
    """List skills and who holds them."""
    return _list(request, db, viewer)


@router.post("")
def create(request: Request, db: Db, viewer: Writer, key: Text, name: Text, name_zh: Text = "") -> Response:
    """Make a skill known in the whole company."""
    scope.require(db, viewer, "people.write", viewer.company_id)
    company = db.get_one(OrgUnit, viewer.company_id)
    try:
        skills.create(
            db, company, key=key.strip(), name=name, name_zh=name_zh or None, actor=viewer.actor, now=clock.now()
        )
    except (Invalid, Conflict) as error:
        db.rollback()
        return _list(request, db, viewer, errors=forms.refused(request, error), status=422)
    return pages.go("/skills", notice=i18n.noop("The skill can be given to people now."))


def _list(
    request: Request, db: Session, viewer: Viewer, *, errors: dict[str, str] | None = None, status: int = 200
) -> Response:
    rows = (
        select(AccountSkill, Account)
        .join(Account, Account.id == AccountSkill.account_id)
        .where(accounts.visible(viewer), Account.is_active)
        .order_by(Account.name, Account.id)
    )
    holders: dict[int, list[tuple[AccountSkill, Account]]] = {}
    for held, account in db.execute(rows):
        holders.setdefault(held.skill_id, []).append((held, account))
    return pages.render(
        request,
        "skills/list.html",
        status=status,
        skills=skills.of_company(db, viewer.company_id),
        holders=holders,
        today=clock.now().date(),
        may_write=viewer.may_at("people.write", f"/{viewer.company_id}/"),
        errors=errors or {},
    )
