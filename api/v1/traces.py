"""Why, and why not, over JSON: each branch of a rule on one asset as it stands now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.access import Db, Parts, needs
from assets import types
from assets.models import Asset
from kernel import clock
from people import scope
from people.scope import Viewer
from rules import sentences, trace, visible
from rules.trace import Branch, Running, Trace
from telemetry.store import TelemetryStore

router = APIRouter(prefix="/rules", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Truth = Literal["true", "false", "unknown"]


class ValueOut(BaseModel):
    """The newest value of a metric that a branch compares."""

    metric: str
    value: float | str | None
    at: datetime | None = Field(description="Device time.")
    is_stale: bool = Field(description="Too old to speak: what compares it is unknown.")


class BranchOut(BaseModel):
    """A condition with what it answers now."""

    says: str = Field(description="The condition as a sentence, with its limits.")
    truth: Truth
    values: list[ValueOut]
    parts: list["BranchOut"]


class RunningOut(BaseModel):
    """The rule of a severity, or the clear rule, as it stands now."""

    of: str = Field(description="A severity, or clear.")
    branch: BranchOut | None = Field(description="None where it clears by itself.")
    is_open: bool = Field(description="Whether its schedule lets it be true.")
    began_at: datetime | None = Field(description="Since when it matches without interruption.")
    matches: int
    needs: int = Field(description="How many matches it takes; 0: none beyond the first.")
    due_at: datetime | None = Field(description="When it has matched long enough.")


class TraceOut(BaseModel):
    """A rule on one asset as it stands now."""

    absent: str | None = Field(
        description="Why nothing is evaluated there: off, not_for_it or not_measured; null where it is."
    )
    at: datetime | None = Field(description="The asset's event clock, in device time.")
    is_raised: bool
    severity: str | None
    rules: list[RunningOut]


@router.get("/{rule_id}/trace/{asset_id}")
def trace_of(db: Db, parts: Parts, viewer: Reader, rule_id: int, asset_id: int) -> TraceOut:
    """Tell why a rule is or is not true on an asset now: values, branches, streaks and timers."""
    asset = scope.find(db, Asset, asset_id, viewer, "telemetry.read")
    found = looked(db, parts.store, viewer, rule_id, asset)
    words = words_of(db, viewer, asset)
    return TraceOut(
        absent=found.absent,
        at=_at(found.clock_ms),
        is_raised=found.alarm is not None,
        severity=None if found.alarm is None else found.alarm.severity.key,
        rules=[_running(one, words) for one in found.rules],
    )


def looked(db: Session, store: TelemetryStore, viewer: Viewer, rule_id: int, asset: Asset) -> Trace:
    """Return how a rule within sight stands on an asset.

    Raises:
        NotFound: the rule holds nowhere within the viewer's sight.
    """
    return trace.look(db, store, visible.find(db, viewer, rule_id), asset, now=clock.now())


def words_of(db: Session, viewer: Viewer, asset: Asset) -> dict[str, sentences.Word]:
    """Return how the metrics of an asset are called."""
    known = types.metrics(db, viewer.company_id, [asset.type_id]).get(asset.type_id, {})
    return {key: sentences.Word(metric.key, metric.unit) for key, metric in known.items()}


def _running(one: Running, words: Mapping[str, sentences.Word]) -> RunningOut:
    return RunningOut(
        of=one.of,
        branch=None if one.branch is None else _branch(one.branch, words),
        is_open=one.is_open,
        began_at=_at(one.began_ms),
        matches=one.matches,
        needs=one.times,
        due_at=_at(one.due_ms),
    )


def _branch(branch: Branch, words: Mapping[str, sentences.Word]) -> BranchOut:
    return BranchOut(
        says=sentences.condition(branch.condition, words),
        truth=truth_of(branch),
        values=[
            ValueOut(metric=one.metric, value=one.value, at=_at(one.ts_ms), is_stale=one.is_stale)
            for one in branch.values
        ],
        parts=[_branch(part, words) for part in branch.parts],
    )


def truth_of(branch: Branch) -> Truth:
    """Return an answer as a word."""
    return "unknown" if branch.truth is None else "true" if branch.truth else "false"


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else clock.from_ms(ms)
