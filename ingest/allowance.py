"""How much each of many senders may send: token buckets as columns. Pure; for ``ingest.fairuse`` (ING-16).

A bucket fills at a rate up to a burst; a message takes one from it, and as many points as it holds from a second one.
What finds too little is refused, and so is all that comes behind it in the same batch: a batch is one instant.

Nobody is looked at while nobody can be over: what was spent is gathered, and settled only when all of it together
would empty the emptiest bucket. In the steady state a batch costs two additions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.readings import Float64s, Int64s, Mask

NOBODY: Final = 0
"""Asked for the rates of somebody who was not met yet."""
_UNMET: Final = -1
_GATHERED: Final = 1000
"""At most so many batches are gathered before they are settled."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages and points a second, 0 for no limit, and for how many seconds' worth at once a bucket holds."""

    messages: float = 0.0
    points: float = 0.0
    burst_s: float = 3600.0

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to look at."""
        return self.messages > 0 or self.points > 0


class Buckets:
    """Buckets of senders, who are numbers. ``rates`` answers for a sender met the first time."""

    def __init__(self, rates: Callable[[int], Rates]) -> None:
        self._rates = rates
        self._row_of: Int64s = np.empty(0, np.int64)
        self._met = 0
        self._rate: Float64s = np.empty((0, 2))
        self._most: Float64s = np.empty((0, 2))
        self._left: Float64s = np.empty((0, 2))
        self._at_ms = 0
        self._floor: Float64s = np.zeros(2)
        self._spent: list[tuple[Int64s, Int64s]] = []
        self._sum: Float64s = np.zeros(2)

    def over(self, senders: Int64s, points: Int64s, now_ms: int) -> Mask | None:
        """Spend for messages in order of reception, and return which are over the limit; None for none.

        ``senders``: whose each is, int64[n]; ``points``: how many it holds, int64[n].
        """
        cost = np.array([len(senders), points.sum()], np.float64)
        self._spent.append((senders, points))
        self._sum += cost
        if (self._sum <= self._floor).all() and len(self._spent) < _GATHERED:
            return None
        before, self._spent, self._sum = self._spent[:-1], [], np.zeros(2)
        if before:
            self._take(self._rows(np.concatenate([one for one, _ in before])), np.concatenate([n for _, n in before]))
        rows = self._rows(senders)
        self._refill(now_ms)
        refused = self._refused(rows, points)
        self._take(rows[~refused], points[~refused])
        # Somebody met for the first time brings a full bucket of a burst that may be smaller than any so far.
        self._floor = np.minimum(self._left.min(axis=0, initial=np.inf), _burst(self._rates(NOBODY)))
        return refused if refused.any() else None

    def reconsider(self) -> None:
        """Ask for the rates of everybody anew; of a bucket that was part empty the same part stays so."""
        for row, sender in ((int(self._row_of[sender]), sender) for sender in np.flatnonzero(self._row_of != _UNMET)):
            rates, before = self._rates(int(sender)), self._most[row].copy()
            self._rate[row], self._most[row] = (rates.messages, rates.points), _burst(rates)
            was_bounded = np.isfinite(before)
            part = np.where(was_bounded, self._left[row] / np.where(was_bounded, before, 1.0), 1.0)
            self._left[row] = np.where(np.isfinite(self._most[row]), self._most[row] * part, np.inf)
        # What is gathered is settled with the next batch, under what holds from now on.
        self._floor = np.zeros(2)

    def _rows(self, senders: Int64s) -> Int64s:
        if not len(senders):
            return senders
        most = int(senders.max())
        if most >= len(self._row_of):
            # Senders are identities of a table and therefore dense: an array finds them faster than anything else.
            grown = np.full(max(1024, 2 * most), _UNMET, np.int64)
            grown[: len(self._row_of)] = self._row_of
            self._row_of = grown
        rows: Int64s = self._row_of[senders]
        unmet = np.unique(senders[rows == _UNMET]).tolist()
        if unmet:
            for sender in unmet:
                self._meet(sender)
            rows = self._row_of[senders]
        return rows

    def _meet(self, sender: int) -> None:
        row = self._row_of[sender] = self._met
        self._met += 1
        if row == len(self._rate):
            room = max(64, 2 * row)
            self._rate, self._most, self._left = (
                np.vstack([column, np.full((room - row, 2), np.inf)]) for column in (self._rate, self._most, self._left)
            )
        rates = self._rates(sender)
        self._rate[row] = rates.messages, rates.points
        self._most[row] = self._left[row] = _burst(rates)

    def _refill(self, now_ms: int) -> None:
        passed_s = max(0, now_ms - self._at_ms) / 1000 if self._at_ms else 0.0
        self._at_ms = max(self._at_ms, now_ms)
        known = self._met
        self._left[:known] = np.minimum(self._most[:known], self._left[:known] + self._rate[:known] * passed_s)

    def _refused(self, rows: Int64s, points: Int64s) -> Mask:
        order = np.argsort(rows, kind="stable")
        grouped, held = rows[order], points[order]
        first = np.searchsorted(grouped, grouped)
        rank = np.arange(len(grouped)) - first + 1
        total = np.cumsum(held)
        gathered = total - (total - held)[first]
        left = self._left[grouped]
        refused = np.empty(len(rows), np.bool_)
        refused[order] = (rank > left[:, 0]) | (gathered > left[:, 1])
        return refused

    def _take(self, rows: Int64s, points: Int64s) -> None:
        known = len(self._left)
        self._left[:, 0] -= np.bincount(rows, minlength=known)
        self._left[:, 1] -= np.bincount(rows, weights=points, minlength=known)


def _burst(rates: Rates) -> Float64s:
    full = [rate * rates.burst_s if rate > 0 else np.inf for rate in (rates.messages, rates.points)]
    return np.array(full, np.float64)


def least(rates: Sequence[Rates]) -> Rates:
    """Return rates with the smallest burst of all: what somebody who was not met yet brings at the least."""
    full = np.array([_burst(one) for one in rates]).min(axis=0)
    messages, points = (0.0 if np.isinf(one) else float(one) for one in full)
    return Rates(messages, points, 1.0)
