"""Roles over JSON: what the product comes with, and a company's own."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from kernel import clock
from kernel.errors import NotFound
from people import roles
from people.models import OrgUnit, Role
from people.scope import Viewer

router = APIRouter(prefix="/roles", tags=["roles"])
Reader = Annotated[Viewer, needs("people.read")]
Writer = Annotated[Viewer, needs("people.write")]


class RoleOut(BaseModel):
    """A named set of rights."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    key: str
    name: str
    rights: list[str]
    company_id: int | None = Field(description="Null for the roles the product comes with.")


class RoleIn(BaseModel):
    """A role of the company's own."""

    name: str = Field(max_length=200)
    rights: list[str] = Field(max_length=200)


@router.get("")
def list_roles(db: Db, viewer: Reader) -> paging.Page[RoleOut]:
    """List the roles that can be given; all of them, because there are few."""
    return paging.Page(items=[RoleOut.model_validate(role) for role in roles.of_company(db, viewer.company_id)])


@router.post("", status_code=201)
def make_role(db: Db, viewer: Writer, body: RoleIn) -> RoleOut:
    """Make a role with rights that one holds over the whole company oneself."""
    made = roles.create(db, _company(db, viewer), name=body.name, rights=body.rights, by=viewer, now=clock.now())
    return RoleOut.model_validate(made)


@router.get("/{role_id}")
def role(db: Db, viewer: Reader, role_id: int) -> RoleOut:
    """Return one role."""
    return RoleOut.model_validate(_found(db, viewer, role_id))


@router.put("/{role_id}")
def change_role(db: Db, viewer: Writer, role_id: int, body: RoleIn) -> RoleOut:
    """Change a role of the company's own; it counts from the holders' next request on."""
    found = _found(db, viewer, role_id)
    roles.change(db, found, _company(db, viewer), name=body.name, rights=body.rights, by=viewer, now=clock.now())
    return RoleOut.model_validate(found)


@router.delete("/{role_id}", status_code=204)
def remove_role(db: Db, viewer: Writer, role_id: int) -> None:
    """Remove a role of the company's own that nobody holds."""
    roles.remove(db, _found(db, viewer, role_id), _company(db, viewer), by=viewer, now=clock.now())


def _company(db: Session, viewer: Viewer) -> OrgUnit:
    return db.get_one(OrgUnit, viewer.company_id)


def _found(db: Session, viewer: Viewer, role_id: int) -> Role:
    found = db.get(Role, role_id)
    if found is None or found.company_id not in (None, viewer.company_id):
        raise NotFound("There is nothing here, or it is not yours to see.")
    return found
