"""Fair use: what a device, and all devices of a company together, may send, and what becomes of more (ING-16).

What is over the limit is rejected visibly: counted to the last message, and of its bodies the first few a minute are
kept, so that a flood cannot fill the database. Alarms have an allowance of their own, as large, so that a device
that floods us with readings can still call for help. Neighbours are not touched: nobody waits for anybody's bucket.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ingest.allowance import Buckets, Rates, least
from ingest.decoded import Reason, Rejected
from ingest.intake import NOBODY
from ingest.limits import Stated
from ingest.registry import Registry
from ingest.rejected import Reject
from ingest.resolve import Resolved, Resolver
from kernel.settings import Settings
from telemetry.readings import Int64s, Mask

KEPT_A_MINUTE: Final = 5
"""Bodies of one device that are kept in a minute; the others are counted on the last of these."""
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device and what a company may send."""

    device: Rates = field(default_factory=Rates)
    company: Rates = field(default_factory=Rates)

    @classmethod
    def of(cls, settings: Settings) -> "Terms":
        """Return what an installation has decided."""
        burst_s = settings.limit_burst_s
        return cls(
            Rates(settings.limit_device_messages, settings.limit_device_points, burst_s),
            Rates(settings.limit_company_messages, settings.limit_company_points, burst_s),
        )


@dataclass(slots=True)
class _Sample:
    minute: int
    kept: int
    last: Reject


class FairUse:
    """Watches over one data path. For one thread at a time."""

    def __init__(self, terms: Terms, registry: Registry, resolver: Resolver) -> None:
        self._terms = terms
        self._registry = registry
        self._resolver = resolver
        self._stated = Stated()
        self._limits_devices = terms.device.is_limited
        self._device = Buckets(self._rates_of)
        self._alarms = Buckets(self._rates_of)
        self._company = Buckets(lambda _: terms.company)
        self._samples: dict[int, _Sample] = {}
        self.refused = 0
        """Messages over the limit since the start."""

    def _rates_of(self, device: int) -> Rates:
        usual = self._terms.device
        if device == NOBODY:
            return least(self._stated.every(usual))
        key = self._registry.key_of(device)
        return self._stated.rates(device, None if key is None else self._registry.type_of(key), usual)

    def take_up(self, stated: Stated) -> None:
        """Follow what people have said from the next batch on; call it too when devices moved to other machines."""
        if stated != self._stated or stated.of_type:
            self._stated = stated
            self._limits_devices = any(rates.is_limited for rates in stated.every(self._terms.device))
            self._device.reconsider()
            self._alarms.reconsider()

    def hold_back(self, resolved: Resolved) -> None:
        """Take what is over the limit out of a batch, and note it there as refused."""
        if not (self._limits_devices or self._terms.company.is_limited) or not len(resolved.batch):
            return
        now_ms = int(resolved.batch.received_ms[-1])
        bad = [(place, device) for place, one in enumerate(resolved.rejects) if (device := self._known(one))]
        lengths = np.diff(resolved.part, append=len(resolved.readings.series))
        devices = np.concatenate([resolved.part_device, np.array([device for _, device in bad], np.int64)])
        points = np.concatenate([lengths, np.zeros(len(bad), np.int64)])
        over = self._over(devices, points, now_ms)
        if over is not None:
            self._drop(resolved, over, lengths, bad)
        if resolved.reports and self._limits_devices:
            self._hold_back_alarms(resolved, now_ms)

    def _known(self, reject: Rejected) -> int:
        return self._resolver.device_of(reject) if reject.device else NOBODY

    def _over(self, devices: Int64s, points: Int64s, now_ms: int) -> Mask | None:
        over = None
        if not len(devices):
            return None
        if self._limits_devices:
            over = self._device.over(devices, points, now_ms)
        if not self._terms.company.is_limited:
            return over
        left = np.arange(len(devices)) if over is None else np.flatnonzero(~over)
        found, places = np.unique(devices[left], return_inverse=True)
        companies = np.array([self._registry.company_of(device) for device in found.tolist()], np.int64)[places]
        theirs = self._company.over(companies, points[left], now_ms) if len(left) else None
        if theirs is not None:
            over = np.zeros(len(devices), np.bool_) if over is None else over
            over[left[theirs]] = True
        return over

    def _drop(self, resolved: Resolved, over: Mask, lengths: Int64s, bad: list[tuple[int, int]]) -> None:
        parts, others = over[: len(lengths)], over[len(lengths) :]
        messages = resolved.part_message[parts].tolist()
        devices = resolved.part_device[parts].tolist()
        flooding = [pair for pair, is_over in zip(bad, others.tolist(), strict=True) if is_over]
        messages += [resolved.rejects[place].message for place, _ in flooding]
        devices += [device for _, device in flooding]
        gone = {place for place, _ in flooding}
        resolved.rejects = [one for place, one in enumerate(resolved.rejects) if place not in gone]
        stays = np.repeat(~parts, lengths)
        resolved.readings = resolved.readings.select(stays)
        resolved.for_rules = None if resolved.for_rules is None else resolved.for_rules[stays]
        left = lengths[~parts]
        resolved.part = np.cumsum(left) - left
        resolved.part_device, resolved.part_message = resolved.part_device[~parts], resolved.part_message[~parts]
        self._refuse(resolved, messages, devices)

    def _hold_back_alarms(self, resolved: Resolved, now_ms: int) -> None:
        ids = [report.device.id for report in resolved.reports]
        over = self._alarms.over(np.array(ids, np.int64), np.zeros(len(ids), np.int64), now_ms)
        if over is None:
            return
        refused = [report for report, is_over in zip(resolved.reports, over.tolist(), strict=True) if is_over]
        resolved.reports = [
            report for report, is_over in zip(resolved.reports, over.tolist(), strict=True) if not is_over
        ]
        for report in refused:
            resolved.standing.pop((report.device.id, report.said.code), None)
        counted = [report for report in refused if not report.said.is_beside]
        self._refuse(resolved, [one.said.message for one in counted], [one.device.id for one in counted])

    def _refuse(self, resolved: Resolved, messages: list[int], devices: list[int]) -> None:
        """Note messages as refused: how many of whom, and of each the first few bodies of the minute."""
        of_device: dict[int, list[int]] = {}
        for message, device in zip(messages, devices, strict=True):
            of_device.setdefault(device, []).append(message)
        self.refused += len(messages)
        for device, theirs in of_device.items():
            resolved.over.append((device, len(theirs)))
            resolved.over_kept += self._sampled(resolved, device, theirs)
            if resolved.batch.fates is not None:
                resolved.over_told += [self._reject(message, device) for message in theirs]

    def _sampled(self, resolved: Resolved, device: int, messages: list[int]) -> list[Reject]:
        minute = int(resolved.batch.received_ms[-1]) // _MINUTE_MS
        sample = self._samples.get(device)
        room = KEPT_A_MINUTE - (sample.kept if sample is not None and sample.minute == minute else 0)
        fresh = [self._resolver.whole(resolved.batch, self._reject(one, device)) for one in messages[:room]]
        counted = len(messages) - len(fresh)
        if fresh:
            self._samples[device] = _Sample(minute, KEPT_A_MINUTE - room + len(fresh), fresh[-1])
        if counted:
            received_at = self._resolver.whole(resolved.batch, self._reject(messages[-1], device)).received_at
            fresh.append(replace(self._samples[device].last, times=counted, received_at=received_at))
        return fresh

    def _reject(self, message: int, device: int) -> Rejected:
        detail = "over the limit of its device or company; of a flood only a few bodies a minute are kept"
        return Rejected(message, Reason.OVER_LIMIT, detail, self._registry.key_of(device) or "")
