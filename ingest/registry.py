"""Who sends and what it stands for, from memory: device key to device, a device's metric to its series.

For the pipeline, once a batch. The decoder numbers (source, metric) pairs; here each number has its series, its
limits and its device in arrays, so that a batch of known pairs costs no Python. What is new, and nothing else, is
looked up, and what a person changed is looked up again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from assets import derivations, types
from assets.identity import Credentials
from assets.models import Asset, Binding, Device, Metric
from ingest.decoded import Decoded, Int32s, Reason, SeriesNames, Source
from kernel.columns import among
from people.models import OrgUnit
from telemetry import series
from telemetry.readings import Float64s, Int64s, Mask
from telemetry.series import Pair
from telemetry.units import Conversion

UNSEEN: Final = -1
"""The series of a pair whose device is known and whose metric was never stored."""
REFUSED: Final = -2
"""The series of a pair whose source may not speak; ``Registry.refusal`` says why."""

_CREDENTIALS: Final = (
    Device.password_hash,
    Device.password_alias,
    Device.previous_hash,
    Device.previous_alias,
    Device.previous_until,
    Device.client_id,
    Device.accepts_certificate,
)
"""The columns of ``assets.identity.Credentials``, in its order."""

_STANDING: Final = 1_000_000
_UNDER_WAY: Final = 1_000
_Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A device as ingest needs it. ``asset_id`` and ``asset_unit_id`` are those of the asset it measures now."""

    id: int
    key: str
    company_id: int
    unit_id: int
    gateway_id: int | None
    is_revoked: bool
    is_online: bool
    says_status: bool
    asset_id: int | None
    asset_unit_id: int | None
    asset_type_id: int | None
    path: str
    """That of its org unit, e.g. ``/1/4/``."""
    credentials: Credentials

    @property
    def subject(self) -> str:
        """What an alarm of this device is about: its asset, or itself where it has none."""
        return f"device:{self.id}" if self.asset_id is None else f"asset:{self.asset_id}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a source may not speak, in a person's words."""

    reason: Reason
    detail: str


class Registry:
    """The devices and series of one ingest process. For one thread at a time."""

    def __init__(self) -> None:
        self._devices: dict[str, Known] = {}
        self._keys: dict[int, str] = {}
        self._series: dict[Pair, int] = {}
        self._metrics: dict[int, dict[str, Metric]] = {}
        self._worked_out: frozenset[int] = frozenset()
        self.standing: dict[tuple[int, str], bool] = {}
        """What mapped messages said last of an alarm: (device id, code) → raised."""
        self._newest_series = 0
        self.stuck_after: Int32s = np.zeros(0, np.int32)
        """By series number: how many equal readings make it stuck, 0 for never."""
        self.watches_stuck = False
        self._forget_names(SeriesNames())

    def __len__(self) -> int:
        return len(self._devices)

    # What is known ----------------------------------------------------------------------------------------------

    def load(self, session: Session) -> None:
        """Read everything."""
        devices = _devices(session, None)
        self._devices = {device.key: device for device in devices}
        self._keys = {device.id: device.key for device in devices}
        self._series = series.load(session)
        self._newest_series = max(0, max(self._series.values(), default=0) - _UNDER_WAY)
        self._metrics, self._worked_out = _metrics(session, devices), derivations.all_metrics(session)
        self._forget_names(SeriesNames())

    def reload(self, session: Session, device_ids: Iterable[int]) -> list[Known]:
        """Read some devices again, and return them."""
        wanted = set(device_ids)
        devices = _devices(session, wanted)
        self._metrics |= _metrics(session, devices)
        self._worked_out = derivations.all_metrics(session)
        self._series |= series.load(session, wanted)
        for gone in wanted - {device.id for device in devices}:
            self._devices.pop(self._keys.pop(gone, ""), None)
        for device in devices:
            self._devices[device.key] = device
            self._keys[device.id] = device.key
        touched = {device.key for device in devices}
        sources = self._names.sources
        self._judge([n for n in range(len(self._verdicts)) if {sources[n].device, sources[n].gateway} & touched])
        return devices

    def learn_series(self, session: Session) -> set[int]:
        """Take note of the series that another worker named since; return their devices."""
        found = series.since(session, self._newest_series)
        met = {pair: number for pair, number in found if pair not in self._series}
        if met:
            self.give(met)
            # Numbers are drawn before they are committed: go back a little, for those still under way.
            self._newest_series = max(self._newest_series, max(met.values()) - _UNDER_WAY)
        return {device_id for device_id, _ in met}

    def on_assets(self, asset_ids: Iterable[int]) -> list[int]:
        """Return the devices that measure some assets, as far as is known here."""
        wanted = set(asset_ids)
        return [device.id for device in self._devices.values() if device.asset_id in wanted]

    def device_by_key(self, key: str) -> Known | None:
        """Return the device of a key."""
        return self._devices.get(key)

    def online_by_themselves(self) -> list[str]:
        """Return the keys of devices that were online when last read, and have a connection of their own."""
        return [one.key for one in self._devices.values() if one.is_online and one.gateway_id is None]

    def key_of(self, device_id: int) -> str | None:
        """Return the key of a device."""
        return self._keys.get(device_id)

    def company_of(self, device_id: int) -> int:
        """Return the company that a device belongs to, 0 where it is gone."""
        device = self._devices.get(self._keys.get(device_id, ""))
        return 0 if device is None else device.company_id

    def asset_of(self, device_id: int) -> int | None:
        """Return the asset that a device measures."""
        device = self._devices.get(self._keys.get(device_id, ""))
        return None if device is None else device.asset_id

    def series_of(self, device_id: int, metric: str) -> int | None:
        """Return the series of a device's metric, None where it was never stored."""
        return self._series.get((device_id, metric))

    def speaker(self, source: Source) -> Known | Refusal:
        """Return the device a source stands for, or why it may not speak."""
        device = self._devices.get(source.device)
        if device is None:
            reason = Reason.UNKNOWN_CHILD if source.gateway else Reason.UNKNOWN_DEVICE
            return Refusal(reason, f"there is no device {source.device}")
        if not device.path.startswith(source.within):
            return Refusal(Reason.FOREIGN_MAPPING, f"{source.device} is no device that this mapping may speak for")
        if device.is_revoked:
            return Refusal(Reason.REVOKED_DEVICE, f"{source.device} was revoked")
        return self._behind(source.gateway, device) if source.gateway else device

    def _behind(self, key: str, device: Known) -> Known | Refusal:
        gateway = self._devices.get(key)
        if gateway is None or gateway.is_revoked:
            return Refusal(Reason.UNKNOWN_DEVICE, f"there is no gateway {key}")
        if device.gateway_id != gateway.id:
            return Refusal(Reason.UNKNOWN_CHILD, f"{device.key} does not belong to gateway {key}")
        return device

    # A batch ----------------------------------------------------------------------------------------------------

    def meet(self, decoded: Decoded) -> list[Pair]:
        """Make room for the names of a batch; return the pairs in it that have no series yet."""
        names = decoded.names
        if names is not self._names:
            self._forget_names(names)
        # The next batch may be decoded meanwhile, and names only grow: a pair's source stands before the pair.
        pairs = len(names.pairs)
        fresh = names.sources[len(self._verdicts) :]
        if fresh:
            self._verdicts.extend(map(self.speaker, fresh))
            self._pairs_of.extend([] for _ in fresh)
        if pairs > self._size:
            self._learn(range(self._size, pairs))
        numbers = np.unique(decoded.pair)
        unseen = numbers[self.series[numbers] == UNSEEN]
        return [self._pair(number) for number in unseen.tolist()]

    def give(self, numbers: dict[Pair, int]) -> None:
        """Take note of the series that pairs were given."""
        self._series |= numbers
        for pair in np.flatnonzero(self.series[: self._size] == UNSEEN).tolist():
            self._place(pair)

    def refusal(self, pair: int) -> Refusal:
        """Return why the source of a pair may not speak."""
        source, name = self._names.pairs[pair]
        verdict = self._verdicts[source]
        if isinstance(verdict, Refusal):
            return verdict
        return Refusal(Reason.WORKED_OUT, f"“{name}” is worked out here")

    def named(self, pair: int) -> str:
        """Return the key of the device that a pair's source named."""
        return self._names.sources[self._names.pairs[pair][0]].device

    def source_of(self, pair: int) -> Source:
        """Return whose readings a pair's are."""
        return self._names.sources[self._names.pairs[pair][0]]

    def type_of(self, key: str) -> int | None:
        """Return the type of the asset that the device of a key measures."""
        device = self._devices.get(key)
        return None if device is None else device.asset_type_id

    def stands(self, said: dict[tuple[int, str], bool]) -> None:
        """Take note of what mapped messages said of alarms, once it is durable."""
        if len(self.standing) >= _STANDING:
            self.standing.clear()
        self.standing |= said

    def is_impossible(self, pair: Int32s, value: Float64s) -> Mask:
        """Return which readings lie outside what their metric can physically be; texts never do."""
        outside: Mask = (value < self.low[pair]) | (value > self.high[pair])
        return outside

    # How --------------------------------------------------------------------------------------------------------

    def _forget_names(self, names: SeriesNames) -> None:
        self._names = names
        self._size = 0
        self._verdicts: list[Known | Refusal] = []
        self._pairs_of: list[list[int]] = []
        self.series: Int64s = np.empty(0, np.int64)
        self.device: Int64s = np.empty(0, np.int64)
        self.low: Float64s = np.empty(0, np.float64)
        self.high: Float64s = np.empty(0, np.float64)
        self.is_numeric: Mask = np.empty(0, np.bool_)
        self.is_converted: Mask = np.empty(0, np.bool_)
        self.scale: Float64s = np.empty(0, np.float64)
        self.offset: Float64s = np.empty(0, np.float64)
        self.uses_bad: Mask = np.empty(0, np.bool_)
        self.has_limits = self.has_conversions = self.asks_for_bad = False

    def _learn(self, pairs: range) -> None:
        if pairs.stop > len(self.series):
            room = max(1024, 2 * pairs.stop)
            self.series = _grown(self.series, room)
            self.device = _grown(self.device, room)
            self.low = _grown(self.low, room)
            self.high = _grown(self.high, room)
            self.is_numeric = _grown(self.is_numeric, room)
            self.is_converted = _grown(self.is_converted, room)
            self.scale, self.offset = _grown(self.scale, room), _grown(self.offset, room)
            self.uses_bad = _grown(self.uses_bad, room)
        self._size = pairs.stop
        for pair in pairs:
            source = self._names.pairs[pair][0]
            self._pairs_of[source].append(pair)
            self._place(pair)

    def _judge(self, sources: Sequence[int]) -> None:
        """Look at sources again: their device has changed."""
        for source in sources:
            self._verdicts[source] = self.speaker(self._names.sources[source])
            for pair in self._pairs_of[source]:
                self._place(pair)

    def _place(self, pair: int) -> None:
        source, name = self._names.pairs[pair]
        verdict = self._verdicts[source]
        self.low[pair], self.high[pair], self.is_numeric[pair] = -np.inf, np.inf, False
        self.is_converted[pair] = self.uses_bad[pair] = False
        if isinstance(verdict, Refusal):
            self.series[pair], self.device[pair] = REFUSED, 0
            return
        self.device[pair] = verdict.id
        self.series[pair] = self._series.get((verdict.id, name), UNSEEN)
        metric = self._metrics.get(verdict.asset_type_id or 0, {}).get(name)
        if metric is not None and metric.id in self._worked_out:
            self.series[pair] = REFUSED
            return
        if metric is not None:
            self.low[pair] = -np.inf if metric.low is None else metric.low
            self.high[pair] = np.inf if metric.high is None else metric.high
            self.is_numeric[pair] = metric.kind in ("gauge", "counter")
            self.has_limits |= metric.low is not None or metric.high is not None
            self.uses_bad[pair] = metric.uses_bad
            self.asks_for_bad |= metric.uses_bad
            self._convert(pair, metric.conversion)
        self._watch(int(self.series[pair]), 0 if metric is None else metric.stuck_limit)

    def _convert(self, pair: int, conversion: Conversion | None) -> None:
        if conversion is not None:
            self.is_converted[pair], self.has_conversions = True, True
            self.scale[pair], self.offset[pair] = conversion.scale, conversion.offset

    def _watch(self, number: int, limit: int) -> None:
        if number < 0 or (limit == 0 and number >= len(self.stuck_after)):
            return
        if number >= len(self.stuck_after):
            self.stuck_after = _grown(self.stuck_after, max(number + 1, 2 * len(self.stuck_after)))
        self.stuck_after[number] = limit
        self.watches_stuck |= limit > 0

    def _pair(self, number: int) -> Pair:
        source, metric = self._names.pairs[number]
        verdict = self._verdicts[source]
        assert isinstance(verdict, Known)  # noqa: S101 - UNSEEN is given to known devices only
        return verdict.id, metric


def _devices(session: Session, device_ids: set[int] | None) -> list[Known]:
    bound = aliased(Binding)
    query = (
        select(
            Device.id,
            Device.key,
            Device.company_id,
            Device.unit_id,
            Device.gateway_id,
            Device.revoked_at.is_not(None),
            Device.is_online,
            Device.online_changed_at.is_not(None),
            Asset.id,
            Asset.unit_id,
            Asset.type_id,
            OrgUnit.path,
            *_CREDENTIALS,
        )
        .join(OrgUnit, OrgUnit.id == Device.unit_id)
        .outerjoin(bound, (bound.device_id == Device.id) & bound.ends_at.is_(None))
        .outerjoin(Asset, Asset.id == bound.asset_id)
    )
    if device_ids is not None:
        query = query.where(among(Device.id, device_ids))
    known = []
    for row in session.execute(query):
        values: tuple[Any, ...] = tuple(row)
        device, shown = values[: -len(_CREDENTIALS)], values[-len(_CREDENTIALS) :]
        known.append(Known(*[*device, Credentials(*shown)]))
    return known


def _metrics(session: Session, devices: Iterable[Known]) -> dict[int, dict[str, Metric]]:
    by_company: dict[int, set[int]] = {}
    for device in devices:
        if device.asset_type_id is not None:
            by_company.setdefault(device.company_id, set()).add(device.asset_type_id)
    found: dict[int, dict[str, Metric]] = {}
    for company_id, type_ids in by_company.items():
        found |= types.metrics(session, company_id, type_ids)
    session.expunge_all()
    return found


def _grown(column: _Array, room: int) -> Any:  # noqa: ANN401 - the same kind of array
    grown = np.zeros(room, column.dtype)
    grown[: len(column)] = column
    return grown
