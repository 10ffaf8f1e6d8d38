"""The ways for devices to come in by themselves, as people set them up: secrets, claim codes, authorities."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, needs
from assets import enrolment
from assets.models import Asset, AssetType, Enrolment, Site
from kernel import clock, ids
from kernel.errors import Invalid, NotFound
from people import scope
from people.models import OrgUnit
from people.scope import Viewer

router = APIRouter(prefix="/devices/enrolments", tags=["devices"])
Reader = Annotated[Viewer, needs("devices.write")]
Writer = Annotated[Viewer, needs("devices.write")]


class EnrolmentOut(BaseModel):
    """A way to come in. The secret or code itself is shown once, when it is made."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: str
    name: str
    unit_id: int
    asset_type_id: int | None
    asset_id: int | None
    device_key: str | None
    needs_approval: bool
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Offered(EnrolmentOut):
    """A new way to come in, with what a device must show; it is kept as a fingerprint only."""

    secret: str


class SecretIn(BaseModel):
    """A shared secret for the devices of a type; they belong to the site until they are bound."""

    type_id: int
    site_id: int
    name: str | None = None
    needs_approval: bool = True


class ClaimIn(BaseModel):
    """A code that lets one device in, once. One of ``asset_id`` and ``site_id`` is needed."""

    asset_id: int | None = Field(None, description="The asset it measures from then on.")
    site_id: int | None = None
    key: str | None = Field(None, description="The only device that may use it.")
    name: str | None = None
    days: int = Field(14, ge=1, le=90)


class AuthorityIn(BaseModel):
    """An authority whose certificates let devices in; they belong to the site until they are bound."""

    certificate: str = Field(description="In PEM: the authority that signs the devices' certificates itself.")
    site_id: int
    type_id: int | None = None
    name: str | None = None
    needs_approval: bool = False


class Filter(BaseModel):
    """The parameters of the list."""

    type_id: int | None = None
    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("")
def listed(db: Db, viewer: Reader, wanted: Annotated[Filter, Query()]) -> paging.Page[EnrolmentOut]:
    """List the ways to come in, the latest first."""
    after = paging.read(wanted.cursor, (int,))
    rows = shown(db, viewer, type_id=wanted.type_id, after=after[0] if after else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda row: (row.id,))
    return paging.Page(items=[EnrolmentOut.model_validate(row) for row in page], next=following)


def shown(
    db: Session, viewer: Viewer, *, type_id: int | None = None, after: int | None = None, limit: int
) -> list[Enrolment]:
    """Return the ways to come in that a viewer may decide about, the latest first."""
    query = select(Enrolment).where(scope.visible(Enrolment, viewer, "devices.write"))
    if type_id is not None:
        query = query.where(Enrolment.asset_type_id == type_id)
    if after is not None:
        query = query.where(Enrolment.id < after)
    return list(db.scalars(query.order_by(Enrolment.id.desc()).limit(limit)))


@router.post("/secrets", status_code=201)
def offer_secret(db: Db, viewer: Writer, body: SecretIn, response: Response) -> Offered:
    """Make a shared secret for the devices of a type, and show it this once."""
    response.headers["Cache-Control"] = "no-store"
    made, secret = new_secret(db, viewer, body)
    return _offered(made, secret)


def new_secret(db: Session, viewer: Viewer, body: SecretIn) -> tuple[Enrolment, str]:
    """Make a shared secret within a viewer's reach; return it with its text, which nobody keeps."""
    secret = ids.token()
    made = enrolment.offer_secret(
        db,
        secret,
        asset_type=_type(db, viewer, body.type_id),
        unit=_unit(db, viewer, body.site_id),
        name=body.name,
        needs_approval=body.needs_approval,
        actor=viewer.actor,
        now=clock.now(),
    )
    return made, secret


@router.post("/claims", status_code=201)
def offer_claim(db: Db, viewer: Writer, body: ClaimIn, response: Response) -> Offered:
    """Make a code that lets one device in, once, and show it this once."""
    response.headers["Cache-Control"] = "no-store"
    made, code = new_claim(db, viewer, body)
    return _offered(made, code)


def new_claim(db: Session, viewer: Viewer, body: ClaimIn) -> tuple[Enrolment, str]:
    """Make a claim code within a viewer's reach; return it with its text, which nobody keeps."""
    code, now = ids.code(enrolment.CODE_LENGTH), clock.now()
    asset = None
    if body.asset_id is not None:
        try:
            asset = scope.find(db, Asset, body.asset_id, viewer, "assets.read")
        except NotFound as error:
            raise Invalid("There is no such asset.", field="asset_id") from error
        scope.require(db, viewer, "devices.write", asset.unit_id)
    unit = db.get_one(OrgUnit, asset.unit_id) if asset else _unit(db, viewer, body.site_id)
    made = enrolment.offer_claim(
        db,
        code,
        unit=unit,
        name=body.name,
        asset=asset,
        device_key=body.key,
        expires_at=now + timedelta(days=body.days),
        actor=viewer.actor,
        now=now,
    )
    return made, code


@router.post("/authorities", status_code=201)
def trust_authority(db: Db, viewer: Writer, body: AuthorityIn) -> EnrolmentOut:
    """Let devices in whose certificates an authority has signed."""
    return EnrolmentOut.model_validate(new_authority(db, viewer, body))


def new_authority(db: Session, viewer: Viewer, body: AuthorityIn) -> Enrolment:
    """Trust an authority within a viewer's reach."""
    return enrolment.trust_authority(
        db,
        body.certificate,
        unit=_unit(db, viewer, body.site_id),
        name=body.name,
        asset_type=_type(db, viewer, body.type_id) if body.type_id is not None else None,
        needs_approval=body.needs_approval,
        actor=viewer.actor,
        now=clock.now(),
    )


@router.post("/{enrolment_id}/close")
def close(db: Db, viewer: Writer, enrolment_id: int) -> EnrolmentOut:
    """Let nobody in this way any more; who came in stays."""
    found = scope.find(db, Enrolment, enrolment_id, viewer, "devices.write")
    enrolment.close(db, found, actor=viewer.actor, now=clock.now())
    return EnrolmentOut.model_validate(found)


def _offered(made: Enrolment, secret: str) -> Offered:
    return Offered(**EnrolmentOut.model_validate(made).model_dump(), secret=secret)


def _type(db: Session, viewer: Viewer, type_id: int) -> AssetType:
    found = db.get(AssetType, type_id)
    if found is None or found.company_id != viewer.company_id:
        raise Invalid("There is no such type.", field="type_id")
    return found


def _unit(db: Session, viewer: Viewer, site_id: int | None) -> OrgUnit:
    if site_id is None:
        raise Invalid("Please say on which asset, or at which site.", field="site_id")
    try:
        site = scope.find(db, Site, site_id, viewer, "assets.read")
    except NotFound as error:
        raise Invalid("There is no such site.", field="site_id") from error
    scope.require(db, viewer, "devices.write", site.unit_id)
    return db.get_one(OrgUnit, site.unit_id)
