"""What is worked out of what a type measures, as its page lists it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from api.web import forms
from assets import derivations
from assets.derived_tables import Derivation
from assets.models import Metric
from kernel import i18n

HOW_WORDS: Final = (
    ("run_hours", i18n.noop("Run hours")),
    ("starts", i18n.noop("Number of starts")),
    ("cycles", i18n.noop("Number of cycles")),
    ("energy", i18n.noop("Energy out of power")),
    ("counter", i18n.noop("Consumption by a counter")),
    ("difference", i18n.noop("Change in an hour")),
    ("rate", i18n.noop("Rate of change")),
    ("deviation", i18n.noop("Deviation from the usual")),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A derived metric as the page of a type lists it."""

    row: Derivation
    source: str
    how: str


def on_type(db: Session, described: Mapping[str, Metric], language: str) -> tuple[list[Metric], list[Shown]]:
    """Return what a type measures, and what is worked out of it."""
    rows = derivations.rows_of(db, described.values())
    words = dict(forms.translated(HOW_WORDS, language))
    shown = []
    for one in described.values():
        row = rows.get(one.id)
        if row is not None and row.metric_id == one.id:
            source = described.get(row.source)
            shown.append(Shown(row, source.called(language) if source else row.source, words[row.how]))
    return [one for one in described.values() if one.id not in rows], shown
