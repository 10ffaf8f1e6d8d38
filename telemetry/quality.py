"""How far a reading can be trusted, in a word: good, uncertain, bad, or stale (OPC UA Part 8 calls it status).

For rules, pages, exports and the API, so that all of them use the same word of the same reading. What is known of
a stored reading are bits of its flags, which cost nothing where all is well. *Stale* is said of the newest reading
only, and never stored: a value is stale because of when it is looked at.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from telemetry.readings import Flag, Flags, Mask

Quality = Literal["good", "uncertain", "bad", "stale"]
Reason = Literal["stuck", "clock"]

DOUBTFUL: Final = Flag.UNCERTAIN | Flag.CLOCK | Flag.STUCK
"""What makes a reading uncertain."""
NOT_GOOD: Final = DOUBTFUL | Flag.BAD
UNUSED: Final = Flag.BAD | Flag.HISTORICAL
"""What keeps a reading from rules, unless its metric asks for bad ones too."""


def of(flags: int, *, is_stale: bool = False) -> Quality:
    """Return the quality of one reading; ``is_stale`` where nothing newer came for longer than it speaks."""
    if flags & Flag.BAD:
        return "bad"
    if is_stale:
        return "stale"
    return "uncertain" if flags & DOUBTFUL else "good"


def reason(flags: int) -> Reason | None:
    """Return what makes a reading uncertain, as far as its flags tell: a stuck sensor before a wrong clock."""
    if flags & Flag.STUCK:
        return "stuck"
    return "clock" if flags & Flag.CLOCK else None


def words(flags: Flags) -> NDArray[np.object_]:
    """Return the qualities of stored readings."""
    return _coded(flags, {Flag.BAD: "bad", DOUBTFUL: "uncertain"}, "good")


def reasons(flags: Flags) -> NDArray[np.object_]:
    """Return what makes stored readings uncertain, None where nothing does or the device did not say."""
    return _coded(flags, {Flag.STUCK: "stuck", Flag.CLOCK: "clock"}, None)


def _coded(flags: Flags, by_bits: dict[Flag, str], other: str | None) -> NDArray[np.object_]:
    coded = np.full(len(flags), other, np.object_)
    if flags.any():
        for bits, word in reversed(by_bits.items()):
            coded[has(flags, bits)] = word
    return coded


def has(flags: Flags, bits: Flag) -> Mask:
    """Return which readings have any of some bits."""
    found: Mask = (flags & np.uint8(bits)) != 0
    return found
