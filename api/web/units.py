"""The org tree: regions and sites below the company, from which everybody's sight is read."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from api.access import Db, needs
from api.web import forms, pages
from kernel import clock, i18n
from kernel.errors import FixwrightError, Invalid, NotFound
from people import directory, org, scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/units")
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]
Text = Annotated[str, Form()]


@router.get("")
def tree(request: Request, db: Db, viewer: Reader) -> Response:
    """Show the tree as far as the viewer sees it."""
    return _tree(request, db, viewer)


@router.post("")
def add(
    request: Request, db: Db, viewer: Writer, *, parent: Text, kind: Text, name: Text, name_zh: Text = ""
) -> Response:
    """Add a region or a site."""
    try:
        above = _chosen(db, viewer, parent)
        scope.require(db, viewer, "people.write", above.id)
        org.add(db, above, kind=kind, name=name, name_zh=name_zh or None, actor=viewer.actor, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        return _tree(request, db, viewer, errors=forms.refused(request, error), status=422)
    return pages.go("/units", notice=i18n.noop("The unit is added."))


@router.get("/{unit_id}")
def unit(request: Request, db: Db, viewer: Reader, unit_id: int) -> Response:
    """Show one unit with what can be done to it."""
    return _unit(request, db, viewer, _found(db, viewer, unit_id))


@router.post("/{unit_id}")
def rename(request: Request, db: Db, viewer: Writer, unit_id: int, name: Text, name_zh: Text = "") -> Response:
    """Give a unit other names."""
    found = _found(db, viewer, unit_id)
    scope.require(db, viewer, "people.write", found.id)
    try:
        org.rename(db, found, name=name, name_zh=name_zh or None, actor=viewer.actor, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        return _unit(request, db, viewer, found, errors=forms.refused(request, error), status=422)
    return pages.go("/units", notice=i18n.noop("The changes are kept."))


@router.post("/{unit_id}/move")
def move(request: Request, db: Db, viewer: Writer, unit_id: int, parent: Text) -> Response:
    """Hang a unit and all below it under another one."""
    found = _found(db, viewer, unit_id)
    scope.require(db, viewer, "people.write", found.id)
    try:
        to = _chosen(db, viewer, parent)
        scope.require(db, viewer, "people.write", to.id)
        org.move(db, found, to, actor=viewer.actor, now=clock.now())
    except FixwrightError as error:
        db.rollback()
        return _unit(request, db, viewer, found, errors=forms.refused(request, error), status=422)
    return pages.go("/units", notice=i18n.noop("The unit is moved, with everything below it."))


@router.post("/{unit_id}/remove")
def remove(db: Db, viewer: Writer, unit_id: int) -> Response:
    """Remove a unit that nothing belongs to."""
    found = _found(db, viewer, unit_id)
    scope.require(db, viewer, "people.write", found.id)
    org.remove(db, found, actor=viewer.actor, now=clock.now())
    return pages.go("/units", notice=i18n.noop("The unit is removed."))


def _tree(
    request: Request, db: Session, viewer: Viewer, *, errors: dict[str, str] | None = None, status: int = 200
) -> Response:
    writable = directory.units_under(db, viewer, "people.write")
    return pages.render(
        request,
        "units/tree.html",
        status=status,
        units=directory.units_under(db, viewer, "people.read"),
        parents=[one for one in writable if one.kind != "site"],
        errors=errors or {},
    )


def _unit(
    request: Request,
    db: Session,
    viewer: Viewer,
    found: OrgUnit,
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    writable = directory.units_under(db, viewer, "people.write")
    return pages.render(
        request,
        "units/unit.html",
        status=status,
        unit=found,
        parents=[one for one in writable if one.kind != "site" and not one.path.startswith(found.path)],
        may_write=viewer.may_at("people.write", found.path),
        errors=errors or {},
    )


def _found(db: Session, viewer: Viewer, unit_id: int) -> OrgUnit:
    found = db.get(OrgUnit, unit_id)
    if found is None or not viewer.may_at("people.read", found.path):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found


def _chosen(db: Session, viewer: Viewer, typed: str) -> OrgUnit:
    try:
        return _found(db, viewer, forms.whole(typed, "parent") or 0)
    except NotFound as error:
        raise Invalid("There is no such org unit.", field="parent") from error
