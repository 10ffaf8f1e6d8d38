"""Work orders over JSON: listed, opened, taken through their life; their timeline."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging, versions
from api.access import Db, Parts, needs
from api.instants import Instant
from api.runtime import Runtime
from assets.models import Asset
from kernel import clock, files
from kernel.errors import Invalid
from maintenance.orders import authority, desk, lifecycle, opening, timeline, worklist
from maintenance.orders.models import Entry, Order
from maintenance.orders.worklist import Wanted
from people import scope
from people.models import Account
from people.scope import Viewer

router = APIRouter(prefix="/orders", tags=["orders"])
Reader = Annotated[Viewer, needs("orders.read")]
Opener = Annotated[Viewer, needs("orders.create")]
Commenter = Annotated[Viewer, needs("orders.comment")]
Priority = Annotated[int, Field(ge=1, le=4, description="1 is an emergency, 4 can wait.")]
STEPS = {
    "accept": "Say that you will do it.",
    "refuse": "Give it back, with a reason; dispatch then passes you over.",
    "depart": "Set off.",
    "arrive": "Be on site.",
    "start": "Begin to work; from an accepted order this takes the way there too.",
    "pause": "Interrupt the work, with a reason; a pause is not work.",
    "resume": "Go on working.",
    "finish": "End the work, with what its kind asks for: finding, resolution, checklist, photo.",
    "verify": "Say that finished work is good.",
    "send_back": "Send finished work back, with a reason; it counts as rework.",
    "close": "Close verified work.",
    "cancel": "End an order that is not needed, with a reason that its reporter reads.",
}
"""Verb → what it does, as the documentation says it."""
Sort = Literal["-id", "priority", "-priority", "due", "-due", "-finished"]
MOST_PHOTOS = 6


class PersonOut(BaseModel):
    """A person."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    username: str


class OrderIn(BaseModel):
    """An order to be opened by hand. It belongs to the org unit of its asset."""

    asset_id: int
    title: str = Field(max_length=200)
    description: str = Field("", max_length=4000)
    kind: str = Field("corrective", max_length=40)
    priority: Priority = 3
    skill: str | None = Field(None, max_length=40, description="Key of a skill; by default the asset type's.")
    due_at: Instant | None = Field(None, description="By default from the priority.")
    planned_at: Instant | None = None
    estimated_minutes: int = Field(60, ge=5, le=60 * 24 * 30)


class OrderOut(BaseModel):
    """A work order; ``work_s`` counts no pause, ``travel_s`` is arrival minus departure."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    number: str
    origin: str
    kind: str
    phase: str
    priority: int
    title: str
    title_zh: str | None
    description: str
    asset_id: int | None
    site_id: int | None
    customer_id: int | None
    unit_id: int
    alarm_id: int | None
    fault_key: str | None
    previous_id: int | None
    occurrences: int
    last_seen_at: datetime | None
    recovered_at: datetime | None
    recovery: str | None = Field(
        description="What the machine says of the finished repair: `watched`, `held` (its signal stayed normal for the"
        " quiet time) or `came_back`."
    )
    recovery_due_at: datetime | None = Field(description="Until when the signal is watched.")
    recovery_verified_at: datetime | None
    override_reason: str | None = Field(description="Why it was finished although its alarm was active.")
    skill: str | None
    team_id: int | None
    assignee: PersonOut | None
    in_pool: bool
    pool_until: datetime | None
    estimated_minutes: int
    planned_at: datetime | None
    due_at: datetime | None
    created_at: datetime
    created_by: str
    assigned_at: datetime | None
    accepted_at: datetime | None
    departed_at: datetime | None
    arrived_at: datetime | None
    started_at: datetime | None
    paused_at: datetime | None
    finished_at: datetime | None
    verified_at: datetime | None
    closed_at: datetime | None
    travel_s: int | None
    work_s: int | None
    finding: str | None
    resolution: str | None
    rework: int
    rating: int | None
    version: int


class OrderWhole(OrderOut):
    """An order with its reports and the steps that are open to who asks."""

    request_ids: list[int]
    possible: list[str] = Field(description="The verbs open to you now.")
    next_step: str | None = Field(description="The one verb that is next when all goes well, if it is yours.")


class StepIn(BaseModel):
    """What a step needs; which of it depends on the verb and on the kind of work."""

    reason: str | None = Field(None, max_length=500)
    finding: Literal["real", "false_alarm", "nothing_found"] | None = None
    resolution: str | None = Field(None, max_length=4000)


class CommentIn(BaseModel):
    """A comment, for colleagues unless public."""

    text: str = Field(max_length=4000)
    is_public: bool = False


class EntryOut(BaseModel):
    """A line of a timeline."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str
    actor_name: str
    kind: str
    is_public: bool
    text: str
    detail: dict[str, Any]
    file_id: int | None
    request_id: int | None


class Filter(BaseModel):
    """The parameters of the list of orders."""

    phase: list[str] = Field([], description="One or several phases.")
    open: bool | None = Field(None, description="True: not closed or cancelled.")
    late: bool = Field(False, description="Past due and not finished.")
    assignee: str | None = Field(None, max_length=20, description="An account's id, `me` or `none`.")
    asset: int | None = None
    site: int | None = None
    alarm: int | None = None
    origin: Literal["alarm", "scan", "plan", "person", "mail"] | None = None
    kind: str | None = Field(None, max_length=40)
    priority: int | None = Field(None, ge=1, le=4)
    q: str = Field("", max_length=100, description="A part of the number, title, or the asset's code or name.")
    sort: Sort = "-id"
    limit: paging.Limit = 100
    cursor: paging.Cursor = None

    def asked(self, viewer: Viewer) -> Wanted:
        """Return the filter of the query.

        Raises:
            Invalid: the assignee is none.
        """
        who = self.assignee
        if who not in {None, "", "me", "none"} and not str(who).isdecimal():
            raise Invalid("The assignee is an id, `me` or `none`.", field="assignee")
        return Wanted(
            phases=tuple(self.phase),
            is_open=self.open,
            is_late=self.late,
            assignee_id=viewer.account_id if who == "me" else int(who) if who and who != "none" else None,
            is_unassigned=who == "none",
            asset_id=self.asset,
            site_id=self.site,
            alarm_id=self.alarm,
            origin=self.origin,
            kind=self.kind,
            priority=self.priority,
            text=self.q.strip(),
        )


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[OrderOut]:
    """List orders, the newest first unless sorted otherwise."""
    now = clock.now()
    page, following = page_of(db, viewer, wanted, now)
    return paging.Page(items=[shown(row, now) for row in page], next=following)


def page_of(db: Session, viewer: Viewer, wanted: Filter, now: datetime) -> tuple[list[Order], str | None]:
    """Return one page of a filter's orders and the cursor of the next."""
    after = paging.read(wanted.cursor, worklist.SORTS[wanted.sort])
    rows = worklist.listed(
        db, viewer, wanted.asked(viewer), now=now, sort=wanted.sort, after=after, limit=wanted.limit + 1
    )
    return paging.cut(rows, wanted.limit, lambda row: worklist.key_of(row, wanted.sort))


@router.post("", status_code=201)
def open_order(db: Db, viewer: Opener, body: OrderIn, response: Response) -> OrderWhole:
    """Open an order on an asset; dispatch then looks for somebody."""
    asset = scope.find(db, Asset, body.asset_id, viewer, "assets.read")
    scope.require(db, viewer, "orders.create", asset.unit_id)
    draft = opening.about(asset, origin="person", **body.model_dump(exclude={"asset_id"}))
    order = opening.open_order(db, draft, actor=viewer.actor, now=clock.now())
    response.headers["Location"] = f"/api/v1/orders/{order.id}"
    return whole(db, viewer, order.id, response)


@router.get("/{order_id}")
def order(db: Db, viewer: Reader, order_id: int, response: Response) -> OrderWhole:
    """Return one order and the steps that are open to you."""
    return whole(db, viewer, order_id, response)


@router.get("/{order_id}/timeline")
def entries(
    db: Db, viewer: Reader, order_id: int, limit: paging.Limit = 100, cursor: paging.Cursor = None
) -> paging.Page[EntryOut]:
    """List what happened to an order, the newest first."""
    found = scope.find(db, Order, order_id, viewer, "orders.read")
    after = paging.read(cursor, (datetime, int))
    rows = timeline.of_order(db, found, limit=limit + 1, before=after and (after[0], after[1]))
    page, following = paging.cut(rows, limit, lambda row: (row.at, row.id))
    return paging.Page(items=[EntryOut.model_validate(row) for row in page], next=following)


@router.post("/{order_id}/comments", status_code=201)
def comment(db: Db, viewer: Commenter, order_id: int, body: CommentIn) -> EntryOut:
    """Say something about an order, to colleagues or, when public, to the customer too."""
    found = commentable(db, viewer, order_id)
    entry = timeline.comment(db, found, body.text, actor=viewer.actor, now=clock.now(), is_public=body.is_public)
    return EntryOut.model_validate(entry)


@router.post("/{order_id}/photos", status_code=201)
def photos(db: Db, viewer: Commenter, parts: Parts, order_id: int, photos: list[UploadFile]) -> paging.Page[EntryOut]:
    """Add up to six JPEG, PNG or WebP pictures."""
    added = keep_photos(db, parts, commentable(db, viewer, order_id), photos, viewer)
    return paging.Page(items=[EntryOut.model_validate(entry) for entry in added])


def _step_of(verb: str) -> Callable[..., OrderWhole]:
    """Return the route of one step of an order's life."""

    def step(
        db: Db,
        viewer: Reader,
        order_id: int,
        response: Response,
        version: versions.IfMatch,
        body: StepIn | None = None,
    ) -> OrderWhole:
        words = (body or StepIn()).model_dump()
        desk.act(db, order_id, verb, viewer, now=clock.now(), version=version, **words)
        return whole(db, viewer, order_id, response)

    step.__doc__ = f"{STEPS[verb]} A step that is not possible now answers 409 and says which are."
    return step


for _verb in STEPS:
    router.add_api_route(f"/{{order_id}}/{_verb}", _step_of(_verb), methods=["POST"], name=f"{_verb} order")


def commentable(db: Session, viewer: Viewer, order_id: int) -> Order:
    """Return an order the viewer may write on.

    Raises:
        NotFound: it lies outside the viewer's sight.
        Forbidden: the viewer may see it and not write on it.
    """
    found = scope.find(db, Order, order_id, viewer, "orders.read")
    scope.require(db, viewer, "orders.comment", found.unit_id)
    return found


def keep_photos(
    db: Session,
    parts: Runtime,
    order: Order,
    uploads: Sequence[UploadFile],
    viewer: Viewer,
    *,
    is_public: bool = False,
) -> list[Entry]:
    """Keep uploaded pictures and write them on an order's timeline; empty file fields are passed over.

    Raises:
        Invalid: there are none, or more than six.
        TooLarge: one is larger than allowed.
        Unsupported: one is no whole picture.
    """
    sent = [upload for upload in uploads if upload.filename]
    if not 1 <= len(sent) <= MOST_PHOTOS:
        raise Invalid("Add one to {most} photos.", field="photos", most=MOST_PHOTOS)
    now, limit = clock.now(), parts.settings.upload_max_mb * 1_000_000
    added = []
    for upload in sent:
        file = files.keep_picture(
            db,
            parts.files,
            upload.file,
            name=upload.filename or "photo",
            limit_bytes=limit,
            now=now,
            company_id=order.company_id,
        )
        added.append(timeline.photo(db, order, file, actor=viewer.actor, now=now, is_public=is_public))
    return added


def shown(row: Order, now: datetime) -> OrderOut:
    """Return an order as the API shows it."""
    return OrderOut.model_validate(_values(row, now))


def whole(db: Session, viewer: Viewer, order_id: int, response: Response) -> OrderWhole:
    """Return an order as the API shows it to who asks, its version in the answer's head."""
    db.flush()
    row = worklist.whole(db, order_id, viewer)
    versions.give(response, row.version)
    possible = list(authority.possible(viewer, row, desk.path_of(db, row)))
    following = lifecycle.NEXT.get(row.phase)
    return OrderWhole.model_validate(
        {
            **_values(row, clock.now()),
            "request_ids": [one.id for one in row.requests],
            "possible": possible,
            "next_step": following if following in possible else None,
        }
    )


def _values(row: Order, now: datetime) -> dict[str, Any]:
    times = desk.times_of(row)
    travelled, worked = lifecycle.travelled(times), lifecycle.worked(times, now)
    own = {"kind", "travel_s", "work_s", "assignee"}
    values = {name: getattr(row, name) for name in OrderOut.model_fields if name not in own}
    return {
        **values,
        "kind": row.type.key,
        "assignee": person_of(row.assignee),
        "travel_s": round(travelled.total_seconds()) if travelled is not None else None,
        "work_s": round(worked.total_seconds()) if worked is not None else None,
    }


def person_of(account: Account | None) -> PersonOut | None:
    """Return a person as the API shows one."""
    return PersonOut.model_validate(account) if account is not None else None
