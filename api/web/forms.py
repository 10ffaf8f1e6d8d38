"""What a form sent, read as people type it; and a refusal, given back to the field it is about.

A form's fields arrive as texts, empty ones too. What cannot be read is refused like any other bad input, so that
the page comes back with the words still in it.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from fastapi import Request

from api import instants
from kernel import i18n
from kernel.errors import FixwrightError, Invalid


def whole(text: str, field: str) -> int | None:
    """Return a whole number, or None where nothing was typed.

    Raises:
        Invalid: it is no whole number.
    """
    plain = _plain(text)
    if not plain:
        return None
    if not plain.removeprefix("-").isdecimal() or len(plain) > 18:  # noqa: PLR2004 - what the database can hold
        raise Invalid("This must be a whole number.", field=field)
    return int(plain)


def number(text: str, field: str) -> float | None:
    """Return a number, or None where nothing was typed; a comma counts as the decimal point.

    Raises:
        Invalid: it is no number.
    """
    plain = _plain(text).replace(",", ".")
    if not plain:
        return None
    try:
        value = float(plain)
    except ValueError as error:
        raise Invalid("This must be a number.", field=field) from error
    if not math.isfinite(value):
        raise Invalid("This must be a number.", field=field)
    return value


def day(text: str, field: str) -> date | None:
    """Return a calendar day, or None where nothing was typed.

    Raises:
        Invalid: it is no day.
    """
    if not text.strip():
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise Invalid("This must be a date.", field=field) from error


def moment(text: str, field: str, zone: tzinfo) -> datetime | None:
    """Return a local date and time of a zone as an instant in UTC, or None where nothing was typed.

    Raises:
        Invalid: it is no date and time.
    """
    if not text.strip():
        return None
    try:
        typed = datetime.fromisoformat(text.strip())
        found = (typed if typed.tzinfo else typed.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid("This must be a date and time.", field=field) from error
    if not instants.FIRST <= found <= instants.LAST:
        raise Invalid("This must be a date and time.", field=field)
    return found


def refused(request: Request, error: FixwrightError) -> dict[str, str]:
    """Return a refusal by the field it is about, in the reader's language; "" is the form as a whole."""
    return {error.field or "": said(request, error.sentence, error.values)}


def said(request: Request, sentence: str, values: Mapping[str, Any]) -> str:
    """Return an English sentence in the reader's language, its placeholders filled."""
    words = i18n.catalogue(getattr(request.state, "language", "en"))
    translated = words.get(sentence, sentence)
    return translated.format(**values) if values else translated


def options(rows: Iterable[Any], language: str) -> list[tuple[int, str]]:
    """Return rows that have names as the options of a choice, in order of the names shown."""
    return sorted(((row.id, row.called(language)) for row in rows), key=lambda option: option[1])


def translated(pairs: Iterable[tuple[Any, str]], language: str) -> list[tuple[Any, str]]:
    """Return the options of a choice with their English words translated, in the order given."""
    words = i18n.catalogue(language)
    return [(value, words.get(text, text)) for value, text in pairs]


def _plain(text: str) -> str:
    return text.strip().replace("−", "-").replace(" ", "")
