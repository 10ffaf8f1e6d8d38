"""Where things stand: sites with their zone and coordinates, and the tree of locations inside each.

For planners who set up a plant, and for everything that needs a place's wall clock. Nothing is removed here:
assets, orders and readings keep pointing at the places they happened in.
"""

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import wording
from assets.models import Location, Site
from kernel import audit
from kernel.errors import Invalid
from people.models import OrgUnit

DEEPEST = 20


@dataclass(frozen=True, slots=True)
class SiteDraft:
    """A site as somebody wants it. ``zone`` is an IANA name; coordinates are WGS-84 degrees, both or neither."""

    name: str
    zone: str
    name_zh: str | None = None
    address: str = ""
    latitude: float | None = None
    longitude: float | None = None


def open_site(session: Session, draft: SiteDraft, *, unit: OrgUnit, actor: str, now: datetime) -> Site:
    """Add a site that belongs to an org unit.

    Raises:
        Invalid: the name is missing, the zone unknown, or the coordinates are not on the globe.
    """
    checked = _checked(draft)
    site = Site(company_id=unit.company_id or unit.id, unit_id=unit.id, **asdict(checked))
    session.add(site)
    session.flush()
    audit.record(
        session,
        "site.open",
        subject=f"site:{site.id}",
        actor=actor,
        at=now,
        after=asdict(checked),
        company_id=site.company_id,
    )
    return site


def change_site(session: Session, site: Site, draft: SiteDraft, *, actor: str, now: datetime) -> None:
    """Change what is known of a site.

    Raises:
        Invalid: the name is missing, the zone unknown, or the coordinates are not on the globe.
    """
    checked = asdict(_checked(draft))
    before = {key: getattr(site, key) for key, value in checked.items() if getattr(site, key) != value}
    if not before:
        return
    for key in before:
        setattr(site, key, checked[key])
    audit.record(
        session,
        "site.change",
        subject=f"site:{site.id}",
        actor=actor,
        at=now,
        before=before,
        after={key: checked[key] for key in before},
        company_id=site.company_id,
    )


def _checked(draft: SiteDraft) -> SiteDraft:
    try:
        ZoneInfo(draft.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid("There is no time zone {zone}.", field="zone", zone=draft.zone) from error
    if (draft.latitude is None) != (draft.longitude is None):
        raise Invalid("Latitude and longitude belong together.", field="latitude")
    for field, value, most in (("latitude", draft.latitude, 90), ("longitude", draft.longitude, 180)):
        if value is not None and not (math.isfinite(value) and abs(value) <= most):
            raise Invalid("Degrees between −{most} and {most}, please.", field=field, most=most)
    return SiteDraft(
        name=wording.needed(draft.name, "name"),
        name_zh=wording.optional(draft.name_zh, "name_zh"),
        zone=draft.zone,
        address=wording.optional(draft.address, "address", longest=300) or "",
        latitude=draft.latitude,
        longitude=draft.longitude,
    )


def add_location(
    session: Session,
    site: Site,
    *,
    name: str,
    name_zh: str | None = None,
    parent: Location | None = None,
    actor: str,
    now: datetime,
) -> Location:
    """Add a hall, line or room to a site, inside another one or at its top.

    Raises:
        Invalid: the name is missing, or the parent stands on another site or too deep.
    """
    if parent is not None and parent.site_id != site.id:
        raise Invalid("That location stands on another site.", field="parent_id")
    if parent is not None and len(_above(session, parent)) >= DEEPEST:
        raise Invalid("Locations may be nested {deepest} deep.", field="parent_id", deepest=DEEPEST)
    location = Location(
        site_id=site.id,
        parent_id=parent.id if parent else None,
        name=wording.needed(name, "name"),
        name_zh=wording.optional(name_zh, "name_zh"),
    )
    session.add(location)
    session.flush()
    audit.record(
        session,
        "location.add",
        subject=f"location:{location.id}",
        actor=actor,
        at=now,
        after={"name": location.name, "site_id": site.id, "parent_id": location.parent_id},
        company_id=site.company_id,
    )
    return location


def change_location(
    session: Session,
    location: Location,
    *,
    name: str,
    name_zh: str | None,
    parent: Location | None,
    actor: str,
    now: datetime,
) -> None:
    """Rename a location or put it, with all inside it, into another one of the same site.

    Raises:
        Invalid: the name is missing, the parent stands on another site, or the move would close a circle.
    """
    site = session.get_one(Site, location.site_id, with_for_update={"key_share": True})
    if parent is not None:
        if parent.site_id != location.site_id:
            raise Invalid("That location stands on another site.", field="parent_id")
        if location.id in _above(session, parent):
            raise Invalid("A location cannot stand inside itself.", field="parent_id")
    wanted = {
        "name": wording.needed(name, "name"),
        "name_zh": wording.optional(name_zh, "name_zh"),
        "parent_id": parent.id if parent else None,
    }
    before = {key: getattr(location, key) for key, value in wanted.items() if getattr(location, key) != value}
    if not before:
        return
    for key in before:
        setattr(location, key, wanted[key])
    audit.record(
        session,
        "location.change",
        subject=f"location:{location.id}",
        actor=actor,
        at=now,
        before=before,
        after={key: wanted[key] for key in before},
        company_id=site.company_id,
    )


def _above(session: Session, location: Location) -> list[int]:
    """Return a location's own id and those of the locations around it, outwards."""
    found: list[int] = []
    identity: int | None = location.id
    while identity is not None and identity not in found:
        found.append(identity)
        identity = session.scalar(select(Location.parent_id).where(Location.id == identity))
    return found
