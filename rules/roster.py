"""All rules on all assets, as one process holds them: by the million as columns, those that changed since one by one.

For evaluators. At a start a rule on an asset is a few numbers; it becomes a ``Standing`` when somebody asks for it,
which is when it has something to say.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import measured
from assets.models import Asset, Metric
from kernel import columns
from people.models import OrgUnit
from rules import standing, surroundings
from rules.conditions import AlarmDefinition
from rules.models import AlarmType, RuleOverride, RuleVersion
from rules.outcome import Instance, Instances, Watched
from rules.standing import Standing, Target
from telemetry.readings import Int64s, Mask


@dataclass(frozen=True, slots=True, eq=False)
class _Assets:
    """Columns of all assets in service, by id; ``of_type`` are the rows of each type."""

    id: Int64s
    type_id: Int64s
    company_id: Int64s
    unit_id: Int64s
    of_type: dict[int, Int64s]

    @classmethod
    def read(cls, session: Session) -> "_Assets":
        query = select(Asset.id, Asset.type_id, Asset.company_id, Asset.unit_id)
        identity, type_id, company_id, unit_id = columns.integers(
            session, query.where(Asset.status != "scrapped").order_by(Asset.id)
        )
        order = np.argsort(type_id, kind="stable")
        kinds, begins = np.unique(type_id[order], return_index=True)
        rows = np.split(order, begins[1:]) if len(order) else []
        of_type = dict(zip(kinds.tolist(), rows, strict=True))
        return cls(identity, type_id, company_id, unit_id, of_type)

    def target(self, row: int) -> Target:
        return Target(int(self.id[row]), int(self.type_id[row]), int(self.company_id[row]), int(self.unit_id[row]))


class _Measured:
    """Which series measures a metric of an asset now."""

    def __init__(self, session: Session, assets: _Assets) -> None:
        asset_id, number, code, self._names = measured.all_now(session)
        self._assets = len(assets.id)
        at = np.searchsorted(assets.id, asset_id)
        known = np.flatnonzero(np.append(assets.id, -1)[at] == asset_id)
        key = code[known] * self._assets + at[known]
        # Of several devices with the same metric the series that came later speaks.
        order = np.lexsort((number[known], key))
        last = np.flatnonzero(np.append(key[order][1:] != key[order][:-1], True)) if len(order) else order
        self._key, self._series = key[order][last], number[known][order][last]

    def series(self, metric: str, rows: Int64s) -> Int64s:
        """Return the series of a metric on some assets, -1 where it has none."""
        code = self._names.get(metric)
        if code is None or not len(self._key):
            return np.full(len(rows), -1, np.int64)
        key = code * self._assets + rows
        at = np.minimum(np.searchsorted(self._key, key), len(self._key) - 1)
        return np.where(self._key[at] == key, self._series[at], -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """One alarm type on the assets ``rows``, sorted; ``series`` and ``hold_ms``: int64[assets, metrics]."""

    kind: AlarmType
    version: RuleVersion
    definition: AlarmDefinition
    rows: Int64s
    series: Int64s
    hold_ms: Int64s
    is_here: Mask


class Roster:
    """Rules by the engine's number for them."""

    def __init__(self, assets: _Assets | None = None, kinds: Iterable[_Kind] = ()) -> None:
        self._assets = assets
        self._kinds = {kind.kind.id: kind for kind in kinds}
        self._single: dict[int, Standing] = {}
        self._count = sum(int(np.count_nonzero(kind.is_here)) for kind in self._kinds.values())

    def __len__(self) -> int:
        return self._count + len(self._single)

    def __contains__(self, number: int) -> bool:
        return number in self._single or self._place(number) is not None

    def __getitem__(self, number: int) -> Standing:
        """Return a rule on an asset.

        Raises:
            KeyError: it is not there.
        """
        found = self.get(number)
        if found is None:
            raise KeyError(number)
        return found

    def get(self, number: int) -> Standing | None:
        """Return a rule on an asset, None where there is none."""
        single = self._single.get(number)
        place = None if single else self._place(number)
        if place is None or self._assets is None:
            return single
        kind, at = place
        metrics = zip(kind.definition.metrics(), kind.series[at].tolist(), kind.hold_ms[at].tolist(), strict=True)
        watched = {metric: Watched(series, hold_ms) for metric, series, hold_ms in metrics if series >= 0}
        target = self._assets.target(int(kind.rows[at]))
        return standing.standing_on(kind.kind, kind.version, target, Instance(number, kind.definition, watched))

    def take(self, changed: Iterable[Standing]) -> None:
        """Take up rules that came or were edited."""
        for one in changed:
            self.drop([one.instance.id])
            self._single[one.instance.id] = one

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget rules that went."""
        for number in numbers:
            place = self._place(number)
            if place is not None:
                kind, at = place
                kind.is_here[at] = False
                self._count -= 1
            self._single.pop(number, None)

    def concerned(self, kinds: set[int] | None, assets: set[int] | None) -> set[int]:
        """Return the rules of some alarm types, on some assets; None means all."""
        concerned = {
            number
            for number, one in self._single.items()
            if (kinds is None or one.alarm_type_id in kinds) and (assets is None or one.asset_id in assets)
        }
        for identity, kind in self._kinds.items():
            if self._assets is None or (kinds is not None and identity not in kinds):
                continue
            rows = np.flatnonzero(kind.is_here)
            ids = self._assets.id[kind.rows[rows]]
            if assets is not None:
                wanted = np.array(sorted(assets), np.int64)
                at = np.searchsorted(ids, wanted)
                ids = wanted[np.append(ids, -1)[at] == wanted]
            concerned.update(standing.instance_id(identity, asset) for asset in ids.tolist())
        return concerned

    def instances(self) -> Instances:
        """Return all rules that are held as columns, for the engine."""
        ids, which, series, hold_ms = [], [], [], []
        for place, (identity, kind) in enumerate(self._kinds.items()):
            assert self._assets is not None  # noqa: S101 - kinds come with assets
            rows = kind.rows[kind.is_here]
            ids.append(standing.instance_id(identity, 0) | self._assets.id[rows])
            which.append(np.full(len(rows), place, np.int64))
            series.append(kind.series[kind.is_here].ravel())
            hold_ms.append(kind.hold_ms[kind.is_here].ravel())
        return Instances(
            _joined(ids),
            [kind.definition for kind in self._kinds.values()],
            _joined(which),
            _joined(series),
            _joined(hold_ms),
        )

    def singles(self) -> list[Standing]:
        """Return the rules that are held one by one."""
        return [*self._single.values()]

    def asking(self) -> set[int]:
        """Return the assets on which a rule takes a value from an attribute."""
        return {one.asset_id for one in self._single.values() if one.asks}

    def leaning(self) -> list[Standing]:
        """Return the rules that look at other assets."""
        return [one for one in self._single.values() if one.leans_on]

    def leaning_on(self, assets: set[int]) -> set[int]:
        """Return the assets on which a rule looks at some others."""
        return {one.asset_id for one in self._single.values() if one.leans_on & assets}

    def _place(self, number: int) -> tuple[_Kind, int] | None:
        identity, asset = standing.split_id(number)
        kind = self._kinds.get(identity)
        if kind is None or self._assets is None or not len(kind.rows):
            return None
        row = int(np.searchsorted(self._assets.id, asset))
        at = int(np.searchsorted(kind.rows, row))
        if at == len(kind.rows) or not kind.is_here[at] or self._assets.id[kind.rows[at]] != asset:
            return None
        return kind, at


def load(session: Session) -> Roster:
    """Return every enabled alarm type on every asset it is for; see ``standing.read``, which reads some."""
    assets = _Assets.read(session)
    kinds = standing.enabled(session)
    above = standing.lines(session, {kind.company_id for kind, _, _ in kinds})
    of_types = {int(assets.type_id[rows[0]]): int(assets.company_id[rows[0]]) for rows in assets.of_type.values()}
    described = standing.described_by(session, ((company, kind) for kind, company in of_types.items()))
    series, below = _Measured(session, assets), _Below(session, assets)
    overridden = {(row.alarm_type_id, row.asset_id) for row in session.execute(_OVERRIDDEN)}
    made: list[_Kind] = []
    placed: set[int] = set()
    for kind, version, path in kinds:
        definition = standing.parsed(kind, version)
        if definition is None:
            continue
        if surroundings.is_placed(definition):
            placed.add(kind.id)
            continue
        rows = _meant(kind, assets, above)
        if kind.asset_id is None:
            rows = below.of(path, rows[assets.company_id[rows] == kind.company_id])
        apart = [asset for identity, asset in overridden if identity == kind.id]
        rows = np.sort(rows[~np.isin(assets.id[rows], apart)])
        made.append(_on(kind, version, definition, rows=rows, assets=assets, series=series, described=described))
    roster = Roster(assets, made)
    singles = standing.read(session, asset_ids={asset for _, asset in overridden}) if overridden else ()
    roster.take(one for one in singles if (one.alarm_type_id, one.asset_id) in overridden)
    if placed:
        roster.take(standing.read(session, alarm_type_ids=placed))
    return roster


_OVERRIDDEN: Final = select(RuleOverride.alarm_type_id, RuleOverride.asset_id)


class _Below:
    """Which assets lie below a place of the organisation."""

    def __init__(self, session: Session, assets: _Assets) -> None:
        units, self._unit = np.unique(assets.unit_id, return_inverse=True)
        paths = {identity: path for identity, path in session.execute(select(OrgUnit.id, OrgUnit.path))}  # noqa: C416 - rows are no pairs to mypy
        self._paths = [paths[unit] for unit in units.tolist()]

    def of(self, path: str, rows: Int64s) -> Int64s:
        """Return those of some assets whose unit lies at or below a path."""
        is_below = np.array([unit.startswith(path) for unit in self._paths], np.bool_)
        return rows[is_below[self._unit[rows]]]


def _meant(kind: AlarmType, assets: _Assets, above: Mapping[int, tuple[int, ...]]) -> Int64s:
    """Return the assets that an alarm type names, or whose type does or inherits from the one it names."""
    if kind.asset_id is not None:
        return np.flatnonzero(assets.id == kind.asset_id)
    return _joined(rows for one, rows in assets.of_type.items() if kind.asset_type_id in above.get(one, ()))


def _on(
    kind: AlarmType,
    version: RuleVersion,
    definition: AlarmDefinition,
    *,
    rows: Int64s,
    assets: _Assets,
    series: _Measured,
    described: Mapping[int, Mapping[str, Metric]],
) -> _Kind:
    """Return an alarm type on those of some assets that have a series for any of its metrics."""
    metrics = definition.metrics()
    watched = np.column_stack([series.series(metric, rows) for metric in metrics])
    stays = (watched >= 0).any(axis=1)
    rows, watched = rows[stays], watched[stays]
    types, which = np.unique(assets.type_id[rows], return_inverse=True)
    held = [[standing.held_for_ms(described.get(one, {}).get(metric)) for metric in metrics] for one in types.tolist()]
    hold_ms = np.array(held, np.int64).reshape(len(types), len(metrics))[which]
    return _Kind(kind, version, definition, rows, watched, hold_ms, np.ones(len(rows), np.bool_))


def _joined(parts: Iterable[Int64s]) -> Int64s:
    """Return columns one after the other, also when there are none."""
    return np.concatenate([np.empty(0, np.int64), *parts])
