"""Which instances samples concern that come after what has been evaluated: those a history has to be corrected for.

For ``rules.engine``, and decided for all samples at once. A sample comes too late by its own series, or by another one
that an instance watches beside it. Rules that hear silence are left out: that nothing came was true, whatever came
later.
"""

import numpy as np

from rules.columns import Int64s, Mask, expand
from rules.installed import Installed
from rules.outcome import LONG_AGO


def spans(installed: Installed, series: Int64s, ts_ms: Int64s, limit_ms: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Return for each instance the first and last of some late samples, and how many are older than a limit.

    Those are more than ``limit_ms`` older than the newest evaluated of their series, and left out.
    """
    columns = installed.columns
    slot = columns.slots_of(series)
    if not len(columns.series.id):
        return {}, 0
    mark_ms = columns.series.mark_ms[slot]
    known = (slot >= 0) & (mark_ms != LONG_AGO)
    young = known & (ts_ms >= mark_ms - limit_ms)
    which, at = expand(columns.watch_starts[slot[young]], columns.watch_starts[slot[young] + 1])
    owners = columns.watches["owner"][columns.watch_order[at]]
    order = np.argsort(owners, kind="stable")
    owners, when = owners[order], ts_ms[young][which][order]
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1])[: len(owners)])
    least, greatest = (np.minimum.reduceat(when, first), np.maximum.reduceat(when, first)) if len(first) else ((), ())
    numbers = columns.instances["id"][owners[first]].tolist()
    found = zip(owners[first].tolist(), numbers, map(int, least), map(int, greatest), strict=True)
    judged = {
        number: (first_ms, last_ms)
        for owner, number, first_ms, last_ms in found
        if not installed.plans[owner].hears_silence
    }
    return judged, int(np.count_nonzero(known & ~young))


def behind(installed: Installed, series: Int64s, ts_ms: Int64s) -> Mask:
    """Return which samples are older than what an instance that watches them has come to by another series."""
    columns = installed.columns
    slot = columns.slots_of(series)
    found = np.zeros(len(series), np.bool_)
    if not len(columns.series.id):
        return found
    marks = columns.series.mark_ms
    known = np.flatnonzero((slot >= 0) & (marks[slot] != LONG_AGO) & (marks[slot] < ts_ms))
    which, at = expand(columns.watch_starts[slot[known]], columns.watch_starts[slot[known] + 1])
    owners = columns.watches["owner"][columns.watch_order[at]]
    until_ms = {owner: installed.evaluated_until(owner) for owner in np.unique(owners).tolist()}
    heard = set[int]()
    for row, owner in zip(known[which].tolist(), owners.tolist(), strict=True):
        found[row] |= ts_ms[row] <= until_ms[owner]
        heard.update([row] if installed.plans[owner].hears_silence else ())
    found[sorted(heard)] = False
    return found
