"""What an alarm rests on, told from what was frozen with it: the same years later, whatever became of its rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.web import rules
from assets.models import Metric
from kernel import clock, i18n
from people.scope import Viewer
from rules import conditions, sentences
from rules.faults import DefinitionRefused
from rules.models import Alarm, AlarmType, RuleVersion


@dataclass(frozen=True, slots=True)
class Why:
    """What an alarm rests on, as it was frozen when it was raised.

    ``today`` is the version in force; ``differences`` are the lines in which it differs from the one that raised the
    alarm, as ``rules.differences`` gives them. ``is_removed``: the rule is no more.
    """

    sentence: str | None
    clear: str | None
    version: int | None
    today: int | None
    is_removed: bool
    differences: Sequence[tuple[str, str]]
    limits: Sequence[dict[str, Any]]
    supplied: Sequence[dict[str, Any]]
    """Lengths and counts that attributes supplied."""
    samples: Sequence[dict[str, Any]]
    held_for_s: float
    opening: tuple[str, str, str] | None
    """The window of its schedule by the clock of the place: from, until, and the zone."""
    is_late: bool


def of(db: Session, viewer: Viewer, found: Alarm, described: Mapping[str, Metric], language: str) -> Why | None:
    """Return what an alarm rests on; None where nothing was kept."""
    if not found.evidence and found.rule_version is None:
        return None
    number = found.evidence.get("rule_version", found.rule_version)
    kind = found.alarm_type
    then = _version(db, kind, number)
    told = _told(then, described, language) if then else None
    now = _version(db, kind, kind.version) if kind and then and kind.version != number else None
    return Why(
        sentence=dict(told.create).get(found.severity) if told else None,
        clear=told.clear if told else None,
        version=number,
        today=kind.version if kind else None,
        is_removed=kind is not None and kind.removed_at is not None,
        differences=rules.differences(then, now) if then and now and viewer.may("rules.read") else (),
        limits=found.evidence.get("limits", ()),
        supplied=found.evidence.get("supplied", ()),
        samples=[sample | {"at": clock.from_ms(sample["ts_ms"])} for sample in found.evidence.get("samples", ())],
        held_for_s=found.evidence.get("held_for_ms", 0) / 1000,
        opening=_by_the_clock(found.evidence.get("schedule")),
        is_late=found.evidence.get("is_late", False),
    )


def _by_the_clock(frozen: dict[str, Any] | None) -> tuple[str, str, str] | None:
    if frozen is None:
        return None
    zone = ZoneInfo(frozen["zone"])
    edges = [
        clock.from_ms(frozen[name]).astimezone(zone).strftime("%Y-%m-%d %H:%M") for name in ("from_ms", "until_ms")
    ]
    return edges[0], edges[1], zone.key


def _version(db: Session, kind: AlarmType | None, number: int | None) -> RuleVersion | None:
    if kind is None:
        return None
    return db.scalars(
        select(RuleVersion).where(RuleVersion.alarm_type_id == kind.id, RuleVersion.number == number)
    ).one_or_none()


def _told(version: RuleVersion, described: Mapping[str, Metric], language: str) -> sentences.Told | None:
    words = {key: sentences.Word(metric.called(language), metric.unit) for key, metric in described.items()}
    token = i18n.language.set(language)
    try:
        return sentences.told(conditions.parse(version.definition), words)
    except DefinitionRefused:
        # A version of another grammar: what was frozen with the alarm is shown all the same.
        return None
    finally:
        i18n.language.reset(token)
