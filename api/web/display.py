"""How a value looks on a page: times, numbers, quantities, money, names and small drawings.

For the templates. The functions are pure; ``install`` offers them to a Jinja environment, where they read the
reader's language, zone and clock from the page's own context. Numbers keep one form in both languages
(1,234.5), because the trades that read them compare figures, not locales.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from zlib import crc32
from zoneinfo import ZoneInfo

from babel.numbers import format_currency
from jinja2 import Environment, pass_context
from jinja2.runtime import Context

from kernel import clock, i18n
from rules import platform

AVATAR_TONES = 8
EMPTY = "–"
_HAN = re.compile(r"[\u3400-\u9fff]")

PAST = {
    "now": i18n.noop("just now"),
    "min": i18n.noop("{n} min ago"),
    "h": i18n.noop("{n} h ago"),
    "d": i18n.noop("{n} d ago"),
    "mo": i18n.noop("{n} mo ago"),
    "y": i18n.noop("{n} y ago"),
}
FUTURE = {
    "now": i18n.noop("just now"),
    "min": i18n.noop("in {n} min"),
    "h": i18n.noop("in {n} h"),
    "d": i18n.noop("in {n} d"),
    "mo": i18n.noop("in {n} mo"),
    "y": i18n.noop("in {n} y"),
}
DURATIONS = {
    "d": i18n.noop("{d} d {h} h"),
    "h": i18n.noop("{h} h {m} min"),
    "min": i18n.noop("{m} min"),
}


def relative(moment: datetime, now: datetime, lang: str) -> str:
    """Return how long ago or how soon an instant is, in one unit.

    The unit is the largest that fits once; the count is cut, never rounded up, so that "2 h ago" never
    stands for 1 h 40 min. ``static/js/relative-time.js`` follows the same steps.
    """
    seconds = (now - moment).total_seconds()
    unit, count = _largest_unit(abs(seconds))
    return _said(lang, (PAST if seconds >= 0 else FUTURE)[unit]).format(n=count)


def _largest_unit(seconds: float) -> tuple[str, int]:
    for unit, length in (("y", 31_536_000), ("mo", 2_592_000), ("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return unit, int(seconds // length)
    return "now", 0


def _said(lang: str, message: str) -> str:
    return i18n.catalogue(lang).get(message, message)


def phrases(lang: str) -> dict[str, dict[str, str]]:
    """Return the phrases of ``relative``, for the island that keeps them fresh."""
    return {
        "past": {unit: _said(lang, text) for unit, text in PAST.items()},
        "future": {unit: _said(lang, text) for unit, text in FUTURE.items()},
    }


def exact(moment: datetime, zone: tzinfo) -> str:
    """Return an instant to the second in the reader's zone, with the offset written out."""
    local = moment.astimezone(zone)
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} UTC{offset[:3]}:{offset[3:5]}"


def clock_time(moment: datetime, zone: tzinfo) -> str:
    """Return the hour and minute of an instant in the reader's zone."""
    return f"{moment.astimezone(zone):%H:%M}"


def day(moment: datetime | date, zone: tzinfo) -> str:
    """Return the calendar day of an instant in the reader's zone, or of a date as it stands."""
    if isinstance(moment, datetime):
        moment = moment.astimezone(zone)
    return f"{moment:%Y-%m-%d}"


def duration(seconds: float, lang: str) -> str:
    """Return a length of time in its two largest units, for example ``1 h 20 min``."""
    minutes = round(abs(seconds) / 60)
    days, rest = divmod(minutes, 1440)
    hours, left = divmod(rest, 60)
    sign = "−" if seconds < 0 and minutes else ""
    if days:
        return sign + _said(lang, DURATIONS["d"]).format(d=days, h=hours)
    if hours:
        return sign + _said(lang, DURATIONS["h"]).format(h=hours, m=left)
    return sign + _said(lang, DURATIONS["min"]).format(m=left)


def number(value: Decimal | float | None, decimals: int | None = None) -> str:
    """Return a number with thousands marked and, unless ``decimals`` says otherwise, no idle zeros."""
    if value is None or not math.isfinite(value):
        return EMPTY
    if decimals is not None:
        text = f"{value:,.{decimals}f}"
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = f"{value:,.{_decimals(float(value))}f}".rstrip("0").rstrip(".")
    return text.replace("-", "−", 1)


def _decimals(value: float) -> int:
    """Return how many decimals can mean something: four, or for what is below one as many as give four digits."""
    return 4 if abs(value) >= 1 or not value else 3 - math.floor(math.log10(abs(value)))


def money(amount: Decimal | float | None, currency: str, lang: str) -> str:
    """Return an amount with the sign of its currency as the language writes it."""
    if amount is None:
        return EMPTY
    return str(format_currency(amount, currency, locale={"zh": "zh_CN"}.get(lang, "en")))


def initials(name: str) -> str:
    """Return two letters that stand for a person: the end of a Chinese name, the heads of another."""
    name = name.strip()
    if _HAN.search(name):
        return name[-2:]
    words = name.split()
    return (words[0][:1] + (words[-1][:1] if len(words) > 1 else "")).upper() if words else "?"


def tone(name: str) -> int:
    """Return the avatar colour of a name, the same on every page and every machine."""
    return crc32(name.encode()) % AVATAR_TONES


def spark(values: Sequence[float | None], width: int = 96, height: int = 24) -> list[str]:
    """Return the lines of a sparkline as SVG points, one string a run; a gap in ``values`` breaks the line."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    step = width / max(len(values) - 1, 1)
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
            continue
        runs[-1].append(f"{index * step:.1f},{1 + (height - 2) * (1 - (value - low) / span):.1f}")
    return [" ".join(run) for run in runs if len(run) > 1]


def address(path: str, query: Iterable[tuple[str, str]], changes: Mapping[str, object]) -> str:
    """Return ``path`` with its query parameters changed; a change to None or "" removes the parameter.

    A change to anything but ``after`` also drops ``after``: a cursor is true for one order and filter only.
    """
    dropped = set(changes) | {"after"}
    pairs = [(key, value) for key, value in query if key not in dropped]
    pairs += [(key, str(value)) for key, value in changes.items() if value not in (None, "")]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def install(environment: Environment) -> None:
    """Offer this module and ``_`` to every template; language, zone, clock and address come from the page's context."""
    environment.globals.update(_=i18n.gettext, link=_link, ago_phrases=_phrases, avatar_tone=tone, spark=spark)
    environment.filters.update(
        relative=_relative,
        exact=_exact,
        clock_time=_clock_time,
        day=_day,
        duration=_duration,
        number=number,
        money=_money,
        initials=initials,
        json=_json,
        own_name=own_name,
    )


def own_name(alarm: Any, is_message: bool = False) -> str:  # noqa: ANN401, FBT001, FBT002 - a row; called from templates
    """Return what an alarm without a rule is called: our own by their names, a device's by its code or message."""
    if alarm.type_key in platform.NAMES:
        return i18n.gettext(platform.NAMES[alarm.type_key])
    return str((alarm.message if is_message else "") or alarm.type_key)


def _json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _lang(context: Context) -> str:
    return str(context.get("lang") or "en")


def _zone(context: Context) -> tzinfo:
    zone = context.get("zone") or getattr(context.get("viewer"), "zone", None) or UTC
    return zone if isinstance(zone, tzinfo) else ZoneInfo(str(zone))


def _query(context: Context) -> list[tuple[str, str]]:
    """Return the address's own parameters, from ``query`` or else from the request."""
    query: Any = context.get("query")
    if query is None:
        query = getattr(context.get("request"), "query_params", ())
    if hasattr(query, "multi_items"):
        return list(query.multi_items())
    return list(query.items() if isinstance(query, Mapping) else query)


@pass_context
def _phrases(context: Context) -> dict[str, dict[str, str]]:
    return phrases(_lang(context))


@pass_context
def _link(context: Context, path: str | None = None, /, **changes: object) -> str:
    if path is not None:
        return address(path, (), changes)
    return address(context.get("path") or "", _query(context), changes)


@pass_context
def _relative(context: Context, moment: datetime) -> str:
    return relative(moment, context.get("now") or clock.now(), _lang(context))


@pass_context
def _exact(context: Context, moment: datetime) -> str:
    return exact(moment, _zone(context))


@pass_context
def _clock_time(context: Context, moment: datetime) -> str:
    return clock_time(moment, _zone(context))


@pass_context
def _day(context: Context, moment: datetime | date) -> str:
    return day(moment, _zone(context))


@pass_context
def _duration(context: Context, seconds: float) -> str:
    return duration(seconds, _lang(context))


@pass_context
def _money(context: Context, amount: Decimal | float | None, currency: str = "CNY") -> str:
    return money(amount, currency, _lang(context))
