"""What a sample says, as a number and in words (A3)."""

import math
import re
from typing import Final

Value = float | str
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_EXACT: Final = 1e15


def number_of(value: Value) -> float | None:
    """Return a value as a number; a text that reads as one is one (A3)."""
    if isinstance(value, str):
        found = float(value) if _NUMBER.fullmatch(value) else math.nan
        return found if math.isfinite(found) else None
    return value


def text_of(value: Value) -> str:
    """Return a value in words: a whole number without a point, others as short as they can be told apart."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
