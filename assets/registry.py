"""The assets: registered, changed, and moved in their tree, which never has a circle (AS-1).

For planners. An asset stands where its parent stands: a part of a machine is on the machine's site, and moves
with it. ``path`` is the materialised line of ancestors (``/12/80/``), so that a machine with all its parts is
one prefix; whoever changes the tree of a company holds that company's row, so no two moves can close a circle.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from assets import dirty, wording
from assets.events import AssetChanged
from assets.models import Asset, AssetType, Binding, Device, Location, Site
from kernel import audit, clock, events
from kernel.errors import Conflict, Invalid, Stale
from kernel.models import File
from people.models import Customer, OrgUnit

STATUSES = ("planned", "in_service", "out_of_service", "scrapped")
LONGEST_PATH = 300


@dataclass(frozen=True, slots=True)
class AssetDraft:
    """An asset as somebody wants it. ``criticality`` 1 stops the plant, 4 is a convenience."""

    code: str
    name: str
    type_id: int
    site_id: int
    name_zh: str | None = None
    location_id: int | None = None
    customer_id: int | None = None
    status: str = "in_service"
    criticality: int = 3
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    commissioned_on: date | None = None
    warranty_until: date | None = None


def register(
    session: Session, draft: AssetDraft, *, company_id: int, parent: Asset | None = None, actor: str, now: datetime
) -> Asset:
    """Add an asset, at the top of its site or as a part of another asset.

    It belongs to the org unit of its site, so those who see the site see the asset.

    Raises:
        Invalid: a field does not fit, or the parent stands on another site.
        Conflict: the company has an asset of this code.
    """
    if parent is not None:
        hold_tree(session, company_id)
        session.refresh(parent, ["path", "site_id"])
        if parent.site_id != draft.site_id:
            raise Invalid("A part stands on the site of its asset.", field="site_id")
    site, checked = _checked(session, draft, company_id)
    _refuse_known_code(session, company_id, draft.code)
    asset = Asset(
        company_id=company_id,
        unit_id=site.unit_id,
        parent_id=parent.id if parent else None,
        created_at=now,
        **asdict(checked),
    )
    session.add(asset)
    session.flush()
    path = _fitting(f"{parent.path if parent else '/'}{asset.id}/")
    session.execute(update(Asset).where(Asset.id == asset.id).values(path=path))
    _tell(session, asset, "asset.register", None, asdict(checked) | {"parent_id": asset.parent_id}, actor, now)
    return asset


def change(
    session: Session, asset: Asset, draft: AssetDraft, *, version: int | None = None, actor: str, now: datetime
) -> None:
    """Change what is known of an asset. Another site takes its parts, and the devices on them, along.

    Raises:
        Stale: ``version`` is given and somebody changed the asset since.
        Invalid: a field does not fit, or the asset is part of one that stays on its site.
        Conflict: the company has another asset of this code.
    """
    if version is not None and version != asset.version:
        raise Stale("Somebody else changed this meanwhile. Load it again and repeat your change.")
    site, accepted = _checked(session, draft, asset.company_id)
    if draft.code != asset.code:
        _refuse_known_code(session, asset.company_id, draft.code)
    if site.id != asset.site_id:
        if asset.parent_id is not None:
            raise Invalid("A part stands on the site of its asset.", field="site_id")
        _take_along(session, asset, site)
    checked = asdict(accepted)
    before = {key: getattr(asset, key) for key, value in checked.items() if getattr(asset, key) != value}
    if not before:
        return
    for key in before:
        setattr(asset, key, checked[key])
    asset.unit_id = site.unit_id
    session.flush()
    if "type_id" in before:
        dirty.mark_asset(session, asset.id, 0, clock.to_ms(now), now)
    _tell(session, asset, "asset.change", before, {key: checked[key] for key in before}, actor, now)


def move(session: Session, asset: Asset, parent: Asset | None, *, actor: str, now: datetime) -> None:
    """Put an asset, with all its parts, into another one, or at the top of its site.

    Raises:
        Invalid: the new parent is the asset itself or one of its parts, or stands on another site.
    """
    hold_tree(session, asset.company_id)
    session.refresh(asset, ["path", "parent_id", "site_id"])
    if parent is not None:
        session.refresh(parent, ["path", "site_id"])
        if parent.company_id != asset.company_id or parent.site_id != asset.site_id:
            raise Invalid("A part stands on the site of its asset.", field="parent_id")
        if parent.path.startswith(asset.path):
            raise Invalid("An asset cannot be part of itself.", field="parent_id")
    before, after = asset.parent_id, parent.id if parent else None
    if before == after:
        return
    old, new = asset.path, f"{parent.path if parent else '/'}{asset.id}/"
    longest = session.scalar(select(func.max(func.length(Asset.path))).where(Asset.path.startswith(old))) or 0
    _fitting("/" * (longest - len(old) + len(new)))
    asset.parent_id = after
    session.flush()
    session.execute(
        update(Asset)
        .where(Asset.path.startswith(old))
        .values(path=new + func.substr(Asset.path, len(old) + 1))
        .execution_options(synchronize_session=False)
    )
    session.expire_all()
    _tell(session, asset, "asset.move", {"parent_id": before}, {"parent_id": after}, actor, now)


def show_photo(session: Session, asset: Asset, photo: File, *, actor: str, now: datetime) -> None:
    """Let a picture stand for an asset."""
    before = asset.photo_id
    asset.photo_id = photo.id
    session.flush()
    _tell(session, asset, "asset.photo", {"photo_id": before}, {"photo_id": photo.id}, actor, now)


def hold_tree(session: Session, company_id: int) -> None:
    """Wait until nobody else is changing the asset tree of a company, and keep others waiting till the commit."""
    session.execute(select(OrgUnit.id).where(OrgUnit.id == company_id).with_for_update(key_share=True))


def ancestors(session: Session, asset: Asset) -> list[Asset]:
    """Return the assets this one is a part of, the outermost first."""
    line = [int(step) for step in asset.path.strip("/").split("/") if step]
    if len(line) < 2:  # noqa: PLR2004 - a path of one is the asset itself
        return []
    found = {one.id: one for one in session.scalars(select(Asset).where(Asset.id.in_(line[:-1])))}
    return [found[identity] for identity in line[:-1] if identity in found]


def locations_of(session: Session, site_id: int) -> Sequence[Location]:
    """Return the locations of a site, in order of name."""
    return session.scalars(select(Location).where(Location.site_id == site_id).order_by(Location.name)).all()


def _checked(session: Session, draft: AssetDraft, company_id: int) -> tuple[Site, AssetDraft]:
    site = session.get(Site, draft.site_id)
    if site is None or site.company_id != company_id:
        raise Invalid("There is no such site.", field="site_id")
    kind = session.get(AssetType, draft.type_id)
    if kind is None or kind.company_id != company_id:
        raise Invalid("There is no such type.", field="type_id")
    _check_neighbours(session, draft, company_id)
    if draft.status not in STATUSES:
        raise Invalid("Choose one of {statuses}.", field="status", statuses=", ".join(STATUSES))
    if not 1 <= draft.criticality <= 4:  # noqa: PLR2004 - the scale of criticality
        raise Invalid("Criticality goes from 1 (stops the plant) to 4.", field="criticality")
    return site, AssetDraft(
        code=wording.needed(draft.code, "code", longest=60),
        name=wording.needed(draft.name, "name"),
        type_id=draft.type_id,
        site_id=draft.site_id,
        name_zh=wording.optional(draft.name_zh, "name_zh"),
        location_id=draft.location_id,
        customer_id=draft.customer_id,
        status=draft.status,
        criticality=draft.criticality,
        manufacturer=wording.optional(draft.manufacturer, "manufacturer", longest=100),
        model=wording.optional(draft.model, "model", longest=100),
        serial=wording.optional(draft.serial, "serial", longest=100),
        commissioned_on=draft.commissioned_on,
        warranty_until=draft.warranty_until,
    )


def _check_neighbours(session: Session, draft: AssetDraft, company_id: int) -> None:
    if draft.location_id is not None:
        location = session.get(Location, draft.location_id)
        if location is None or location.site_id != draft.site_id:
            raise Invalid("That location stands on another site.", field="location_id")
    if draft.customer_id is not None:
        customer = session.get(Customer, draft.customer_id)
        if customer is None or customer.company_id != company_id:
            raise Invalid("There is no such customer.", field="customer_id")


def _refuse_known_code(session: Session, company_id: int, code: str) -> None:
    known = select(Asset.id).where(Asset.company_id == company_id, Asset.code == code.strip())
    if session.scalar(known) is not None:
        raise Conflict("There is an asset with the code {code} already.", field="code", code=code.strip())


def _fitting(path: str) -> str:
    if len(path) > LONGEST_PATH:
        raise Invalid("Assets cannot be nested that deep.", field="parent_id")
    return path


def _take_along(session: Session, asset: Asset, site: Site) -> None:
    """Move the parts of an asset, and the devices measuring them, to its new site."""
    hold_tree(session, asset.company_id)
    below = select(Asset.id).where(Asset.path.startswith(asset.path))
    session.execute(
        update(Asset)
        .where(Asset.path.startswith(asset.path), Asset.id != asset.id)
        .values(site_id=site.id, unit_id=site.unit_id, location_id=None)
        .execution_options(synchronize_session=False)
    )
    bound = select(Binding.device_id).where(Binding.ends_at.is_(None), Binding.asset_id.in_(below))
    session.execute(
        update(Device)
        .where(Device.id.in_(bound))
        .values(unit_id=site.unit_id)
        .execution_options(synchronize_session=False)
    )


def _tell(  # noqa: PLR0917 - one argument a column of the audit trail
    session: Session,
    asset: Asset,
    action: str,
    before: dict[str, object] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    subject = f"asset:{asset.id}"
    audit.record(
        session, action, subject=subject, actor=actor, at=now, before=before, after=after, company_id=asset.company_id
    )
    events.emit(session, AssetChanged(asset.id), subject=subject, at=now, actor=actor, unit_id=asset.unit_id)
