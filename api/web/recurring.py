"""A recurrence as people say it and as a form asks for it, to and from the rule that a plan keeps (RFC 5545 subset).

Rules that no sentence or field here can carry are shown and edited as they are written.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from kernel import i18n
from kernel.errors import Invalid
from maintenance.plans import recurrence

DAYS: Final = {
    "MO": i18n.noop("Monday"),
    "TU": i18n.noop("Tuesday"),
    "WE": i18n.noop("Wednesday"),
    "TH": i18n.noop("Thursday"),
    "FR": i18n.noop("Friday"),
    "SA": i18n.noop("Saturday"),
    "SU": i18n.noop("Sunday"),
}
WORKING: Final = "MO,TU,WE,TH,FR"
ORDINALS: Final = {
    "1": i18n.noop("the first {day}"),
    "2": i18n.noop("the second {day}"),
    "3": i18n.noop("the third {day}"),
    "4": i18n.noop("the fourth {day}"),
    "5": i18n.noop("the fifth {day}"),
    "-1": i18n.noop("the last {day}"),
}
MONTHS: Final = (
    i18n.noop("January"),
    i18n.noop("February"),
    i18n.noop("March"),
    i18n.noop("April"),
    i18n.noop("May"),
    i18n.noop("June"),
    i18n.noop("July"),
    i18n.noop("August"),
    i18n.noop("September"),
    i18n.noop("October"),
    i18n.noop("November"),
    i18n.noop("December"),
)
UNITS: Final = {
    "DAILY": i18n.noop("days"),
    "WEEKLY": i18n.noop("weeks"),
    "MONTHLY": i18n.noop("months"),
    "YEARLY": i18n.noop("years"),
}
ONCE: Final = {
    "DAILY": i18n.noop("Every day"),
    "WEEKLY": i18n.noop("Every week on {days}"),
    "MONTHLY": i18n.noop("Every month on {days}"),
    "YEARLY": i18n.noop("Every year on {days}"),
}
MORE: Final = {
    "DAILY": i18n.noop("Every {n} days"),
    "WEEKLY": i18n.noop("Every {n} weeks on {days}"),
    "MONTHLY": i18n.noop("Every {n} months on {days}"),
    "YEARLY": i18n.noop("Every {n} years on {days}"),
}
ON_DAY: Final = i18n.noop("day {n}")
LAST_DAY: Final = i18n.noop("the last day")
DAY_OF_MONTH: Final = i18n.noop("{day} of {month}")
WORKING_DAY: Final = i18n.noop("Every working day")
AND: Final = i18n.noop("{a}, {b}")
COUNTED: Final = i18n.noop("{text}, {n} times in all")
FORM: Final = ("unit", "every", "weekdays", "on", "month_day", "ordinal", "ordinal_day")
"""The fields a form asks for: unit and every ("2 weeks"), and which days of a week or month."""


def in_words(rule: str, starts_on: date, language: str) -> str:
    """Return a rule as a sentence, or as it is written where there is none for it."""
    parts = _parts(rule)
    say = i18n.catalogue(language)
    frequency, n = parts["FREQ"], int(parts.get("INTERVAL", "1"))
    if frequency == "WEEKLY" and n == 1 and parts.get("BYDAY") == WORKING:
        text = say.get(WORKING_DAY, WORKING_DAY)
    elif frequency == "DAILY" and set(parts) <= {"FREQ", "INTERVAL", "COUNT"}:
        text = _fill(say, ONCE[frequency] if n == 1 else MORE[frequency], n=n)
    else:
        days = _days(parts, starts_on, say)
        if days is None:
            return rule
        text = _fill(say, ONCE[frequency] if n == 1 else MORE[frequency], n=n, days=days)
    return _fill(say, COUNTED, text=text, n=parts["COUNT"]) if "COUNT" in parts else text


def from_form(given: Mapping[str, str]) -> str:
    """Return the rule that a form asks for; what is written as a rule counts before its other fields.

    Raises:
        Invalid: it is no rule we accept; the error names the field.
    """
    own = given.get("rrule", "").strip()
    if own:
        return recurrence.parse(own)
    unit = given.get("unit", "")
    if unit not in UNITS:
        raise Invalid("Choose how often it comes.", field="unit")
    every = given.get("every", "1").strip() or "1"
    if not every.isdecimal() or not 1 <= int(every[:6]) <= 999:  # noqa: PLR2004 - the bound of INTERVAL
        raise Invalid("Please enter a number from 1 to 999.", field="every")
    rule = f"FREQ={unit}" + (f";INTERVAL={int(every)}" if int(every) > 1 else "")
    chosen = [day for day in DAYS if day in given.get("weekdays", "").split(",")]
    if unit == "WEEKLY" and chosen:
        rule += f";BYDAY={','.join(chosen)}"
    if unit == "MONTHLY" and given.get("on") == "day" and given.get("month_day"):
        rule += f";BYMONTHDAY={given['month_day']}"
    if unit == "MONTHLY" and given.get("on") == "weekday":
        rule += f";BYDAY={given.get('ordinal', '')}{given.get('ordinal_day', '')}"
    return recurrence.parse(rule)


def to_form(rule: str) -> dict[str, str]:
    """Return the fields of a form that ask for a rule; only ``rrule`` where they cannot."""
    parts = _parts(rule)
    fields = {"unit": parts["FREQ"], "every": parts.get("INTERVAL", "1"), "on": "first"}
    by_day, by_month_day = parts.get("BYDAY", ""), parts.get("BYMONTHDAY", "")
    if parts["FREQ"] == "WEEKLY":
        fields["weekdays"] = by_day
    elif parts["FREQ"] == "MONTHLY" and by_month_day:
        fields |= {"on": "day", "month_day": by_month_day}
    elif parts["FREQ"] == "MONTHLY" and by_day:
        fields |= {"on": "weekday", "ordinal": by_day[:-2], "ordinal_day": by_day[-2:]}
    try:
        return fields if from_form(fields) == rule else {"rrule": rule}
    except Invalid:
        return {"rrule": rule}


def _parts(rule: str) -> dict[str, str]:
    return dict(piece.split("=", 1) for piece in rule.split(";"))


def _fill(say: Mapping[str, str], message: str, **values: object) -> str:
    return say.get(message, message).format(**values)


def _days(parts: Mapping[str, str], starts_on: date, say: Mapping[str, str]) -> str | None:
    """Return the days of a rule in words, or None where there are none for it."""
    frequency = parts["FREQ"]
    by_day, by_month_day, by_month = (parts.get(name, "") for name in ("BYDAY", "BYMONTHDAY", "BYMONTH"))
    if frequency == "WEEKLY" and not by_month:
        return _weekdays(by_day or list(DAYS)[starts_on.weekday()], say)
    if frequency == "MONTHLY" and not by_month and not (by_day and by_month_day):
        return _weekdays(by_day, say) if by_day else _month_days(by_month_day or str(starts_on.day), say)
    if frequency == "YEARLY" and not by_day:
        months = by_month.split(",") if by_month else [str(starts_on.month)]
        days = (by_month_day or str(starts_on.day)).split(",")
        if len(days) > 1 or int(days[0]) < 1:
            return None
        return _listed(
            [
                _fill(say, DAY_OF_MONTH, day=_month_days(days[0], say), month=say.get(name, name))
                for name in (MONTHS[int(month) - 1] for month in months)
            ],
            say,
        )
    return None


def _weekdays(by_day: str, say: Mapping[str, str]) -> str | None:
    names = []
    for one in by_day.split(","):
        ordinal, day = one[:-2].removeprefix("+"), DAYS[one[-2:]]
        name = say.get(day, day)
        if ordinal and ordinal not in ORDINALS:
            return None
        names.append(_fill(say, ORDINALS[ordinal], day=name) if ordinal else name)
    return _listed(names, say)


def _month_days(by_month_day: str, say: Mapping[str, str]) -> str | None:
    days = [int(day) for day in by_month_day.split(",")]
    if any(day < -1 for day in days):
        return None
    return _listed([say.get(LAST_DAY, LAST_DAY) if day == -1 else _fill(say, ON_DAY, n=day) for day in days], say)


def _listed(names: list[str], say: Mapping[str, str]) -> str:
    text = names[0]
    for name in names[1:]:
        text = _fill(say, AND, a=text, b=name)
    return text
