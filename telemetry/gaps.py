"""Where readings are missing: spans of a range in which nothing said how things are. Pure.

A reading speaks for the time after it, at most for as long as its metric holds (SEMANTICS A8). What lies between it and
the next one is a gap when that is further away. A metric that reports when it changes has none.
"""

import numpy as np

from telemetry.readings import Int64s


def find(ts_ms: Int64s, start_ms: int, end_ms: int, *, hold_ms: int) -> Int64s:
    """Return the gaps of ``[start_ms, end_ms)`` as int64[g, 2]: from the last reading before each to the first after.

    ``ts_ms``: times of readings, rising, from at least ``hold_ms`` before the start on. A gap that reaches over an end
    of the range is cut there; ``end_ms`` is not in the future.
    """
    edges = np.concatenate([[start_ms - hold_ms - 1], ts_ms[ts_ms < end_ms], [end_ms]])
    if len(edges) > 2 and edges[1] <= start_ms:  # noqa: PLR2004 - a reading between the ends
        edges = edges[1:]
    begins, ends = edges[:-1], edges[1:]
    missing = (ends - begins > hold_ms) & (ends > start_ms)
    found: Int64s = np.stack([np.maximum(begins[missing], start_ms), ends[missing]], axis=1).astype(np.int64)
    return found
