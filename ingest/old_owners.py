"""Whose a row of history is: the device that it names, or the one that measured the asset that it names at that time.

Series belong to devices, and an asset's curve is put together from those of the devices that were bound to it one after
the other. So each value of an asset goes to one device, and which is decided by what was known before the file: a row
that is imported again never finds another. Where two devices were on an asset at once and neither, or each, is known to
send the metric, nobody guesses: the row has to name one. What a person may not change answers like what does not exist.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, sessionmaker

from assets import types
from assets.measured import FOREVER_MS
from assets.models import Asset, Binding, Device
from ingest import backdating
from ingest.csvrows import Old
from ingest.decoded import Reason
from ingest.forms import Element
from ingest.strict import SAID, Refused
from kernel import clock
from kernel.errors import Invalid
from kernel.i18n import noop
from people import scope
from people.models import Account
from people.scope import Viewer
from telemetry import series

RIGHT: Final = "devices.write"
"""Over each device whose history is imported."""
MOST_STRANGERS: Final = 1_000
"""Names in a file that stand for nothing here."""


@dataclass(frozen=True, slots=True)
class Known:
    """A device, and what its asset's type says of metrics: lowest and highest possible value of those with numbers."""

    id: int
    key: str
    numeric: Mapping[str, tuple[float, float]]

    @classmethod
    def on(cls, session: Session, device: Device, asset: Asset | None) -> Self:
        """Return a device as rows of this asset are checked against it."""
        described = {} if asset is None else types.metrics(session, asset.company_id, [asset.type_id])[asset.type_id]
        return cls(
            device.id,
            device.key,
            {
                key: (
                    -np.inf if metric.low is None else metric.low,
                    np.inf if metric.high is None else metric.high,
                )
                for key, metric in described.items()
                if metric.kind in {"gauge", "counter"}
            },
        )


@dataclass(frozen=True, slots=True)
class Term:
    """A device's time on an asset, ``[starts_ms, ends_ms)``, and from ``reach_ms`` on if its history comes along."""

    device: Known
    is_ours: bool
    """Whether the person who imports may change it."""
    metrics: frozenset[str]
    """What it is known to send."""
    reach_ms: int
    starts_ms: int
    ends_ms: int

    def covers(self, ts_ms: int) -> bool:
        """Return whether the device speaks for the asset then."""
        return self.reach_ms <= ts_ms < self.ends_ms

    def meets(self, other: "Term") -> bool:
        """Return whether another device was there at some time of this one."""
        is_other = self.device.id != other.device.id
        return is_other and self.starts_ms < other.ends_ms and other.starts_ms < self.ends_ms


@dataclass(frozen=True, slots=True)
class Measured:
    """An asset and who measured it when."""

    code: str
    terms: Sequence[Term]

    def device(self, metric: str, ts_ms: int) -> Known:
        """Return whose series holds a value of this asset.

        Raises:
            Refused: nobody measured it then, or nobody can say who of several did.
        """
        there = [term for term in self.terms if term.covers(ts_ms)]
        senders = [term for term in there if metric in term.metrics]
        speaking = _bound(senders or there, ts_ms)
        are_several = len({term.device.id for term in speaking}) > 1
        if are_several or (not senders and any(term.meets(other) for term in speaking for other in self.terms)):
            raise Refused(
                Reason.UNKNOWN_DEVICE,
                noop("Which device of {asset} measured {metric} is not known: name it in a column device."),
                asset=self.code,
                metric=metric[:SAID],
            )
        if not speaking or not speaking[0].is_ours:
            raise Refused(
                Reason.UNKNOWN_DEVICE,
                noop("No device whose readings you may import measured {asset} at that time."),
                asset=self.code,
            )
        return speaking[0].device

    def named(self, key: str, ts_ms: int) -> Known:
        """Return the device of this key, which a row names beside the asset.

        Raises:
            Refused: it was not on the asset then.
        """
        for term in self.terms:
            if term.device.key == key and term.is_ours and term.covers(ts_ms):
                return term.device
        raise Refused(
            Reason.FOREIGN_DEVICE,
            noop("There is no device {device} that measured {asset} at that time and whose readings you may import."),
            device=key[:SAID],
            asset=self.code,
        )


def _bound(terms: Sequence[Term], ts_ms: int) -> Sequence[Term]:
    """Return those that were bound at the time, or else those whose history reaches so far back."""
    return [term for term in terms if term.starts_ms <= ts_ms] or terms


class Owners:
    """Finds whose rows are, within the sight of the person who imports them."""

    def __init__(
        self, sessions: sessionmaker[Session], account_id: int, *, device_key: str, asset_code: str, backdates: bool
    ) -> None:
        self._sessions = sessions
        self._account_id = account_id
        self._device_key = device_key
        self._asset_code = asset_code
        self._backdates = backdates
        self._devices: dict[str, Known | None] = {}
        self._assets: dict[str, Measured | None] = {}
        self._strangers = 0

    def shares(self, row: Old, ts_ms: int) -> list[tuple[Known, Element]]:
        """Return what of a row belongs to which device: all of it to one, but where several measure an asset.

        Raises:
            Refused: it cannot be said of each value.
            Invalid: too many names in the file stand for nothing here.
        """
        device_key, asset_code = row.device, row.asset
        if not device_key and not asset_code:
            device_key, asset_code = self._device_key, self._asset_code
        if asset_code:
            asset = self._asset(asset_code)
            if device_key:
                return [(asset.named(device_key, ts_ms), row.element)]
            return _by_device(asset, row.element, ts_ms)
        if not device_key:
            raise Refused(
                Reason.UNKNOWN_DEVICE, noop("It names neither device nor asset, and none was stated for the file.")
            )
        return [(self._device(device_key), row.element)]

    def _device(self, key: str) -> Known:
        if key not in self._devices:
            with self._sessions() as session:
                self._devices[key] = _find_device(session, self._viewer(session), key)
            self._count(self._devices[key])
        found = self._devices[key]
        if found is None:
            raise Refused(
                Reason.UNKNOWN_DEVICE,
                noop("There is no device {device} whose readings you may import."),
                device=key[:SAID],
            )
        return found

    def _asset(self, code: str) -> Measured:
        if code not in self._assets:
            with self._sessions() as session:
                self._assets[code] = _find_asset(session, self._viewer(session), code, backdates=self._backdates)
            self._count(self._assets[code])
        found = self._assets[code]
        if found is None:
            raise Refused(Reason.UNKNOWN_DEVICE, noop("There is no asset {asset} that you may see."), asset=code[:SAID])
        return found

    def _viewer(self, session: Session) -> Viewer:
        return scope.viewer_of(session, session.get_one(Account, self._account_id))

    def _count(self, found: Known | Measured | None) -> None:
        self._strangers += found is None
        if self._strangers > MOST_STRANGERS:
            raise Invalid(
                "More than {n} devices or assets of this file are not known here.", field="file", n=MOST_STRANGERS
            )


def _by_device(asset: Measured, element: Element, ts_ms: int) -> list[tuple[Known, Element]]:
    devices: dict[int, Known] = {}
    values: dict[int, Element] = {}
    for metric, value in element.values.items():
        device = asset.device(metric, ts_ms)
        devices[device.id] = device
        values.setdefault(device.id, Element(ts_ms, {})).values[metric] = value
    return [(devices[identity], share) for identity, share in values.items()]


def _find_device(session: Session, viewer: Viewer, key: str) -> Known | None:
    device = session.scalars(
        select(Device).where(Device.key == key, scope.visible(Device, viewer, RIGHT))
    ).one_or_none()
    if device is None:
        return None
    asset = session.scalars(
        select(Asset)
        .join(Binding, Binding.asset_id == Asset.id)
        .where(Binding.device_id == device.id, Binding.ends_at.is_(None))
    ).one_or_none()
    return Known.on(session, device, asset)


def _find_asset(session: Session, viewer: Viewer, code: str, *, backdates: bool) -> Measured | None:
    asset = session.scalars(
        select(Asset).where(
            Asset.company_id == viewer.company_id, Asset.code == code, scope.visible(Asset, viewer, "assets.read")
        )
    ).one_or_none()
    if asset is None:
        return None
    bindings = session.scalars(
        select(Binding).where(Binding.asset_id == asset.id).options(joinedload(Binding.device))
    ).all()
    devices = {one.device_id: one.device for one in bindings}
    ours = set(
        session.scalars(select(Device.id).where(Device.id.in_(list(devices)), scope.visible(Device, viewer, RIGHT)))
    )
    sent: dict[int, set[str]] = {}
    for device_id, metric in series.load(session, devices):
        sent.setdefault(device_id, set()).add(metric)
    known = {identity: Known.on(session, device, asset) for identity, device in devices.items()}
    return Measured(
        asset.code,
        [
            Term(
                known[one.device_id],
                one.device_id in ours,
                frozenset(sent.get(one.device_id, ())),
                _reach_ms(session, one) if backdates else clock.to_ms(one.starts_at),
                clock.to_ms(one.starts_at),
                FOREVER_MS if one.ends_at is None else clock.to_ms(one.ends_at),
            )
            for one in bindings
        ],
    )


def _reach_ms(session: Session, binding: Binding) -> int:
    """Return from when on a binding will be that of the asset once its history is imported."""
    first = backdating.first_binding(session, binding.device_id)
    if first is None or first.id != binding.id:
        return clock.to_ms(binding.starts_at)
    others = backdating.earliest(session, binding)
    return 0 if others is None else clock.to_ms(others)
