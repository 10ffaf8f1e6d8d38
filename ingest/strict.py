"""Reading JSON from strangers: what a payload says, or the one reason why it says nothing.

The quick reader (msgspec) forgives a key given twice and has one word for many faults. So its answer is
believed when the quotation marks add up, and everything else is read again, slowly, to find the reason.
"""

import json
import math
from typing import Any, Final, NoReturn

import msgspec

from ingest.decoded import Reason

MAX_DEPTH: Final = 16
SAID: Final = 120
"""How much of a stranger's text is repeated in an explanation."""

_quick = msgspec.json.Decoder().decode


class Refused(Exception):
    """A payload, or a part of one, breaks the contract.

    ``sentence`` may be a template, marked for translation, that ``values`` fill: then whoever shows it can say it in
    another language. ``detail`` is the same in English.
    """

    def __init__(self, reason: Reason, sentence: str, **values: str | int) -> None:
        self.reason = reason
        self.sentence = sentence
        self.values = values
        self.detail = sentence.format(**values) if values else sentence
        super().__init__(f"{reason}: {self.detail}")


def read(payload: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return the JSON value of a payload.

    Numbers are finite; keys are unique; no text holds NUL or half a surrogate pair, which PostgreSQL and UTF-8
    cannot hold; nothing is nested deeper than 16 levels.

    Raises:
        Refused: it is none of this; the first fault found is named.
    """
    try:
        value = _quick(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _slow(payload)
        _count_strings(value)
        return value
    # Each key and each text takes two quotation marks. More of them means an escaped mark, or a key given
    # twice, of which only the last was kept.
    if payload.count(b'"') != 2 * _count_strings(value):
        return _slow(payload)
    return value


def _slow(payload: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Refused(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from None
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise Refused(Reason.NOT_JSON, f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Refused(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(Reason.DUPLICATE_KEY, f"“{key[:SAID]}” is given twice")
            seen.add(key)
    return unique


def _no_constant(name: str) -> NoReturn:
    raise Refused(Reason.NOT_FINITE, f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Refused(Reason.NOT_FINITE, f"{digits[:SAID]} is too large for a number")
    return number


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # more digits than Python converts
        raise Refused(Reason.NOT_FINITE, f"a number of {len(digits)} digits is too large") from None


def _count_strings(value: Any, depth: int = 0) -> int:  # noqa: ANN401 - JSON is any of its types
    """Return the number of keys and texts in a value, having checked each of them and the depth."""
    if isinstance(value, str):
        _check_text(value)
        return 1
    if not isinstance(value, dict | list):
        return 0
    if depth == MAX_DEPTH:
        raise Refused(Reason.TOO_DEEP, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return sum(_count_strings(item, depth + 1) for item in value)
    for key in value:
        _check_text(key)
    return len(value) + sum(_count_strings(item, depth + 1) for item in value.values())


def _check_text(text: str) -> None:
    if text.isascii():
        if "\0" not in text:
            return
    else:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused(Reason.BAD_TEXT, "a text holds half a surrogate pair") from None
        if "\0" not in text:
            return
    raise Refused(Reason.BAD_TEXT, "a text holds the character NUL")
