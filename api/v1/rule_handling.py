"""How the alarms of a type are handled, over JSON."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.access import Db, needs
from api.v1 import rules as v1
from kernel import clock
from people.scope import Viewer
from rules import handling, visible
from rules.handling import Handling

router = APIRouter(prefix="/rules", tags=["rules"])
Reader = Annotated[Viewer, needs("rules.read")]
Writer = Annotated[Viewer, needs("rules.write")]


class HandlingBody(BaseModel):
    """Whether an alarm needs a reset, explains those of the parts below, and in which plant state it means nothing."""

    model_config = ConfigDict(from_attributes=True)

    latches: bool = Field(False, description="A cleared alarm stays listed until a person resets it.")
    suppresses_below: bool = Field(False, description="While one stands, alarms of the parts of its asset are held.")
    attribute: str = Field("", max_length=80, description="An attribute that the machine's device reports.")
    values: list[str | float | bool] = Field(default_factory=list, description="Its values at which alarms are held.")


@router.get("/{rule_id}/handling")
def handled(db: Db, viewer: Reader, rule_id: int) -> HandlingBody:
    """Return how the alarms of a type are handled."""
    return HandlingBody.model_validate(handling.of(visible.find(db, viewer, rule_id)))


@router.put("/{rule_id}/handling")
def handle(db: Db, viewer: Writer, rule_id: int, body: HandlingBody) -> HandlingBody:
    """Let the alarms of a type be handled otherwise from now on."""
    found = v1.mine(db, viewer, rule_id)
    wanted = Handling(body.latches, body.suppresses_below, body.attribute, tuple(body.values))
    handling.change(db, found, wanted, by=viewer.actor, now=clock.now())
    return HandlingBody.model_validate(handling.of(found))
