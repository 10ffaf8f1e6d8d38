"""Attributes: named values of devices, assets, sites, customers and org units, and which of them counts for an asset.

For people who shape rules, and for rules, whose limits and lengths may name one (A15). What is nearest to the machine
comes first: its devices, itself, the assets it is part of, its site, its customer, the units above it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from assets.events import AttributeChanged
from assets.models import Asset, Attribute, Binding, Device
from kernel import audit, events
from kernel.errors import Invalid
from people.models import OrgUnit

LEVELS: Final = ("device", "asset", "site", "customer", "unit")
_LONGEST: Final = 80
_LARGEST: Final = 20_000
_MOST: Final = 10_000

Key = tuple[str, int]
"""A level and the identity of what is meant there."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an attribute is of, found within sight by the caller; ``unit_id`` is whose it is."""

    level: str
    id: int
    company_id: int
    unit_id: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A value that a level offers for an asset: *device*, *asset*, *parent*, *site*, *customer* or *organisation*."""

    level: str
    value: Any


def put(session: Session, subject: Subject, name: str, value: Any, *, actor: str, now: datetime) -> None:  # noqa: ANN401
    """Give a subject an attribute, or take it away with None.

    Raises:
        Invalid: the name cannot be one, or the value is too large.
    """
    if not 0 < len(name) <= _LONGEST or name != name.strip() or not name.isprintable():
        raise Invalid("A name has 1 to {most} characters and no blank at either end.", field="name", most=_LONGEST)
    if len(json.dumps(value)) > _LARGEST:
        raise Invalid("At most {most} characters fit.", field="value", most=_LARGEST)
    known = session.scalars(
        select(Attribute)
        .where(Attribute.level == subject.level, Attribute.subject_id == subject.id, Attribute.name == name)
        .with_for_update()
    ).one_or_none()
    before = None if known is None else known.value
    if before == value and type(before) is type(value):
        return
    if value is None:
        session.delete(known)
    elif known is None:
        session.add(
            Attribute(
                company_id=subject.company_id,
                level=subject.level,
                subject_id=subject.id,
                name=name,
                value=value,
                changed_at=now,
                changed_by=actor,
            )
        )
    else:
        known.value, known.changed_at, known.changed_by = value, now, actor
    session.flush()
    about = f"{subject.level}:{subject.id}"
    audit.record(
        session,
        "attribute.put",
        subject=about,
        actor=actor,
        at=now,
        before={name: before},
        after={name: value},
        company_id=subject.company_id,
    )
    event = AttributeChanged(subject.level, subject.id, name)
    events.emit(session, event, subject=about, at=now, actor=actor, unit_id=subject.unit_id)


def listed(session: Session, level: str, subject_id: int, *, after: str, limit: int) -> Sequence[Attribute]:
    """Return the attributes of a subject in order of name."""
    query = select(Attribute).where(
        Attribute.level == level, Attribute.subject_id == subject_id, Attribute.name > after
    )
    return session.scalars(query.order_by(Attribute.name).limit(limit)).all()


def offered(session: Session, asset_ids: Iterable[int], names: Iterable[str]) -> dict[int, dict[str, list[Offered]]]:
    """Return what each level offers of some attributes for some assets, what counts first in front.

    A device's own word about itself counts after what people say of it.
    """
    wanted, assets = sorted(set(names)), sorted(set(asset_ids))
    found: dict[int, dict[str, list[Offered]]] = {}
    if not wanted:
        return found
    for begin in range(0, len(assets), _MOST):
        found |= _offered(session, assets[begin : begin + _MOST], wanted)
    return found


def concerned(session: Session, level: str, subject_id: int) -> set[int]:
    """Return the assets for which an attribute of a subject may count."""
    of = select(Asset.id)
    match level:
        case "device":
            of = of.join(Binding, Binding.asset_id == Asset.id).where(
                Binding.device_id == subject_id, Binding.ends_at.is_(None)
            )
        case "asset":
            of = of.where(Asset.path.contains(f"/{subject_id}/"))
        case "site":
            of = of.where(Asset.site_id == subject_id)
        case "customer":
            of = of.where(Asset.customer_id == subject_id)
        case _:
            of = of.join(OrgUnit, OrgUnit.id == Asset.unit_id).where(OrgUnit.path.contains(f"/{subject_id}/"))
    return set(session.scalars(of))


def _offered(session: Session, assets: list[int], names: list[str]) -> dict[int, dict[str, list[Offered]]]:
    places = {
        asset: (path, site, customer, units)
        for asset, path, site, customer, units in session.execute(
            select(Asset.id, Asset.path, Asset.site_id, Asset.customer_id, OrgUnit.path)
            .join(OrgUnit, OrgUnit.id == Asset.unit_id)
            .where(Asset.id.in_(assets))
        )
    }
    devices, said = _devices(session, assets, names)
    lines = {asset: [*_line(asset, place, devices.get(asset, []))] for asset, place in places.items()}
    given = _given(session, {key for line in lines.values() for _, key in line}, names)
    found: dict[int, dict[str, list[Offered]]] = {}
    for asset, line in lines.items():
        for name in names:
            offers = [Offered(level, given[key][name]) for level, key in line if name in given.get(key, {})]
            own = [Offered("device", said[device][name]) for device in devices.get(asset, []) if name in said[device]]
            place = sum(offer.level == "device" for offer in offers)
            found.setdefault(asset, {})[name] = [*offers[:place], *own, *offers[place:]]
    return found


def _line(asset: int, place: Any, devices: list[int]) -> Iterator[tuple[str, Key]]:  # noqa: ANN401 - a row
    """Yield where to look for an asset, one level after the other."""
    path, site, customer, units = place
    yield from (("device", ("device", device)) for device in devices)
    above = [int(step) for step in path.split("/") if step]
    yield "asset", ("asset", asset)
    yield from (("parent", ("asset", step)) for step in reversed(above) if step != asset)
    yield "site", ("site", site)
    if customer is not None:
        yield "customer", ("customer", customer)
    yield from (("organisation", ("unit", int(step))) for step in reversed(units.split("/")) if step)


def _devices(
    session: Session, assets: list[int], names: list[str]
) -> tuple[dict[int, list[int]], dict[int, dict[str, Any]]]:
    """Return the devices of assets, the one bound last in front, and what each says of itself."""
    query = (
        select(Binding.asset_id, Device.id, Device.attributes)
        .join(Device, Device.id == Binding.device_id)
        .where(Binding.asset_id.in_(assets), Binding.ends_at.is_(None))
        .order_by(Binding.asset_id, Binding.starts_at.desc(), Binding.id.desc())
    )
    devices: dict[int, list[int]] = {}
    said: dict[int, dict[str, Any]] = {}
    for asset, device, attributes in session.execute(query):
        devices.setdefault(asset, []).append(device)
        said[device] = {name: attributes[name] for name in names if attributes.get(name) is not None}
    return devices, said


def _given(session: Session, keys: set[Key], names: list[str]) -> Mapping[Key, dict[str, Any]]:
    given: dict[Key, dict[str, Any]] = {}
    ordered = sorted(keys)
    for begin in range(0, len(ordered), _MOST):
        query = select(Attribute.level, Attribute.subject_id, Attribute.name, Attribute.value).where(
            tuple_(Attribute.level, Attribute.subject_id).in_(ordered[begin : begin + _MOST]), Attribute.name.in_(names)
        )
        for level, subject_id, name, value in session.execute(query):
            given.setdefault((level, subject_id), {})[name] = value
    return given
