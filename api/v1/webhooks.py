"""Webhook sources over JSON: other systems that may post, each with a secret that is shown once."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.runtime import Runtime
from ingest import webhooks
from ingest.models import WebhookSource
from kernel import clock
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
Reader = Annotated[Viewer, needs("ingest.read")]
Writer = Annotated[Viewer, needs("devices.write")]


class WebhookIn(BaseModel):
    """A source to be added."""

    name: str = Field(description="Stands in its address: 1 to 60 small letters, digits and hyphens.")
    proof: Literal["token", "signature"] = "token"
    header: str = Field("", description="Where it puts its signature; X-Hub-Signature-256 when left out.")
    unit_id: int | None = Field(None, description="The org unit it belongs to; the company when left out.")


class WebhookOut(BaseModel):
    """A source."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    proof: str
    header: str
    unit_id: int
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class WebhookIssued(WebhookOut):
    """A source with its secret, which is shown this once."""

    secret: str
    url: str


@router.get("")
def listed(db: Db, viewer: Reader, limit: paging.Limit = 100, cursor: paging.Cursor = None) -> paging.Page[WebhookOut]:
    """List webhook sources by name."""
    after = paging.read(cursor, (str,))
    rows = webhooks.listed(db, viewer, after=after[0] if after else None, limit=limit + 1)
    page, following = paging.cut(rows, limit, lambda row: (row.name,))
    return paging.Page(items=[WebhookOut.model_validate(row) for row in page], next=following)


@router.post("", status_code=201)
def add(db: Db, parts: Parts, viewer: Writer, body: WebhookIn, response: Response) -> WebhookIssued:
    """Add a source; its secret is in this answer only."""
    response.headers["Cache-Control"] = "no-store"
    return issued(parts, added(db, viewer, body))


@router.post("/{webhook_id}/rotate")
def rotate(db: Db, parts: Parts, viewer: Writer, webhook_id: int, response: Response) -> WebhookIssued:
    """Give a source another secret; the one before is void."""
    response.headers["Cache-Control"] = "no-store"
    source = mine(db, viewer, webhook_id)
    webhooks.rotate(db, source, actor=viewer.actor, now=clock.now())
    return issued(parts, source)


@router.post("/{webhook_id}/revoke")
def revoke(db: Db, viewer: Writer, webhook_id: int) -> WebhookOut:
    """Shut a source out for good."""
    source = mine(db, viewer, webhook_id)
    webhooks.revoke(db, source, actor=viewer.actor, now=clock.now())
    return WebhookOut.model_validate(source)


def added(db: Session, viewer: Viewer, body: WebhookIn) -> WebhookSource:
    """Add a source for a viewer who may do so there."""
    unit_id = body.unit_id or viewer.company_id
    scope.require(db, viewer, "devices.write", unit_id)
    return webhooks.add(
        db,
        body.name,
        proof=body.proof,
        header=body.header,
        unit=db.get_one(OrgUnit, unit_id),
        actor=viewer.actor,
        now=clock.now(),
    )


def mine(db: Session, viewer: Viewer, webhook_id: int) -> WebhookSource:
    """Return a source that the viewer may change."""
    return scope.find(db, WebhookSource, webhook_id, viewer, "devices.write")


def issued(parts: Runtime, source: WebhookSource) -> WebhookIssued:
    """Return a source with its secret."""
    return WebhookIssued(
        **WebhookOut.model_validate(source).model_dump(),
        secret=webhooks.secret_of(parts.secret, source),
        url=f"{parts.settings.public_url}/api/v1/intake/webhook/{source.name}",
    )
