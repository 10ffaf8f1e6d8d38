"""The states of rules on assets in the database: under alarm type and asset, so that any process can take them up."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, String, cast, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from rules import standing
from rules.models import RuleState
from rules.outcome import Outcome, State, load_state
from rules.roster import Roster

_MOST: Final = 20_000
"""Rows in one statement."""


def all_of(session: Session, rules: Roster) -> list[State]:
    """Return all stored states of rules that stand, under this process's numbers."""
    found = []
    for alarm_type_id, asset_id, stored in session.execute(
        select(RuleState.alarm_type_id, RuleState.asset_id, RuleState.state)
    ):
        number = standing.instance_id(alarm_type_id, asset_id)
        if number in rules:
            found.append(load_state({**stored, "instance": number}))
    return found


def of_some(session: Session, instances: Iterable[int]) -> list[State]:
    """Return the stored states of some instances, under this process's numbers."""
    wanted = sorted(instances)
    found = []
    for begin in range(0, len(wanted), _MOST):
        asked = _pairs([standing.split_id(one) for one in wanted[begin : begin + _MOST]])
        query = select(RuleState.alarm_type_id, RuleState.asset_id, RuleState.state).join(
            asked, (RuleState.alarm_type_id == asked.c.kind) & (RuleState.asset_id == asked.c.thing)
        )
        for alarm_type_id, asset_id, stored in session.execute(query):
            number = standing.instance_id(alarm_type_id, asset_id)
            found.append(load_state({**stored, "instance": number}))
    return found


def _pairs(ids: Sequence[tuple[int, int]]) -> Any:  # noqa: ANN401 - a table of two columns
    kinds, things = [kind for kind, _ in ids], [thing for _, thing in ids]
    return (
        func.unnest(cast(kinds, ARRAY(BigInteger)), cast(things, ARRAY(BigInteger)))
        .table_valued("kind", "thing", name="asked")
        .render_derived()
    )


def write(session: Session, outcome: Outcome) -> None:
    """Write the states that an outcome leads to, and drop those that are at rest."""
    kept = [(*standing.split_id(number), state) for number, state in outcome.states.items() if state is not None]
    for begin in range(0, len(kept), _MOST):
        _store_some(session, kept[begin : begin + _MOST])
    dropped = [standing.split_id(number) for number, state in outcome.states.items() if state is None]
    for begin in range(0, len(dropped), _MOST):
        asked = _pairs(dropped[begin : begin + _MOST])
        session.execute(
            delete(RuleState)
            .where(RuleState.alarm_type_id == asked.c.kind, RuleState.asset_id == asked.c.thing)
            .execution_options(synchronize_session=False)
        )


def _store_some(session: Session, kept: Sequence[tuple[int, int, State]]) -> None:
    kinds, things, states = zip(*kept, strict=True)
    rows = (
        func.unnest(
            cast(list(kinds), ARRAY(BigInteger)),
            cast(list(things), ARRAY(BigInteger)),
            cast([msgspec.json.encode(state).decode() for state in states], ARRAY(String)),
        )
        .table_valued("kind", "thing", "state", name="kept")
        .render_derived()
    )
    statement = upsert(RuleState).from_select(
        ["alarm_type_id", "asset_id", "state"], select(rows.c.kind, rows.c.thing, cast(rows.c.state, JSONB))
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[RuleState.alarm_type_id, RuleState.asset_id], set_={"state": statement.excluded.state}
        )
    )
