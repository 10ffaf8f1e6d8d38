"""A small company to test with: two regions, a site each, one type of machine with two metrics."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from assets import places, registry, types
from assets.models import Asset, AssetType, Site
from people.models import OrgUnit

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
ACTOR = "account:1"


@dataclass(slots=True)
class Plant:
    """What tests stand on."""

    company: OrgUnit
    north: Site
    south: Site
    pump: AssetType


def unit(session: Session, name: str, kind: str, parent: OrgUnit | None = None) -> OrgUnit:
    made = OrgUnit(name=name, kind=kind, parent_id=parent.id if parent else None)
    session.add(made)
    session.flush()
    made.company_id = parent.company_id if parent else made.id
    made.path = f"{parent.path if parent else '/'}{made.id}/"
    session.flush()
    return made


def build(session: Session, name: str = "Acme") -> Plant:
    company = unit(session, name, "company")
    sites = [
        places.open_site(
            session,
            places.SiteDraft(f"{side} works", "Asia/Shanghai", name_zh=f"{zh}厂", latitude=31.2, longitude=121.5),
            unit=unit(session, f"{name} {side}", "site", company),
            actor=ACTOR,
            now=NOW,
        )
        for side, zh in (("North", "北"), ("South", "南"))
    ]
    pump = types.add(
        session, types.TypeDraft("pump", "Pump", name_zh="泵"), company_id=company.id, actor=ACTOR, now=NOW
    )
    for draft in (
        types.MetricDraft("temperature", "Temperature", name_zh="温度", unit="°C", low=-40, high=200),
        types.MetricDraft("pressure", "Pressure", name_zh="压力", unit="bar", low=0, high=16, decimals=2),
    ):
        types.add_metric(session, pump, draft, actor=ACTOR, now=NOW)
    return Plant(company, sites[0], sites[1], pump)


def asset(session: Session, plant: Plant, code: str, *, site: Site | None = None, parent: Asset | None = None) -> Asset:
    draft = registry.AssetDraft(code, f"Machine {code}", plant.pump.id, (site or plant.north).id)
    return registry.register(session, draft, company_id=plant.company.id, parent=parent, actor=ACTOR, now=NOW)
