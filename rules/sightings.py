"""What the engine finds, as alarms hear it: with message, limit, and the evidence frozen with a raise."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kernel import clock
from rules import alarms, conditions
from rules.episodes import Over, Seen, Sighting
from rules.models import Alarm
from rules.outcome import Cleared, Evidence, Raised, Sample, SeverityChanged, Transition
from rules.replay import Episode
from rules.standing import Standing


def of(rule: Standing, transition: Transition) -> Sighting | None:
    """Return what a transition of a rule says of its fault; None where a person has said it already."""
    alarm = transition.alarm
    if isinstance(transition, Cleared):
        return None if transition.is_by_hand else Over(rule.fault, clock.from_ms(transition.ended_ms))
    said: dict[str, Any] = {}
    if isinstance(transition, Raised | SeverityChanged):
        said = _said(rule, transition.evidence, alarm.metric)
    if isinstance(transition, Raised):
        held_for_ms = alarm.raised_ms - alarm.began_ms
        said["evidence"] = _evidence(rule, transition.evidence) | {"held_for_ms": held_for_ms}
    return Seen(
        rule.fault,
        alarm.severity.key,
        began_at=clock.from_ms(alarm.began_ms),
        at=clock.from_ms(transition.at_ms),
        metric=alarm.metric,
        value=alarm.value,
        peak=alarm.peak,
        opens=isinstance(transition, Raised),
        total=alarm.matched,
        **said,
    )


def of_episode(rule: Standing, one: Episode) -> list[Seen]:
    """Return what is seen of an episode: its raise, and how it stood last."""
    raised = of(rule, one.raised)
    assert isinstance(raised, Seen)  # noqa: S101 - a raise is seen
    last = replace(
        raised,
        severity=one.last.severity.key,
        at=clock.from_ms(one.last.last_seen_ms),
        value=one.last.value,
        peak=one.last.peak,
        total=one.last.matched,
        opens=False,
    )
    return [raised, last]


def retell(session: Session, changed: Sequence[Standing], now: datetime) -> None:
    """Give open alarms the text and version of an edited rule, without counting (A10, A21)."""
    rules = {(one.fault.subject, one.fault.type_key): one for one in changed}
    found = session.scalars(
        select(Alarm).where(
            Alarm.is_active,
            Alarm.alarm_type_id.in_({one.alarm_type_id for one in changed}),
        )
    )
    told: list[Sighting] = []
    for alarm in found:
        rule = rules.get((alarm.subject, alarm.type_key))
        if rule is None or alarm.rule_version == rule.version:
            continue
        values = {sample["metric"]: sample["value"] for sample in alarm.evidence.get("samples", ())}
        if alarm.metric and alarm.value is not None:
            values[alarm.metric] = alarm.value
        message = conditions.render(rule.instance.definition.message, values)
        told.append(
            Seen(
                rule.fault,
                alarm.severity,
                alarm.began_at,
                alarm.last_seen_at,
                message=message,
                rule_version=rule.version,
                opens=False,
                times=0,
            )
        )
    alarms.take(session, told, now=now)


def _said(rule: Standing, evidence: Evidence, metric: str) -> dict[str, Any]:
    values = {sample.metric: sample.value for sample in evidence.samples}
    limits = [one.limit for one in evidence.limits if one.metric == metric and isinstance(one.limit, float | int)]
    return {
        "message": conditions.render(rule.instance.definition.message, values),
        "limit": limits[0] if limits else None,
        "rule_version": rule.version,
    }


def _evidence(rule: Standing, evidence: Evidence) -> dict[str, Any]:
    """Return why an alarm was raised, as it is frozen with it: samples, limits and where they came from."""
    source = "override" if rule.is_overridden else "type"
    told: dict[str, Any] = {
        "samples": [_sample(rule, sample) for sample in evidence.samples],
        "limits": [
            {
                "metric": limit.metric,
                "operator": limit.operator,
                "limit": limit.limit,
                "deadband": limit.deadband,
                "from": limit.source or source,
            }
            | ({"view": limit.view} if limit.view is not None else {})
            | ({"other": limit.other} if limit.other is not None else {})
            | ({"deadband_other": limit.deadband_other} if limit.deadband_other is not None else {})
            | ({"deadband_from": limit.deadband_source} if limit.deadband_source is not None else {})
            for limit in evidence.limits
        ],
        "rule_version": rule.version,
    }
    if evidence.supplied:
        told["supplied"] = [{"of": one.of, "value": one.value, "from": one.source} for one in evidence.supplied]
    return told | ({"schedule": asdict(evidence.opening)} if evidence.opening is not None else {})


def _sample(rule: Standing, sample: Sample) -> dict[str, Any]:
    watched = rule.instance.metrics.get(sample.metric)
    return {
        "metric": sample.metric,
        "series": None if watched is None else watched.series,
        "ts_ms": sample.ts_ms,
        "value": sample.value,
    }
