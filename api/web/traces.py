"""Why not? A rule on one asset as it stands now: which branch is false, with which value against which limit."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from api.v1 import traces as v1
from api.web import pages, rules
from assets import types
from assets.models import Asset
from kernel import clock, i18n
from people import scope
from people.scope import Viewer
from rules import sentences, visible
from rules.conditions import All, AnyOf, Not
from rules.models import AlarmType
from rules.trace import Branch

router = APIRouter()
Reader = Annotated[Viewer, needs("rules.read")]
MOST_OFFERED = 200


@router.get("/rules/{rule_id}/trace")
def why(request: Request, db: Db, parts: Parts, viewer: Reader, rule_id: int, asset: str = "") -> Response:
    """Show a rule on an asset, named by its code, branch by branch."""
    kind = visible.find(db, viewer, rule_id)
    seen = scope.visible(Asset, viewer, "telemetry.read")
    chosen = db.scalars(select(Asset).where(Asset.code == asset.strip(), seen)).one_or_none() if asset.strip() else None
    if chosen is None and kind.asset_id is not None and not asset.strip():
        chosen = db.scalars(select(Asset).where(Asset.id == kind.asset_id, seen)).one_or_none()
    language = request.state.language
    found = v1.looked(db, parts.store, viewer, rule_id, chosen) if chosen is not None else None
    known = types.metrics(db, viewer.company_id, [chosen.type_id])[chosen.type_id] if chosen is not None else {}
    words = rules.metric_words(known, language)
    return pages.render(
        request,
        "rules/trace.html",
        kind=kind,
        asset=chosen,
        asked=asset,
        is_missing=bool(asset.strip()) and chosen is None,
        offered=_offered(db, viewer, kind),
        trace=found,
        metrics=known,
        says=lambda branch: _says(branch, words, language),
        group=_group,
        truth=v1.truth_of,
        moment=lambda ms: None if ms is None else clock.from_ms(ms),
    )


def _says(branch: Branch, words: dict[str, sentences.Word], language: str) -> str:
    token = i18n.language.set(language)
    try:
        return sentences.condition(branch.condition, words)
    finally:
        i18n.language.reset(token)


def _group(branch: Branch) -> str:
    """Return which kind of group a branch is, "" where it compares."""
    match branch.condition:
        case All():
            return "all"
        case AnyOf():
            return "any"
        case Not():
            return "not"
        case _:
            return ""


def _offered(db: Session, viewer: Viewer, kind: AlarmType) -> list[tuple[str, Asset]]:
    """Return assets that the rule is for, to choose from; a longer list is typed."""
    query = select(Asset).where(scope.visible(Asset, viewer, "telemetry.read"), Asset.status != "scrapped")
    if kind.asset_id is not None:
        query = query.where(Asset.id == kind.asset_id)
    else:
        line = [one for one, above in types.lineage(db, viewer.company_id).items() if kind.asset_type_id in above]
        query = query.where(Asset.type_id.in_(line))
    return [(asset.code, asset) for asset in db.scalars(query.order_by(Asset.code).limit(MOST_OFFERED))]
