"""Where rules stand: what their attributes hold, the zone of their site, the devices whose silence they hear.

For ``rules.standing``. Most rules ask for none of it and cost nothing here; the others are read at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import attributes, measured, types
from assets.attributes import Offered
from assets.measured import Current
from assets.models import Asset, Metric, Site
from kernel import log
from rules import dynamic
from rules.conditions import AlarmDefinition, ClearRule, leaves
from rules.context import NOWHERE, Context, Device, name_of
from rules.leaf import Expression, Silent
from rules.outcome import Watched, hold_ms

_MOST: Final = 20_000

_log = log.of(__name__)


def is_placed(definition: AlarmDefinition) -> bool:
    """Return whether a rule depends on where it stands, so that each asset has one of its own."""
    is_own = bool(dynamic.attributes_of(definition)) or is_scheduled(definition) or hears_devices(definition)
    return is_own or bool(elsewhere(definition))


def is_scheduled(definition: AlarmDefinition) -> bool:
    """Return whether a rule has times at which it is in force."""
    rules = [rule for _, rule in definition.create.by_severity()]
    schedules = [rule.schedule for rule in rules]
    if isinstance(definition.clear, ClearRule):
        schedules.append(definition.clear.schedule)
    return any(schedule is not None for schedule in schedules)


def hears_devices(definition: AlarmDefinition) -> bool:
    """Return whether a rule asks for the silence of whole devices."""
    asked = (leaf for _, tree in definition.conditions() for leaf in leaves(tree))
    return any(isinstance(leaf, Silent) and leaf.of != "metric" for leaf in asked)


def elsewhere(definition: AlarmDefinition) -> dict[str, tuple[str, str]]:
    """Return the metrics of other assets that a rule looks at, by their names in it: whose, and which metric."""
    found: dict[str, tuple[str, str]] = {}
    for _, tree in definition.conditions():
        for leaf in leaves(tree):
            if isinstance(leaf, Expression):
                found |= leaf.elsewhere()
    return found


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Other assets, and what is measured on them."""

    by_code: Mapping[tuple[int, str], int]
    parents: Mapping[int, int]
    watched: Mapping[tuple[int, str], Watched]

    def of(self, asset_id: int, company_id: int, code: str) -> int | None:
        """Return the asset that a code, or ``parent``, means for an asset."""
        return self.parents.get(asset_id) if code == "parent" else self.by_code.get((company_id, code))


@dataclass(slots=True)
class Surroundings:
    """What was read of some assets."""

    neighbours: Neighbours
    zones: Mapping[int, str]
    offers: Mapping[int, Mapping[str, list[Offered]]]
    _shared: dict[AlarmDefinition, AlarmDefinition] = field(default_factory=dict)
    _told: set[tuple[int, str, str]] = field(default_factory=set)

    def settle(
        self, definition: AlarmDefinition, asset_id: int, current: Sequence[Current]
    ) -> tuple[AlarmDefinition, Context]:
        """Return a rule as it stands on one asset, on which ``current`` is measured."""
        if not is_placed(definition):
            return definition, NOWHERE
        context = Context()
        if is_scheduled(definition):
            context = Context(zone=self.zones.get(asset_id, "UTC"))
        if hears_devices(definition):
            context = Context(context.zone, _devices(current))
        if not dynamic.attributes_of(definition):
            return definition, context
        resolved, skipped = dynamic.resolved(definition, self.offers.get(asset_id, {}))
        for one in skipped:
            if (asset_id, one.attribute, one.level) not in self._told:
                self._told.add((asset_id, one.attribute, one.level))
                _log.warning("attribute cannot be used", asset=asset_id, attribute=one.attribute, level=one.level)
        # Where the same was found, the same is compiled once.
        return self._shared.setdefault(resolved, resolved), context

    def beyond(
        self, definition: AlarmDefinition, asset_id: int, company_id: int
    ) -> tuple[dict[str, Watched], set[int]]:
        """Return the series of other assets that a rule looks at, by name, and those assets."""
        watched, assets = {}, set()
        for name, (code, metric) in elsewhere(definition).items():
            other = self.neighbours.of(asset_id, company_id, code)
            if other is None:
                continue
            assets.add(other)
            found = self.neighbours.watched.get((other, metric))
            if found is not None:
                watched[name] = found
        return watched, assets


def read(session: Session, placed: Sequence[tuple[AlarmDefinition, int]]) -> Surroundings:
    """Read what some rules need to know of their assets; nothing where they need nothing."""
    needs = {id(definition): definition for definition, _ in placed}
    wanted = {key: (is_scheduled(one), dynamic.attributes_of(one)) for key, one in needs.items()}
    timed = sorted({asset for definition, asset in placed if wanted[id(definition)][0]})
    asking = {asset for definition, asset in placed if wanted[id(definition)][1]}
    names = {name for _, asked in wanted.values() for name in asked}
    zones: dict[int, str] = {}
    for begin in range(0, len(timed), _MOST):
        query = select(Asset.id, Site.zone).join(Site, Site.id == Asset.site_id)
        zones |= {a: zone for a, zone in session.execute(query.where(Asset.id.in_(timed[begin : begin + _MOST])))}  # noqa: C416
    reaching = [(definition, asset) for definition, asset in placed if elsewhere(definition)] if placed else []
    return Surroundings(_neighbours(session, reaching), zones, attributes.offered(session, asking, names))


def _neighbours(session: Session, reaching: Sequence[tuple[AlarmDefinition, int]]) -> Neighbours:
    if not reaching:
        return Neighbours({}, {}, {})
    own = sorted({asset for _, asset in reaching})
    codes = {code for definition, _ in reaching for code, _ in elsewhere(definition).values()}
    query = select(Asset.id, Asset.company_id, Asset.parent_id).where(Asset.id.in_(own))
    rows = [(asset, company, parent) for asset, company, parent in session.execute(query)]
    parents: dict[int, int] = {asset: parent for asset, _, parent in rows if parent is not None}
    named = select(Asset.company_id, Asset.code, Asset.id).where(
        Asset.code.in_(codes), Asset.company_id.in_({company for _, company, _ in rows})
    )
    by_code = {(company, code): asset for company, code, asset in session.execute(named)}
    others = {*parents.values(), *by_code.values()}
    kinds = {
        asset: (company, kind)
        for asset, company, kind in session.execute(
            select(Asset.id, Asset.company_id, Asset.type_id).where(Asset.id.in_(others))
        )
    }
    described: dict[int, dict[str, Metric]] = {}
    for company in {company for company, _ in kinds.values()}:
        described |= types.metrics(session, company, {kind for one, kind in kinds.values() if one == company})
    watched = {}
    for one in measured.now_on(session, sorted(others)):
        known = described.get(kinds[one.asset_id][1], {}).get(one.metric)
        hold = (
            hold_ms(None) if known is None else hold_ms(known.expected_interval_s, is_on_change=known.reports_on_change)
        )
        watched[one.asset_id, one.metric] = Watched(one.series, hold)
    return Neighbours(by_code, parents, watched)


def _devices(current: Sequence[Current]) -> tuple[Device, ...]:
    speaks = {one.metric: one.series for one in current}
    made = []
    for device in dict.fromkeys(one.device_id for one in current):
        own = [one for one in current if one.device_id == device]
        metrics = tuple(one.metric for one in own if speaks[one.metric] == one.series)
        made.append(Device(tuple(name_of(one.series) for one in own), metrics))
    return tuple(made)
