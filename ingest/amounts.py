"""One value of a message and what is kept of it: by its word, as a number of the unit wanted, or as it is."""

import math
import re
from typing import Any, Final

from ingest.decoded import Reason
from ingest.forms import Scalar
from ingest.mapping import Amount
from ingest.paths import said
from ingest.strict import Refused
from telemetry import units
from telemetry.readings import MAX_TEXT
from telemetry.units import Conversion

_YES: Final = frozenset({"true", "1", "on", "yes"})
_NO: Final = frozenset({"false", "0", "off", "no"})


class Kept:
    """How one value becomes the one that is kept."""

    def __init__(self, place: str, amount: Amount) -> None:
        self.place = place
        self._kind, self._values, self._to = amount.kind, amount.values, amount.to
        into = units.conversion(amount.unit, amount.to) if amount.unit and amount.to else Conversion()
        self._scale = Conversion(amount.scale, amount.offset)
        self._by = _after(self._scale, into)
        self._is_plain = self._by == Conversion()

    def of(self, value: Any, label: str, unit: str | None = None) -> Scalar | None:  # noqa: ANN401 - JSON
        """Return the value to keep; ``unit`` is the one the message itself names."""
        if value is None or (value.__class__ is float and math.isnan(value)):
            return None
        if isinstance(value, dict | list):
            raise self._refused(label, value, "a single value")
        if self._values and (known := word(value)) in self._values:
            return self._values[known]
        by, is_plain = self._by, self._is_plain
        if unit is not None and self._to:
            try:
                by, is_plain = _after(self._scale, units.conversion(unit, self._to)), False
            except units.UnknownUnit as error:
                raise Refused(Reason.UNKNOWN_UNIT, f"{self.place} “{label}”: {error}") from None
        if self._kind == "text":
            return _bounded(word(value), self.place, label)
        if self._kind == "boolean":
            return self._yes_or_no(value, label)
        if self._kind == "any" and is_plain:
            return _bounded(value, self.place, label)
        try:
            number = number_of(value)
        except (TypeError, ValueError):
            raise self._refused(label, value, "a number") from None
        return self._finite(number if is_plain else _round(by.of(number)), label)

    def _yes_or_no(self, value: Any, label: str) -> bool:  # noqa: ANN401 - a scalar
        said_word = word(value).lower()
        if said_word not in _YES | _NO:
            raise self._refused(label, value, "yes or no")
        return said_word in _YES

    def _finite(self, number: float, label: str) -> float:
        if not math.isfinite(number):
            raise Refused(Reason.NOT_FINITE, f"{self.place} “{label}”: no finite number")
        return number

    def _refused(self, label: str, value: object, expected: str) -> Refused:
        return Refused(Reason.BAD_VALUE, f"{self.place} “{label}”: expected {expected}, found {said(value)}")


def word(value: object) -> str:
    """Return a single value as a word, the way mappings compare them: ``true``, ``1``, ``ON``; nothing is ""."""
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def number_of(value: Any) -> Any:  # noqa: ANN401 - whatever a payload holds
    """Return a value as a number; a whole one stays whole, so that counters of 64 bits stay exact."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        return int(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _after(first: Conversion, then: Conversion) -> Conversion:
    return Conversion(first.scale * then.scale, first.offset * then.scale + then.offset)


def _round(number: float) -> float:
    """Return a computed number without the dust of binary fractions: 0.1 * 3 is 0.3."""
    return float(f"{number:.12g}")


def _bounded(value: Scalar, place: str, label: str) -> Scalar:
    if isinstance(value, str) and (len(value) > MAX_TEXT or "\0" in value):
        raise Refused(Reason.BAD_TEXT, f"{place} “{label}”: a text of at most {MAX_TEXT} characters is expected")
    if value.__class__ is int and not -(2**1023) < value < 2**1023:
        raise Refused(Reason.NOT_FINITE, f"{place} “{label}”: too large for a number")
    return value
