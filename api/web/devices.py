"""Devices: registered, given a secret that is shown once, bound to assets, shut out."""

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api import paging
from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.v1 import devices as v1
from api.v1 import telemetry as readings
from api.web import by_code, device_talk, forms, pages
from assets import applications, credentials, devices, listing, types
from assets.models import Asset, Device
from ingest.models import IntakeCount, RejectedMessage
from kernel import clock, i18n
from kernel.errors import Conflict, FixwrightError, Invalid
from kernel.settings import host_and_port
from people import scope
from people.scope import Viewer
from telemetry import quality
from telemetry.models import Series

router = APIRouter()
Reader = Annotated[Viewer, needs("assets.read")]
Writer = Annotated[Viewer, needs("devices.write")]
A_PAGE = 50
OVERLAPS = (
    (0, i18n.noop("It is void at once")),
    (1, i18n.noop("It works for 1 hour more")),
    (24, i18n.noop("It works for 1 day more")),
    (168, i18n.noop("It works for 7 days more")),
    (720, i18n.noop("It works for 30 days more")),
    (2160, i18n.noop("It works for 90 days more")),
)
"""Hours for which the secret before goes on working, with their words."""
SECRET = {"Cache-Control": "no-store"}


class Asked(BaseModel):
    """The filter of the list as its form sends it."""

    q: str = ""
    state: str = ""
    gateway: str = ""
    after: str = ""


@router.get("/devices")
def all_devices(request: Request, db: Db, viewer: Reader, asked: Annotated[Asked, Query()]) -> Response:
    """List the devices within sight."""
    after = paging.read(asked.after or None, (str, int))
    rows = listing.devices(
        db,
        viewer,
        text=asked.q.strip()[:100],
        state=asked.state or None,
        gateway_id=forms.whole(asked.gateway, "gateway"),
        after=after and (after[0], after[1]),
        limit=A_PAGE + 1,
    )
    shown, following = paging.cut(rows, A_PAGE, lambda row: (row.key, row.id))
    return pages.render(
        request,
        "devices/list.html",
        rows=shown,
        following=following,
        asked=asked,
        bound=listing.bound_now(db, [row.id for row in shown]),
        waiting=applications.waiting(db, viewer),
        may_write=viewer.may("devices.write"),
    )


class DeviceForm(BaseModel):
    """The form of a new device as it is sent; the asset is named by its code."""

    key: str = ""
    name: str = ""
    asset: str = ""
    site: str = ""
    gateway: str = ""


@router.get("/devices/new")
def new_device(request: Request, db: Db, viewer: Writer, asset: str = "") -> Response:
    """Show the form of a new device; ``asset`` names the id of the one it will measure."""
    identity = forms.whole(asset, "asset")
    found = scope.find(db, Asset, identity, viewer, "assets.read") if identity else None
    form = DeviceForm(asset=found.code, key=found.code.lower(), name=found.name) if found else DeviceForm()
    return _new(request, db, viewer, form)


@router.post("/devices")
def register(request: Request, db: Db, parts: Parts, viewer: Writer, form: Annotated[DeviceForm, Form()]) -> Response:
    """Register a device and show its secret, this once."""
    try:
        asset = by_code.asset(db, viewer, form.asset, field="asset")
        body = v1.DeviceIn(
            key=form.key.strip(),
            name=form.name,
            asset_id=asset.id if asset else None,
            site_id=forms.whole(form.site, "site_id"),
            gateway_id=_gateway(db, viewer, form.gateway),
        )
        device, password = v1.add(db, viewer, body)
    except (Invalid, Conflict) as error:
        db.rollback()
        return _new(request, db, viewer, form, errors=forms.refused(request, error))
    return _secret(request, parts, device, password)


def _new(
    request: Request, db: Session, viewer: Viewer, form: DeviceForm, *, errors: dict[str, str] | None = None
) -> Response:
    named = {
        {"asset_id": "asset", "site_id": "site", "gateway_id": "gateway"}.get(field, field): sentence
        for field, sentence in (errors or {}).items()
    }
    return pages.render(
        request,
        "devices/new.html",
        status=422 if errors else 200,
        form=form,
        errors=named,
        sites=forms.options(listing.sites(db, viewer), request.state.language),
    )


def _secret(request: Request, parts: Runtime, device: Device, password: str) -> Response:
    """Show a device's password, which no later page can show again."""
    host, port = host_and_port(parts.settings.mqtt_bind)
    topic = f"fw/v1/{device.key}/telemetry"
    command = (
        f"mosquitto_pub -h {host} -p {port} -u {device.key} -P '{password}' -q 1 -t {topic}"
        " -m '{\"temperature\": 21.5}'"
    )
    return pages.render(
        request,
        "devices/secret.html",
        headers=SECRET,
        device=device,
        password=password,
        topic=topic,
        command=command,
        broker=f"{host}:{port}",
    )


@router.get("/devices/{device_id}")
def device(request: Request, db: Db, parts: Parts, viewer: Reader, device_id: int) -> Response:
    """Show a device: its connection, what it measured and when, its attributes, its newest readings."""
    return _page(request, db, parts, viewer, device_id)


def _page(
    request: Request,
    db: Session,
    parts: Runtime,
    viewer: Viewer,
    device_id: int,
    *,
    errors: dict[str, str] | None = None,
) -> Response:
    found = scope.find(db, Device, device_id, viewer, "assets.read")
    now = clock.now()
    known = select(Series.id, Series.metric).where(Series.device_id == found.id).order_by(Series.metric).limit(200)
    series = {row.id: row.metric for row in db.execute(known)}
    latest = parts.store.latest(list(series)) if viewer.may("telemetry.read") else {}
    intake = db.execute(
        select(
            func.coalesce(func.sum(IntakeCount.received), 0),
            func.coalesce(func.sum(IntakeCount.stored), 0),
            func.coalesce(func.sum(IntakeCount.duplicate), 0),
            func.coalesce(func.sum(IntakeCount.rejected), 0),
        ).where(IntakeCount.device_id == found.id, IntakeCount.hour > now - timedelta(days=1))
    ).one()
    bound = listing.bound_now(db, [found.id]).get(found.id)
    described = types.metrics(db, found.company_id, [bound.asset.type_id])[bound.asset.type_id] if bound else {}
    is_rejected = db.scalar(
        select(RejectedMessage.id)
        .where(RejectedMessage.device_key == found.key, RejectedMessage.replayed_at.is_(None))
        .limit(1)
    )
    return pages.render(
        request,
        "devices/device.html",
        status=422 if errors else 200,
        device=found,
        bound=bound,
        described=described,
        history=v1.history(db, viewer, found),
        gateway=db.get(Device, found.gateway_id) if found.gateway_id else None,
        values=[
            (
                metric,
                readings.value_of(latest[number]),
                clock.from_ms(latest[number].ts_ms),
                readings.quality_of(latest[number], described.get(metric), clock.to_ms(now)),
                quality.reason(latest[number].flags),
            )
            for number, metric in series.items()
            if number in latest
        ],
        received=intake[0],
        stored=intake[1],
        duplicate=intake[2],
        rejected=intake[3],
        has_rejected=is_rejected is not None and viewer.may("ingest.read"),
        may_ingest=viewer.may("ingest.read"),
        may_write=viewer.may("devices.write"),
        before_until=found.previous_until if found.credentials.previous(now) else None,
        overlaps=forms.translated(OVERLAPS, request.state.language),
        errors=errors or {},
        **device_talk.shown(db, viewer, found, request.state.language),
    )


@router.post("/devices/{device_id}/rotate")
def rotate(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, overlap: Annotated[str, Form()] = ""
) -> Response:
    """Give a device another secret and show it, this once; the one before is void, or works on for some hours."""
    found = v1.mine(db, viewer, device_id)
    try:
        hours = forms.whole(overlap, "overlap") or 0
        if not 0 <= hours <= OVERLAPS[-1][0]:
            raise Invalid("Choose at most {days} days.", field="overlap", days=90)  # noqa: TRY301 - beside the field
        password = v1.new_password(db, viewer, found, overlap_hours=hours)
    except (Invalid, Conflict) as error:
        return again(request, db, parts, viewer, device_id, error)
    return _secret(request, parts, found, password)


@router.post("/devices/{device_id}/end_overlap")
def end_overlap(request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int) -> Response:
    """Void the secret before at once."""
    return _change(
        request, db, parts, viewer, device_id, i18n.noop("Only the present secret works now."),
        lambda found, now: credentials.end_overlap(db, found, actor=viewer.actor, now=now),
    )  # fmt: skip


class IdentityForm(BaseModel):
    """What else has to fit before a device comes in."""

    client_id: str = ""
    certificate: str = ""


@router.post("/devices/{device_id}/identity")
def identity(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, form: Annotated[IdentityForm, Form()]
) -> Response:
    """Bind a device to a client id, and say whether a certificate stands for it."""

    def bound(found: Device, now: datetime) -> None:
        credentials.bind_client(db, found, form.client_id, actor=viewer.actor, now=now)
        credentials.accept_certificate(db, found, bool(form.certificate), actor=viewer.actor, now=now)

    return _change(request, db, parts, viewer, device_id, i18n.noop("Saved."), bound)


@router.post("/devices/{device_id}/revoke")
def revoke(request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int) -> Response:
    """Shut a device out for good."""
    return _change(
        request, db, parts, viewer, device_id, i18n.noop("The device is shut out."),
        lambda found, now: devices.revoke(db, found, actor=viewer.actor, now=now),
    )  # fmt: skip


@router.post("/devices/{device_id}/rename")
def rename(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, name: Annotated[str, Form()] = ""
) -> Response:
    """Give a device another name."""
    return _change(
        request, db, parts, viewer, device_id, i18n.noop("Saved."),
        lambda found, now: devices.rename(db, found, name, actor=viewer.actor, now=now),
    )  # fmt: skip


class BindForm(BaseModel):
    """Which asset, by its code, and since when in the reader's own time."""

    asset: str = ""
    at: str = ""


@router.post("/devices/{device_id}/bind")
def bind(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, form: Annotated[BindForm, Form()]
) -> Response:
    """Let a device measure an asset; it leaves the one it measured."""
    found = v1.mine(db, viewer, device_id)
    try:
        asset = by_code.asset(db, viewer, form.asset, field="asset")
        if asset is None:
            raise Invalid("This is needed.", field="asset")  # noqa: TRY301 - the page says it beside the field
        scope.require(db, viewer, "devices.write", asset.unit_id)
        starts_at = forms.moment(form.at, "at", _zone(viewer))
        devices.bind(db, found, asset, starts_at=starts_at, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, parts, viewer, device_id, error)
    return pages.go(
        f"/devices/{device_id}",
        notice=i18n.noop("It measures {asset} now."),
        asset=asset.code,
    )


@router.post("/devices/{device_id}/unbind")
def unbind(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, at: Annotated[str, Form()] = ""
) -> Response:
    """End a device's binding."""

    def unbound(found: Device, now: datetime) -> None:
        devices.unbind(db, found, ends_at=forms.moment(at, "at", _zone(viewer)), actor=viewer.actor, now=now)

    return _change(request, db, parts, viewer, device_id, i18n.noop("It measures no asset now."), unbound)


class ReplaceForm(BaseModel):
    """Which device, by its key, took the place, and when in the reader's own time."""

    device: str = ""
    replaced_at: str = ""


@router.post("/devices/{device_id}/replace")
def replace(
    request: Request, db: Db, parts: Parts, viewer: Writer, device_id: int, form: Annotated[ReplaceForm, Form()]
) -> Response:
    """Put another device in this one's place, so that the asset's curves continue."""
    old = v1.mine(db, viewer, device_id)
    try:
        new = _by_key(db, viewer, form.device)
        scope.require(db, viewer, "devices.write", new.unit_id)
        at = forms.moment(form.replaced_at, "replaced_at", _zone(viewer))
        devices.replace(db, old, new, at=at, actor=viewer.actor, now=clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, parts, viewer, device_id, error)
    return pages.go(f"/devices/{new.id}", notice=i18n.noop("{name} has taken its place."), name=new.name)


def _change(  # noqa: PLR0917 - a request, whose device, and what is to become of it
    request: Request,
    db: Session,
    parts: Runtime,
    viewer: Viewer,
    device_id: int,
    notice: str,
    act: Callable[[Device, datetime], object],
) -> Response:
    """Change a device, and show its page: with a notice, or with what was refused."""
    found = v1.mine(db, viewer, device_id)
    try:
        act(found, clock.now())
    except (Invalid, Conflict) as error:
        return again(request, db, parts, viewer, device_id, error)
    return pages.go(f"/devices/{device_id}", notice=notice)


def again(
    request: Request, db: Session, parts: Runtime, viewer: Viewer, device_id: int, error: FixwrightError
) -> Response:
    """Show a device's page again with what was refused, and nothing of it done."""
    db.rollback()
    return _page(request, db, parts, viewer, device_id, errors=forms.refused(request, error))


def _zone(viewer: Viewer) -> tzinfo:
    return ZoneInfo(viewer.zone)


def _by_key(db: Session, viewer: Viewer, key: str) -> Device:
    found = db.scalars(
        select(Device).where(Device.key == key.strip(), scope.visible(Device, viewer, "assets.read"))
    ).one_or_none()
    if found is None:
        raise Invalid("There is no device with this key.", field="device")
    return found


def _gateway(db: Session, viewer: Viewer, key: str) -> int | None:
    if not key.strip():
        return None
    try:
        return _by_key(db, viewer, key).id
    except Invalid as error:
        raise Invalid(error.sentence, field="gateway") from error
