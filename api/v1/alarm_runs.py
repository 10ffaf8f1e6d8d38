"""What an alarm set off beside orders, over JSON: each action with what became of it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api import paging
from api.access import Db, needs
from people import scope
from people.scope import Viewer
from rules import action_runs
from rules.action_runs import Run
from rules.models import Alarm

router = APIRouter(prefix="/alarms", tags=["alarms"])
Reader = Annotated[Viewer, needs("alarms.read")]


class RunOut(BaseModel):
    """An action that an alarm set off, once."""

    id: int
    kind: Literal["message", "webhook", "command", "attribute"]
    occasion: Literal["raise", "clear"]
    target: str = Field(description="A role's key (empty: one person), a host, a method, or `name = value`.")
    state: Literal["waiting", "retried", "failed", "done"]
    at: datetime = Field(description="When the alarm set it off.")
    done_at: datetime | None
    attempts: int
    next_at: datetime | None = Field(description="When it is tried again by itself.")
    error: str | None = Field(description="Why the last try failed; `unexpected` where the deliveries say more.")
    delivery_id: int | None = Field(description="What `POST /deliveries/{id}/retry` takes while it has failed.")


class Filter(BaseModel):
    """The parameters of the list of an alarm's actions."""

    limit: paging.Limit = 100
    cursor: paging.Cursor = None


@router.get("/{alarm_id}/actions")
def of_alarm(db: Db, viewer: Reader, alarm_id: int, wanted: Annotated[Filter, Query()]) -> paging.Page[RunOut]:
    """List what an alarm set off beside orders, in its order."""
    found = scope.find(db, Alarm, alarm_id, viewer, "alarms.read")
    key = paging.read(wanted.cursor, (int,))
    rows = action_runs.of_alarm(db, viewer, found, after=key[0] if key else None, limit=wanted.limit + 1)
    page, following = paging.cut(rows, wanted.limit, lambda run: (run.id,))
    return paging.Page(items=[_shown(run) for run in page], next=following)


def _shown(run: Run) -> RunOut:
    return RunOut.model_validate(
        {name: getattr(run, name) for name in RunOut.model_fields if name != "target"}
        | {"target": action_runs.target(run)}
    )
