"""What the rule library comes to on each asset: instances for the engine, and what their alarms will be about.

For evaluators. Everything is read in a fixed number of queries, for all assets at a start and for some on a change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import measured, types
from assets.measured import Current
from assets.models import Asset, Metric
from kernel import log
from kernel.db import Json
from people.models import OrgUnit
from rules import conditions, dynamic, overrides, surroundings
from rules.conditions import AlarmDefinition
from rules.context import series_of
from rules.episodes import Fault
from rules.faults import DefinitionRefused
from rules.models import AlarmType, RuleOverride, RuleVersion
from rules.outcome import Instance, Watched, hold_ms

_ASSET_BITS: Final = 31
_MOST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Standing:
    """One alarm type on one asset, ready to be evaluated: the engine's instance, and what its alarms are about."""

    instance: Instance
    fault: Fault
    alarm_type_id: int
    asset_id: int
    version: int
    is_overridden: bool
    asks: frozenset[str] = frozenset()
    """The attributes that it takes values from."""
    leans_on: frozenset[int] = frozenset()
    """Other assets that it looks at."""


def instance_id(alarm_type_id: int, asset_id: int) -> int:
    """Return the engine's number for an alarm type on an asset, the same in every process."""
    return alarm_type_id << _ASSET_BITS | asset_id


def split_id(instance: int) -> tuple[int, int]:
    """Return the alarm type and asset behind an engine's number."""
    return instance >> _ASSET_BITS, instance & ((1 << _ASSET_BITS) - 1)


def read(
    session: Session, *, alarm_type_ids: Iterable[int] | None = None, asset_ids: Iterable[int] | None = None
) -> list[Standing]:
    """Return every enabled alarm type on every asset it is for, or only some; a fixed number of queries.

    An asset without a series for any metric of the rule has nothing to evaluate and is left out. Where two devices
    on an asset send the same metric, the series that came later speaks.
    """
    kinds = enabled(session, alarm_type_ids)
    assets = _assets(session, asset_ids)
    types_above = lines(session, {kind.company_id for kind, _, _ in kinds})
    of_type, of_asset = _targets(kinds)
    pairs = [
        (found, asset)
        for asset in assets
        for found in _applying(asset, of_type, of_asset, types_above.get(asset.type_id, ()))
    ]
    involved = {asset.id for _, asset in pairs}
    current: dict[int, list[Current]] = {}
    for some in _portions(involved):
        for one in measured.now_on(session, some):
            current.setdefault(one.asset_id, []).append(one)
    patches = _patches(session, involved)
    described = described_by(session, {(asset.company_id, asset.type_id) for _, asset in pairs})
    definitions = {kind.id: parsed(kind, version) for kind, version, _ in kinds}
    placed = [(definition, asset.id) for (kind, *_), asset in pairs if (definition := definitions[kind.id]) is not None]
    around = surroundings.read(session, placed)
    made = []
    for (kind, version, _), asset in pairs:
        definition = definitions[kind.id]
        if definition is None:
            continue
        patch = patches.get((kind.id, asset.id))
        if patch:
            definition = _patched(definition, patch)
        speaking = current.get(asset.id, [])
        series = {one.metric: one.series for one in speaking}
        asks = dynamic.attributes_of(definition)
        definition, context = around.settle(definition, asset.id, speaking)
        watched = _watched(definition, series, described.get(asset.type_id, {}))
        watched |= {name: Watched(series_of(name)) for device in context.devices for name in device.series}
        beyond, leans_on = around.beyond(definition, asset.id, asset.company_id)
        watched |= beyond
        # One that looks at other assets is made also before any of them speaks: it is found by them, once one does.
        if watched or leans_on:
            instance = Instance(instance_id(kind.id, asset.id), definition, watched, context)
            found = standing_on(kind, version, asset, instance, patch)
            made.append(replace(found, asks=asks, leans_on=frozenset(leans_on)) if asks or leans_on else found)
    return made


@dataclass(frozen=True, slots=True)
class Target:
    """What is needed of an asset to see which rules are for it and what their alarms are about."""

    id: int
    type_id: int
    company_id: int
    unit_id: int
    path: str = ""


Found = tuple[AlarmType, RuleVersion, str]


def enabled(session: Session, alarm_type_ids: Iterable[int] | None = None) -> Sequence[Found]:
    """Return the alarm types that are switched on, or some of those, with their version and their unit's path."""
    query = (
        select(AlarmType, RuleVersion, OrgUnit.path)
        .join(RuleVersion, (RuleVersion.alarm_type_id == AlarmType.id) & (RuleVersion.number == AlarmType.version))
        .join(OrgUnit, OrgUnit.id == AlarmType.unit_id)
        .where(AlarmType.is_enabled)
        .execution_options(populate_existing=True)
    )
    if alarm_type_ids is not None:
        query = query.where(AlarmType.id.in_(list(alarm_type_ids)))
    return [(kind, version, path) for kind, version, path in session.execute(query)]


def _assets(session: Session, asset_ids: Iterable[int] | None) -> list[Target]:
    query = (
        select(Asset.id, Asset.type_id, Asset.company_id, Asset.unit_id, OrgUnit.path)
        .join(OrgUnit, OrgUnit.id == Asset.unit_id)
        .where(Asset.status != "scrapped")
    )
    if asset_ids is not None:
        query = query.where(Asset.id.in_(list(asset_ids)))
    return [Target(*row) for row in session.execute(query)]


def lines(session: Session, company_ids: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Return, for every type of some companies, its own id and those it inherits from."""
    found: dict[int, tuple[int, ...]] = {}
    for company_id in company_ids:
        found |= types.lineage(session, company_id)
    return found


def _targets(kinds: Sequence[Found]) -> tuple[dict[int, list[Found]], dict[int, list[Found]]]:
    of_type: dict[int, list[Found]] = {}
    of_asset: dict[int, list[Found]] = {}
    for found in kinds:
        kind = found[0]
        if kind.asset_id is not None:
            of_asset.setdefault(kind.asset_id, []).append(found)
        elif kind.asset_type_id is not None:
            of_type.setdefault(kind.asset_type_id, []).append(found)
    return of_type, of_asset


def _applying(
    asset: Target,
    of_type: Mapping[int, list[Found]],
    of_asset: Mapping[int, list[Found]],
    line: tuple[int, ...],
) -> Iterable[Found]:
    yield from of_asset.get(asset.id, ())
    for type_id in line:
        for found in of_type.get(type_id, ()):
            kind, _, path = found
            if kind.company_id == asset.company_id and asset.path.startswith(path):
                yield found


def _patches(session: Session, asset_ids: Iterable[int]) -> dict[tuple[int, int], Json]:
    known = select(RuleOverride.alarm_type_id, RuleOverride.asset_id, RuleOverride.patch)
    return {
        (kind, asset): patch
        for some in _portions(asset_ids)
        for kind, asset, patch in session.execute(known.where(RuleOverride.asset_id.in_(some)))
    }


def described_by(session: Session, kinds: Iterable[tuple[int, int]]) -> dict[int, dict[str, Metric]]:
    """Return what is known of the metrics of some (company, type of assets), by type and metric."""
    by_company: dict[int, set[int]] = {}
    for company_id, type_id in kinds:
        by_company.setdefault(company_id, set()).add(type_id)
    described: dict[int, dict[str, Metric]] = {}
    for company_id, type_ids in by_company.items():
        described |= types.metrics(session, company_id, type_ids)
    return described


def parsed(kind: AlarmType, version: RuleVersion) -> AlarmDefinition | None:
    """Return the definition of an alarm type, None where it cannot be read."""
    try:
        return conditions.parse(version.definition)
    except DefinitionRefused as error:
        # Written under another grammar. The other rules must not stand still for it.
        log.of(__name__).error("rule cannot be read", alarm_type=kind.id, version=version.number, reason=str(error))
        return None


def _patched(definition: AlarmDefinition, patch: Json) -> AlarmDefinition:
    try:
        return overrides.with_overrides(definition, patch)
    except DefinitionRefused:
        # A later version of the type no longer has what the patch changes; the type's own limits hold.
        return definition


def _watched(
    definition: AlarmDefinition, series: Mapping[str, int], described: Mapping[str, Metric]
) -> dict[str, Watched]:
    watched = {}
    for metric in definition.metrics():
        number = series.get(metric)
        if number is not None:
            watched[metric] = Watched(number, held_for_ms(described.get(metric)))
    return watched


def held_for_ms(known: Metric | None) -> int:
    """Return for how long a reading of a metric speaks, by what its catalogue says (A8)."""
    if known is None:
        return hold_ms(None)
    # What only reports when it changes, as a door or a switch does, speaks until it says otherwise.
    return hold_ms(known.expected_interval_s, is_on_change=known.reports_on_change)


def standing_on(
    kind: AlarmType, version: RuleVersion, asset: Target, instance: Instance, patch: Json | None = None
) -> Standing:
    """Put together what stands on one asset."""
    fault = Fault(
        subject=f"asset:{asset.id}",
        type_key=kind.key,
        origin="rule",
        actor=f"rule:{kind.id}",
        company_id=asset.company_id,
        unit_id=asset.unit_id,
        asset_id=asset.id,
        device_id=None,
        alarm_type_id=kind.id,
    )
    return Standing(instance, fault, kind.id, asset.id, version.number, is_overridden=bool(patch))


def _portions(ids: Iterable[int]) -> Iterator[list[int]]:
    """Cut identities into as many as one statement may name."""
    ordered = sorted(ids)
    for begin in range(0, len(ordered), _MOST):
        yield ordered[begin : begin + _MOST]
