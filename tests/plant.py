"""A small plant in rows: a company with sites, a type of machine, machines and the devices on them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from assets.events import DeviceBound
from assets.models import Asset, AssetType, Binding, Device, Metric, Site
from kernel import clock, events
from people.models import OrgUnit

BORN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plant:
    """One company with one site; ``assets[n]`` is measured by ``devices[n]``."""

    company: OrgUnit
    unit: OrgUnit
    site: Site
    type: AssetType
    assets: list[Asset]
    devices: list[Device]


def build(
    session: Session,
    *,
    machines: int = 1,
    metrics: tuple[str, ...] = ("temperature",),
    prefix: str = "dev-",
    width: int = 1,
) -> Plant:
    """Write ``machines`` assets with one device each, keys ``dev-0``, ``dev-1``, …; flushes, commits nothing."""
    company = OrgUnit(name="Acme", kind="company")
    session.add(company)
    session.flush()
    company.company_id, company.path = company.id, f"/{company.id}/"
    unit = OrgUnit(name="Berlin", kind="site", parent_id=company.id, company_id=company.id)
    session.add(unit)
    session.flush()
    unit.path = f"{company.path}{unit.id}/"
    owned = {"company_id": company.id, "unit_id": unit.id}
    site = Site(name="Berlin works", zone="Europe/Berlin", **owned)
    kind = AssetType(company_id=company.id, key="pump", name="Pump")
    kind.metrics = [Metric(key=key, name=key, position=place) for place, key in enumerate(metrics)]
    session.add_all([site, kind])
    session.flush()
    assets = [
        Asset(code=f"P-{number}", name=f"Pump {number}", type_id=kind.id, site_id=site.id, created_at=BORN, **owned)
        for number in range(machines)
    ]
    devices = [
        Device(key=f"{prefix}{number:0{width}}", name=f"Device {number}", created_at=BORN, **owned)
        for number in range(machines)
    ]
    session.add_all([*assets, *devices])
    session.flush()
    for asset in assets:
        asset.path = f"/{asset.id}/"
    session.add_all(
        Binding(device_id=device.id, asset_id=asset.id, starts_at=BORN)
        for device, asset in zip(devices, assets, strict=True)
    )
    session.flush()
    return Plant(company, unit, site, kind, assets, devices)


def asset(session: Session, plant: Plant, code: str) -> Asset:
    """Add a machine."""
    made = Asset(
        code=code, name=code, type_id=plant.type.id, site_id=plant.site.id, created_at=BORN,
        company_id=plant.company.id, unit_id=plant.unit.id,
    )  # fmt: skip
    session.add(made)
    session.flush()
    made.path = f"/{made.id}/"
    return made


def device(
    session: Session, plant: Plant, key: str, *, asset: Asset | None = None, announced: bool = False, **values: Any
) -> Device:
    """Add a device, bound to ``asset`` if one is given; ``announced`` tells ingest of it as the verbs do."""
    made = Device(
        key=key, name=key, created_at=BORN, company_id=plant.company.id, unit_id=plant.unit.id, **values
    )  # fmt: skip
    session.add(made)
    session.flush()
    if asset is not None:
        session.add(Binding(device_id=made.id, asset_id=asset.id, starts_at=BORN))
    if announced and asset is not None:
        bound = DeviceBound(made.id, asset.id)
        events.emit(session, bound, subject=f"device:{made.id}", at=clock.now(), actor="account:1")
    session.flush()
    return made


def build_other(session: Session, key: str = "rival-0") -> Device:
    """Write another company with one device, and return that."""
    company = OrgUnit(name="Rivals", kind="company")
    session.add(company)
    session.flush()
    company.company_id, company.path = company.id, f"/{company.id}/"
    made = Device(key=key, name=key, created_at=BORN, company_id=company.id, unit_id=company.id)
    session.add(made)
    session.flush()
    return made
