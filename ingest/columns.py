"""Scalars as devices send them, turned into the columns that readings are kept in."""

from typing import Any, Final

import numpy as np

from ingest.decoded import Reason
from telemetry.readings import MAX_TEXT, Flag, Flags, Float64s, Texts

_EXACT_BELOW: Final = 2.0**53
_TOO_LARGE: Final = Reason.NOT_FINITE, "an integer is too large for a number"
_BAD_TEXT: Final = Reason.BAD_TEXT, f"a text holds NUL or more than {MAX_TEXT} characters"


def of(flat: list[Any]) -> tuple[Float64s, Flags, Texts | None, dict[int, tuple[Reason, str]]]:
    """Return the value, flags and text of scalars, and by row what is wrong with those that cannot be stored."""
    bad: dict[int, tuple[Reason, str]] = {}
    kinds = set(map(type, flat))
    flags = np.zeros(len(flat), np.uint8)
    text: Texts | None = None
    numbers: list[Any] = flat
    if str in kinds:
        text = [item if item.__class__ is str else None for item in flat]
        numbers = [np.nan if item.__class__ is str else item for item in flat]
        for row, item in enumerate(text):
            if item is not None and (len(item) > MAX_TEXT or "\0" in item):
                bad[row] = _BAD_TEXT
    try:
        value = np.array(numbers, np.float64)
    except OverflowError:
        fitting = [*map(_float_or_inf, numbers)]
        value = np.array(fitting, np.float64)
        bad |= dict.fromkeys(np.flatnonzero(np.isinf(value)).tolist(), _TOO_LARGE)
    if bool in kinds:
        flags[[item.__class__ is bool for item in flat]] |= np.uint8(Flag.BOOLEAN)
    if int in kinds:
        for row in np.flatnonzero(np.abs(value) >= _EXACT_BELOW).tolist():
            item = flat[row]
            if item.__class__ is int and row not in bad and int(value[row]) != item:
                flags[row] |= np.uint8(Flag.EXACT)
                text = [None] * len(flat) if text is None else text
                text[row] = str(item)
    return value, flags, text, bad


def _float_or_inf(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return np.inf
