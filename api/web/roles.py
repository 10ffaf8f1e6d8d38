"""Roles: the matrix of who may do what, and a company's own roles."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import FixwrightError, NotFound
from people import accounts, roles
from people.models import Account, Membership, OrgUnit, Role
from people.rights import RIGHTS
from people.scope import Viewer

router = APIRouter(prefix="/roles")
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]
Text = Annotated[str, Form()]
Rights = Annotated[list[str] | None, Form()]


@router.get("")
def matrix(request: Request, db: Db, viewer: Reader) -> Response:
    """Show every right and which role holds it."""
    known = roles.of_company(db, viewer.company_id)
    return pages.render(
        request,
        "roles/matrix.html",
        roles=known,
        holders=_holders(db, viewer),
        areas=_areas(),
        may_write=viewer.may_at("people.write", f"/{viewer.company_id}/"),
    )


@router.get("/new")
def new(request: Request, viewer: Writer) -> Response:
    """Ask what the new role may do."""
    return _form(request, viewer, None, name="", rights=[])


@router.post("")
def create(request: Request, db: Db, viewer: Writer, name: Text, right: Rights = None) -> Response:
    """Make a role of the company's own."""
    company = db.get_one(OrgUnit, viewer.company_id)
    try:
        roles.create(db, company, name=name, rights=right or [], by=viewer, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        errors = forms.refused(request, error)
        return _form(request, viewer, None, name=name, rights=right or [], errors=errors, status=422)
    return pages.go("/roles", notice=i18n.noop("The role can be given now."))


@router.get("/{role_id}")
def role(request: Request, db: Db, viewer: Reader, role_id: int) -> Response:
    """Show one role; a company's own can be changed here."""
    found = _found(db, viewer, role_id)
    return _form(request, viewer, found, name=found.name, rights=found.rights)


@router.post("/{role_id}")
def change(request: Request, db: Db, viewer: Writer, role_id: int, name: Text, right: Rights = None) -> Response:
    """Change a role of the company's own."""
    found = _found(db, viewer, role_id)
    company = db.get_one(OrgUnit, viewer.company_id)
    try:
        roles.change(db, found, company, name=name, rights=right or [], by=viewer, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        errors = forms.refused(request, error)
        return _form(request, viewer, found, name=name, rights=right or [], errors=errors, status=422)
    return pages.go("/roles", notice=i18n.noop("The role counts as changed from the next click on."))


@router.post("/{role_id}/remove")
def remove(db: Db, viewer: Writer, role_id: int) -> Response:
    """Remove a role of the company's own that nobody holds."""
    company = db.get_one(OrgUnit, viewer.company_id)
    roles.remove(db, _found(db, viewer, role_id), company, by=viewer, now=clock.now())
    return pages.go("/roles", notice=i18n.noop("The role is removed."))


def _form(
    request: Request,
    viewer: Viewer,
    role: Role | None,
    *,
    name: str,
    rights: list[str],
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    root = f"/{viewer.company_id}/"
    is_own = role is None or role.company_id is not None
    return pages.render(
        request,
        "roles/role.html",
        status=status,
        role=role,
        name=name,
        chosen=set(rights),
        areas=_areas(),
        may_write=is_own and viewer.may_at("people.write", root),
        held={right for right in RIGHTS if viewer.may_at(right, root)},
        errors=errors or {},
    )


def _areas() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the rights by what they are about: the word before the dot."""
    areas: dict[str, list[tuple[str, str]]] = {}
    for right, sentence in RIGHTS.items():
        areas.setdefault(right.partition(".")[0], []).append((right, sentence))
    return list(areas.items())


def _holders(db: Session, viewer: Viewer) -> dict[int, int]:
    rows = (
        select(Membership.role_id, func.count(Membership.account_id.distinct()).label("people"))
        .join(Account, Account.id == Membership.account_id)
        .where(accounts.visible(viewer), Account.is_active)
        .group_by(Membership.role_id)
    )
    return {row.role_id: row.people for row in db.execute(rows)}


def _found(db: Session, viewer: Viewer, role_id: int) -> Role:
    found = db.get(Role, role_id)
    if found is None or found.company_id not in (None, viewer.company_id):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found
