"""Labels: which machines have one, made, printed as SVG, PNG or a PDF sheet, revoked and replaced."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.orm import Session, joinedload

from api import paging
from api.access import Db, Parts, needs
from api.runtime import Runtime
from api.web import assets, browsers, forms, pages
from assets.models import Asset, Site
from kernel import clock, i18n
from kernel.errors import Conflict, Invalid, NotFound
from people import scope
from people.scope import Viewer
from qr import labels, tags
from qr.labels import Label
from qr.models import Scan, Tag

router = APIRouter(tags=["labels"])
PAGE = 50
SIZE = "a4-24"
HINT = i18n.noop("Scan to report a fault")

Reader = Annotated[Viewer, needs("tags.read")]
Writer = Annotated[Viewer, needs("tags.write")]
Text = Annotated[str, Query(max_length=100)]
Number = Annotated[str, Query(max_length=20)]


@router.get("/labels")
def overview(
    request: Request,
    viewer: Reader,
    session: Db,
    *,
    q: Text = "",
    site: Number = "",
    asset: Number = "",
    after: str | None = None,
) -> HTMLResponse:
    """List machines with their labels."""
    wanted = _wanted(viewer, q, forms.whole(site, "site"), forms.whole(asset, "asset"))
    if key := paging.read(after, (str, int)):
        wanted = wanted.where((Asset.code > key[0]) | ((Asset.code == key[0]) & (Tag.id > key[1])))
    rows = session.scalars(wanted.limit(PAGE + 1)).all()
    shown, following = paging.cut(rows, PAGE, lambda tag: (_asset(tag).code, tag.id))
    scans = {
        tag_id: (count, last)
        for tag_id, count, last in session.execute(
            select(Scan.tag_id, func.count(), func.max(Scan.at))
            .where(Scan.tag_id.in_([tag.id for tag in shown]))
            .group_by(Scan.tag_id)
        )
    }
    sites = session.scalars(select(Site).where(scope.visible(Site, viewer, "tags.read")).order_by(Site.name)).all()
    of_one = forms.whole(asset, "asset")
    return pages.render(
        request,
        "labels/overview.html",
        tags=shown,
        scans=scans,
        sites=sites,
        sheets=labels.SHEETS,
        size=SIZE,
        q=q,
        site=site,
        of_one=scope.find(session, Asset, of_one, viewer, "assets.read") if of_one is not None else None,
        bare=_count_bare(session, viewer) if viewer.may("tags.write") else 0,
        next=following,
        after=after,
    )


@router.get("/labels/sheet.pdf")
def sheet(
    request: Request,
    viewer: Reader,
    session: Db,
    parts: Parts,
    *,
    tag: Annotated[list[int] | None, Query()] = None,
    q: Text = "",
    site: Number = "",
    size: Annotated[str, Query(max_length=20)] = SIZE,
    skip: Number = "",
) -> Response:
    """Return chosen labels, or all that the filter shows, as a PDF to print."""
    if size not in labels.SHEETS:
        raise Invalid("There is no such sheet.", field="size")
    wanted = _wanted(viewer, q, forms.whole(site, "site"), None).limit(labels.MOST_LABELS)
    if tag:
        wanted = wanted.where(Tag.id.in_(tag[: labels.MOST_LABELS]))
    chosen = [_label(one, parts, request.state.language) for one in session.scalars(wanted)]
    content = labels.pdf(
        chosen,
        labels.SHEETS[size],
        font=assets.font(),
        bold=assets.font("Bold"),
        skip=forms.whole(skip, "skip") or 0,
    )
    return Response(content, media_type="application/pdf", headers=_named("labels.pdf", inline=True))


@router.get("/labels/{tag_id}.svg")
def as_svg(tag_id: int, request: Request, viewer: Reader, session: Db, parts: Parts) -> Response:
    """Return one label's square as SVG, to save."""
    label = _label(_tag(session, tag_id, viewer, "tags.read"), parts, request.state.language)
    return Response(labels.svg(label), media_type="image/svg+xml", headers=_named(f"{label.asset_code}.svg"))


@router.get("/labels/{tag_id}.png")
def as_png(tag_id: int, request: Request, viewer: Reader, session: Db, parts: Parts) -> Response:
    """Return one label's square as PNG."""
    label = _label(_tag(session, tag_id, viewer, "tags.read"), parts, request.state.language)
    return Response(labels.png(label), media_type="image/png", headers=_named(f"{label.asset_code}.png", inline=True))


@router.get("/labels/{tag_id}")
def one(tag_id: int, request: Request, viewer: Reader, session: Db, parts: Parts) -> HTMLResponse:
    """Show one label with its scans."""
    tag = _tag(session, tag_id, viewer, "tags.read")
    scans = session.scalars(
        select(Scan).where(Scan.tag_id == tag.id).options(joinedload(Scan.account)).order_by(Scan.id.desc()).limit(50)
    ).all()
    return pages.render(
        request,
        "labels/label.html",
        tag=tag,
        asset=tag.asset,
        label=_label(tag, parts, request.state.language),
        scans=[(scan, browsers.called(scan.agent)) for scan in scans],
        sheets=labels.SHEETS,
    )


@router.post("/labels")
def make(viewer: Writer, session: Db, asset_id: Annotated[int, Form()]) -> Response:
    """Make a label for an asset."""
    asset = scope.find(session, Asset, asset_id, viewer, "tags.write")
    tag = tags.make(session, asset, actor=viewer.actor, now=clock.now())
    return pages.go(f"/labels/{tag.id}", notice=i18n.noop("The label is ready to print."))


@router.post("/labels/missing")
def make_missing(viewer: Writer, session: Db) -> Response:
    """Make a label for every machine within sight that has none; the most that one sheet run takes at once."""
    bare = session.scalars(_bare(viewer).order_by(Asset.code).limit(labels.MOST_LABELS)).all()
    for asset in bare:
        tags.make(session, asset, actor=viewer.actor, now=clock.now())
    return pages.go("/labels", notice=i18n.noop("{n} labels are ready to print."), n=len(bare))


@router.post("/labels/{tag_id}/revoke")
def revoke(tag_id: int, viewer: Writer, session: Db) -> Response:
    """Revoke a label."""
    try:
        tags.revoke(session, _tag(session, tag_id, viewer, "tags.write"), actor=viewer.actor, now=clock.now())
    except Conflict as error:
        return pages.go(f"/labels/{tag_id}", notice=error.sentence, kind="warning")
    return pages.go(f"/labels/{tag_id}", notice=i18n.noop("The label is revoked; its page no longer opens."))


@router.post("/labels/{tag_id}/replace")
def replace(tag_id: int, viewer: Writer, session: Db) -> Response:
    """Revoke a label and make another for the same asset."""
    try:
        tag = tags.replace(session, _tag(session, tag_id, viewer, "tags.write"), actor=viewer.actor, now=clock.now())
    except Conflict as error:
        return pages.go(f"/labels/{tag_id}", notice=error.sentence, kind="warning")
    return pages.go(f"/labels/{tag.id}", notice=i18n.noop("Here is the new label; the old one no longer opens."))


def _wanted(viewer: Viewer, q: str, site_id: int | None, asset_id: int | None) -> Select[Tag]:
    """Return the query of the labels that a filter shows, by the codes of their machines."""
    wanted = (
        select(Tag)
        .join(Asset, Asset.id == Tag.asset_id)
        .where(scope.visible(Tag, viewer, "tags.read"), Tag.revoked_at.is_(None))
        .options(joinedload(Tag.asset).joinedload(Asset.site), joinedload(Tag.asset).joinedload(Asset.location))
        .order_by(Asset.code, Tag.id)
    )
    if q.strip():
        like = f"%{q.strip()}%"
        wanted = wanted.where(
            or_(Asset.code.ilike(like), Asset.name.ilike(like), Asset.name_zh.ilike(like), Tag.code.ilike(like))
        )
    if site_id is not None:
        wanted = wanted.where(Asset.site_id == site_id)
    if asset_id is not None:
        wanted = wanted.where(Asset.id == asset_id)
    return wanted


def _bare(viewer: Viewer) -> Select[Asset]:
    """Return the query of machines without a valid label."""
    has_one = exists().where(Tag.asset_id == Asset.id, Tag.revoked_at.is_(None))
    return select(Asset).where(scope.visible(Asset, viewer, "tags.write"), ~has_one)


def _count_bare(session: Session, viewer: Viewer) -> int:
    return session.scalar(select(func.count()).select_from(_bare(viewer).limit(labels.MOST_LABELS).subquery())) or 0


def _tag(session: Session, tag_id: int, viewer: Viewer, right: str) -> Tag:
    tag = scope.find(session, Tag, tag_id, viewer, right)
    _asset(tag)
    return tag


def _asset(tag: Tag) -> Asset:
    if tag.asset is None:
        raise NotFound("There is nothing here, or it is not yours to see.")
    return tag.asset


def _label(tag: Tag, parts: Runtime, language: str) -> Label:
    asset = _asset(tag)
    place = asset.site.called(language)
    if asset.location is not None:
        place = f"{place} · {asset.location.called(language)}"
    return Label(
        address=f"{parts.settings.public_url}/q/{tag.token}",
        code=tag.code,
        name=asset.called(language),
        asset_code=asset.code,
        place=place,
        hint=i18n.catalogue(language).get(HINT, HINT),
    )


def _named(name: str, *, inline: bool = False) -> dict[str, Any]:
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-._") else "_" for letter in name)
    return {"Content-Disposition": f'{"inline" if inline else "attachment"}; filename="{plain}"'}
