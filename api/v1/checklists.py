"""Checklists for programs: list, read, make, and give a new version."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from api.paging import Cursor, Limit, Page
from kernel import clock
from kernel.errors import Invalid
from maintenance.plans import checklists
from maintenance.plans.models import Checklist
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/checklists", tags=["checklists"])

Reader = Annotated[Viewer, needs("plans.read")]
Writer = Annotated[Viewer, needs("plans.write")]
Choice = Annotated[str, Field(min_length=1, max_length=checklists.LONGEST_CHOICE)]


class Item(BaseModel):
    """One thing to look at; ``pass`` and ``flag`` name the choices that are good and those worth a remark."""

    model_config = ConfigDict(populate_by_name=True)

    key: str = Field(min_length=1, max_length=checklists.LONGEST_KEY)
    name: str = Field(min_length=1, max_length=checklists.LONGEST_NAME)
    name_zh: str | None = Field(None, max_length=checklists.LONGEST_NAME)
    kind: Literal["tick", "number", "choice", "photo"]
    unit: str | None = Field(None, max_length=20)
    low: float | None = Field(None, allow_inf_nan=False)
    high: float | None = Field(None, allow_inf_nan=False)
    choices: list[Choice] | None = Field(None, max_length=checklists.MOST_CHOICES)
    choices_zh: list[Choice] | None = Field(None, max_length=checklists.MOST_CHOICES)
    good: list[Choice] | None = Field(None, alias="pass", max_length=checklists.MOST_CHOICES)
    flag: list[Choice] | None = Field(None, max_length=checklists.MOST_CHOICES)


class ChecklistIn(BaseModel):
    """A checklist as it is to be."""

    name: str = Field(min_length=1, max_length=checklists.LONGEST_NAME)
    name_zh: str | None = Field(None, max_length=checklists.LONGEST_NAME)
    items: list[Item] = Field(min_length=1, max_length=checklists.MOST_ITEMS)


class NewChecklist(ChecklistIn):
    """A checklist and the org unit it belongs to."""

    unit_id: int


class ChecklistOut(BaseModel):
    """A checklist with the number of its newest version."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    key: str
    name: str
    name_zh: str | None
    version: int


class ChecklistWhole(ChecklistOut):
    """A checklist with the items of its newest version."""

    items: list[Item]


def _whole(session: Session, row: Checklist) -> ChecklistWhole:
    items = [Item.model_validate(item) for item in checklists.newest_items(session, row)]
    return ChecklistWhole(**ChecklistOut.model_validate(row).model_dump(), items=items)


def _save(session: Session, row: Checklist, wanted: ChecklistIn, viewer: Viewer) -> ChecklistWhole:
    items = [item.model_dump(by_alias=True, exclude_none=True) for item in wanted.items]
    checklists.save(session, row, items, actor=viewer.actor, now=clock.now())
    return _whole(session, row)


@router.get("")
def list_checklists(viewer: Reader, session: Db, *, limit: Limit = 100, cursor: Cursor = None) -> Page[ChecklistOut]:
    """List the checklists of the company by id."""
    wanted = select(Checklist).where(Checklist.company_id == viewer.company_id).order_by(Checklist.id).limit(limit + 1)
    if key := paging.read(cursor, (int,)):
        wanted = wanted.where(Checklist.id > key[0])
    shown, following = paging.cut(session.scalars(wanted).all(), limit, lambda row: (row.id,))
    return Page(items=[ChecklistOut.model_validate(row) for row in shown], next=following)


@router.post("", status_code=201)
def make_checklist(viewer: Writer, session: Db, wanted: NewChecklist) -> ChecklistWhole:
    """Make a checklist."""
    unit = session.get(OrgUnit, wanted.unit_id)
    if unit is None or not viewer.may_at("plans.write", unit.path):
        raise Invalid("There is nothing of this number to choose.", field="unit_id")
    made = checklists.make(session, unit, name=wanted.name, name_zh=wanted.name_zh, actor=viewer.actor, now=clock.now())
    return _save(session, made, wanted, viewer)


@router.get("/{checklist_id}")
def get_checklist(checklist_id: int, viewer: Reader, session: Db) -> ChecklistWhole:
    """Return one checklist with its items."""
    return _whole(session, scope.find(session, Checklist, checklist_id, viewer, "plans.read"))


@router.put("/{checklist_id}")
def change_checklist(checklist_id: int, viewer: Writer, session: Db, wanted: ChecklistIn) -> ChecklistWhole:
    """Give a checklist a new version; orders that exist keep theirs."""
    row = scope.find(session, Checklist, checklist_id, viewer, "plans.write")
    checklists.name_it(row, name=wanted.name, name_zh=wanted.name_zh)
    return _save(session, row, wanted, viewer)
