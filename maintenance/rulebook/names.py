"""What the names in a file of rules stand for at this company, within what a person may see; constant queries."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset, AssetType, Site
from maintenance.orders.policy import Line
from maintenance.plans.models import Checklist
from maintenance.rulebook.written import WrittenLine
from people import scope
from people.models import OrgUnit, Team
from people.scope import Viewer


class Unknown(Exception):
    """A name stands for nothing here, or for several things."""

    def __init__(self, field: str, name: str) -> None:
        super().__init__(name)
        self.field, self.name = field, name


class Names:
    """The company's names, both ways."""

    def __init__(self, session: Session, viewer: Viewer, codes: Iterable[str] = ()) -> None:
        company = viewer.company_id
        self._types: dict[str, int] = {row.key: row.id for row in session.scalars(_of(AssetType, company))}
        self._units = _paths(session.scalars(_of(OrgUnit, company)).all(), company)
        self._teams = [(row.id, row.name) for row in session.scalars(_of(Team, company))]
        self._sites = [(row.id, row.name) for row in session.scalars(_of(Site, company))]
        self._checklists = [(row.id, row.key) for row in session.scalars(_of(Checklist, company))]
        query = select(Asset).where(Asset.code.in_(set(codes)), scope.visible(Asset, viewer, "rules.read"))
        self._assets = {row.code: row for row in session.scalars(query)}
        self.company_id = company

    # What a name stands for -------------------------------------------------------------------------------------

    def asset(self, code: str) -> Asset:
        """Return an asset by its code."""
        if code not in self._assets:
            raise Unknown("asset", code)
        found: Asset = self._assets[code]
        return found

    def asset_type(self, key: str) -> int:
        """Return an asset type by its key."""
        if key not in self._types:
            raise Unknown("asset_type", key)
        return self._types[key]

    def unit(self, path: str | None) -> int:
        """Return an org unit by its names from below the company on; none is the company."""
        return self.company_id if path is None else _only([(i, p) for i, p in self._units.items()], path, "unit")

    def line(self, written: WrittenLine) -> Line:
        """Return a line of an order policy."""

        def found(known: list[tuple[int, str]], field: str) -> int | None:
            name = getattr(written, field)
            return None if name is None else _only(known, name, field)

        return Line(
            severity=written.severity,
            does=written.does,
            delay_s=written.delay_s,
            priority=written.priority,
            criticality=written.criticality,
            team_id=found(self._teams, "team"),
            checklist_id=found(self._checklists, "checklist"),
            site_id=found(self._sites, "site"),
        )

    # What something is called -----------------------------------------------------------------------------------

    def type_key(self, type_id: int) -> str:
        """Return the key of an asset type."""
        return next(str(key) for key, one in self._types.items() if one == type_id)

    def unit_path(self, unit_id: int) -> str | None:
        """Return the names of an org unit from below the company on; None for the company."""
        return self._units.get(unit_id)

    def written(self, line: Line) -> dict[str, Any]:
        """Return a line as a file holds it."""
        said: dict[str, Any] = {"severity": line.severity, "does": line.does}
        named = {
            "delay_s": line.delay_s or None,
            "priority": line.priority,
            "team": dict(self._teams).get(line.team_id or 0),
            "checklist": dict(self._checklists).get(line.checklist_id or 0),
            "site": dict(self._sites).get(line.site_id or 0),
            "criticality": line.criticality,
        }
        return said | {field: value for field, value in named.items() if value is not None}


def _of(table: Any, company: int) -> Any:  # noqa: ANN401 - one of several tables, each with a company
    return select(table).where(table.company_id == company)


def _only(known: list[tuple[int, str]], name: str, field: str) -> int:
    found = [one for one, called in known if called == name]
    if len(found) != 1:
        raise Unknown(field, name)
    return found[0]


def _paths(units: Sequence[OrgUnit], company: int) -> dict[int, str]:
    known = {unit.id: unit for unit in units}

    def path(unit: OrgUnit) -> str:
        above = known.get(unit.parent_id or 0)
        return unit.name if above is None or above.id == company else f"{path(above)} / {unit.name}"

    return {unit.id: path(unit) for unit in units if unit.id != company}
