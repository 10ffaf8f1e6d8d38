"""Work that the product proposes and a person decides over: an inspection before a trend reaches its limit.

A subscriber of the outbox. A proposal is a request like any other and waits for triage: a forecast is no fault,
and nobody is sent out because of one alone.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import types
from assets.models import Asset
from kernel import i18n
from maintenance.orders import requests
from maintenance.orders.requests import Report
from rules.events import LimitForeseen
from rules.trend_tables import TrendForecast, TrendWatch

ORIGIN: Final = "trend"
_WORDS: Final = i18n.noop("Inspect before it fails: {metric} reaches {limit} about {likely}")
_FIGURES: Final = i18n.noop(
    "{level} now, changes by {per_day} a day; the limit is reached between {earliest} and {latest}."
)


def on_limit_foreseen(session: Session, event: LimitForeseen, now: datetime) -> None:
    """Propose an inspection of an asset, unless the forecast has gone meanwhile."""
    watched = session.get(TrendWatch, event.watch_id)
    found = select(TrendForecast).filter_by(watch_id=event.watch_id, asset_id=event.asset_id)
    told = session.scalars(found).one_or_none()
    if watched is None or told is None or told.likely_at is None:
        return
    asset = session.get_one(Asset, event.asset_id)
    said = {
        "level": _number(told.level),
        "per_day": _number(told.per_day),
        "limit": _number(watched.limit),
        "likely": f"{told.likely_at:%Y-%m-%d}",
        "earliest": f"{told.earliest_at:%Y-%m-%d}" if told.earliest_at else "–",
        "latest": f"{told.latest_at:%Y-%m-%d}" if told.latest_at else "–",
    }
    metric = types.metrics(session, asset.company_id, [asset.type_id])[asset.type_id].get(watched.metric)

    def words(language: str) -> str:
        ours = i18n.catalogue(language)
        name = metric.called(language) if metric else watched.metric
        return "\n".join(ours.get(one, one).format(metric=name, **said) for one in (_WORDS, _FIGURES))

    report = Report(what=words("en"), what_zh=words("zh"))
    requests.make(session, asset, report, origin=ORIGIN, actor="system", now=now, is_proposal=True)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
