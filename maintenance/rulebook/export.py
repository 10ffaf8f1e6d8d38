"""Rules written out as text: one, some, those of a type, or all that a person may read."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from assets.models import Asset
from kernel.db import Json
from kernel.errors import Invalid
from maintenance.orders import policies
from maintenance.rulebook import text
from maintenance.rulebook.names import Names
from maintenance.rulebook.written import MOST_RULES, SCHEMA
from people import scope
from people.scope import Viewer
from rules import visible
from rules.models import AlarmType, RuleOverride, RuleVersion
from rules.visible import Wanted

Held = tuple[AlarmType, RuleVersion]
_SECTIONS: Final = ("limits", "deadbands", "durations_s")


def chosen(session: Session, viewer: Viewer, *, ids: Sequence[int] = (), wanted: Wanted | None = None) -> list[Held]:
    """Return the rules that are meant, by id or by a filter, in order of key; what is not in sight is left out.

    Raises:
        Invalid: they are more than a file holds.
    """
    rows = visible.listed(session, viewer, wanted or Wanted(), limit=MOST_RULES + 1, ids=ids or None)
    if len(rows) > MOST_RULES:
        raise Invalid("A file holds at most {most} rules.", field="rules", most=MOST_RULES)
    return rows


def as_text(session: Session, viewer: Viewer, rules: Sequence[Held]) -> str:
    """Return rules as a file that ``rulebook.importing`` reads back without a change."""
    return text.write({"schema": SCHEMA}, as_written(session, viewer, rules))


def as_written(session: Session, viewer: Viewer, rules: Sequence[Held], names: Names | None = None) -> list[Json]:
    """Return what a file says of rules; five queries beside those of the names, however many they are."""
    names = names or Names(session, viewer)
    kinds = [kind for kind, _ in rules]
    lines = policies.own_lines(session, kinds)
    patches = _overrides(session, viewer, kinds)
    of_assets = {kind.asset_id for kind in kinds if kind.asset_id is not None}
    rows = session.execute(select(Asset.id, Asset.code).where(Asset.id.in_(of_assets)))
    codes = {row.id: row.code for row in rows}
    written = []
    for kind, version in rules:
        said: dict[str, Any] = {"key": kind.key, "name": kind.name}
        if kind.name_zh:
            said["name_zh"] = kind.name_zh
        if kind.asset_id is not None:
            said["asset"] = codes[kind.asset_id]
        else:
            said["asset_type"] = names.type_key(kind.asset_type_id or 0)
            if (path := names.unit_path(kind.unit_id)) is not None:
                said["unit"] = path
        said["enabled"] = kind.is_enabled
        said |= {"latches": kind.latches, "suppresses_below": kind.suppresses_below}
        said["suppressed_while"] = kind.suppressed_while
        said["orders"] = [names.written(line) for line in lines.get(kind.id, ())]
        said["definition"] = version.definition
        said["overrides"] = patches.get(kind.id, [])
        written.append(said)
    return written


def _overrides(session: Session, viewer: Viewer, kinds: Sequence[AlarmType]) -> dict[int, list[Json]]:
    rows = session.execute(
        select(RuleOverride, Asset.code)
        .join(Asset, Asset.id == RuleOverride.asset_id)
        .where(RuleOverride.alarm_type_id.in_([kind.id for kind in kinds]), scope.visible(Asset, viewer, "rules.read"))
        .order_by(Asset.code)
    )
    found: dict[int, list[Json]] = defaultdict(list)
    for row, code in rows:
        found[row.alarm_type_id].append(
            {"asset": code} | {name: row.patch[name] for name in _SECTIONS if row.patch.get(name)}
        )
    return found
