"""Tags for programs: list, make, revoke, replace, and the label as a picture."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import select

from api import paging
from api.access import Db, Parts, needs
from api.paging import Cursor, Limit, Page
from api.runtime import Runtime
from assets.models import Asset
from kernel import clock
from people import scope
from people.scope import Viewer
from qr import labels, tags
from qr.labels import Label
from qr.models import Tag

router = APIRouter(prefix="/tags", tags=["tags"])

Reader = Annotated[Viewer, needs("tags.read")]
Writer = Annotated[Viewer, needs("tags.write")]


class TagOut(BaseModel):
    """A tag: its readable code, the address its square holds, and what it is bound to."""

    id: int
    code: str
    address: str
    asset_id: int | None
    made_at: datetime
    revoked_at: datetime | None


class TagIn(BaseModel):
    """The asset that is to get a tag."""

    asset_id: int


def _out(tag: Tag, parts: Runtime) -> TagOut:
    return TagOut(
        id=tag.id,
        code=tag.code,
        address=f"{parts.settings.public_url}/q/{tag.token}",
        asset_id=tag.asset_id,
        made_at=tag.made_at,
        revoked_at=tag.revoked_at,
    )


@router.get("")
def list_tags(
    viewer: Reader, session: Db, parts: Parts, *, asset_id: int | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Page[TagOut]:
    """List tags by id."""
    wanted = select(Tag).where(scope.visible(Tag, viewer, "tags.read")).order_by(Tag.id).limit(limit + 1)
    if asset_id is not None:
        wanted = wanted.where(Tag.asset_id == asset_id)
    if key := paging.read(cursor, (int,)):
        wanted = wanted.where(Tag.id > key[0])
    shown, following = paging.cut(session.scalars(wanted).all(), limit, lambda tag: (tag.id,))
    return Page(items=[_out(tag, parts) for tag in shown], next=following)


@router.post("", status_code=201)
def make_tag(viewer: Writer, session: Db, parts: Parts, wanted: TagIn) -> TagOut:
    """Make a tag for an asset."""
    asset = scope.find(session, Asset, wanted.asset_id, viewer, "tags.write")
    return _out(tags.make(session, asset, actor=viewer.actor, now=clock.now()), parts)


@router.get("/{tag_id}")
def get_tag(tag_id: int, viewer: Reader, session: Db, parts: Parts) -> TagOut:
    """Return one tag."""
    return _out(scope.find(session, Tag, tag_id, viewer, "tags.read"), parts)


@router.get("/{tag_id}/label.svg")
def get_label(tag_id: int, viewer: Reader, session: Db, parts: Parts) -> Response:
    """Return the square of a tag as SVG."""
    tag = _out(scope.find(session, Tag, tag_id, viewer, "tags.read"), parts)
    return Response(labels.svg(Label(tag.address, tag.code, "", "", "")), media_type="image/svg+xml")


@router.post("/{tag_id}/revoke")
def revoke_tag(tag_id: int, viewer: Writer, session: Db, parts: Parts) -> TagOut:
    """Revoke a tag: its page says only that it is no longer valid."""
    tag = scope.find(session, Tag, tag_id, viewer, "tags.write")
    tags.revoke(session, tag, actor=viewer.actor, now=clock.now())
    return _out(tag, parts)


@router.post("/{tag_id}/replace", status_code=201)
def replace_tag(tag_id: int, viewer: Writer, session: Db, parts: Parts) -> TagOut:
    """Revoke a tag and make another for the same asset."""
    tag = scope.find(session, Tag, tag_id, viewer, "tags.write")
    return _out(tags.replace(session, tag, actor=viewer.actor, now=clock.now()), parts)
