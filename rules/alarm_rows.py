"""The rows of alarms as episodes: locked, read and written, in one statement however many there are.

For ``rules.alarms`` and whoever amends alarms, who decide what becomes of them. Everybody locks in the same order, so
that nobody waits in a circle; of two who open an alarm of one fault the database lets one through, and the other is
told.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, String, Table, bindparam, cast, func, select, text, true, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from rules import episodes
from rules.episodes import Episode, Fault
from rules.models import Alarm

Key = tuple[str, str]
"""Of a fault: its subject and the key of its type."""
_ALARM: Final[Table] = Alarm.metadata.tables[Alarm.__tablename__]


def lock_open(session: Session, keys: Sequence[Key]) -> dict[Key, Episode]:
    """Lock the open alarms of some faults."""
    wanted = _wanted(keys)
    found = session.execute(
        select(_ALARM)
        .join(wanted, (_ALARM.c.subject == wanted.c.subject) & (_ALARM.c.type_key == wanted.c.type_key))
        .where(_ALARM.c.is_active)
        .order_by(_ALARM.c.subject, _ALARM.c.type_key)
        .with_for_update(of=_ALARM)
    )
    return {(row.subject, row.type_key): _standing(row) for row in found}


def lock(session: Session, ids: Iterable[int]) -> dict[int, Episode]:
    """Lock some alarms, open or not, and return them."""
    found = session.execute(
        select(_ALARM).where(_ALARM.c.id.in_(list(ids))).order_by(_ALARM.c.subject, _ALARM.c.type_key).with_for_update()
    )
    return {row.id: _standing(row) for row in found}


def lock_still(session: Session, *, now: datetime, limit: int) -> list[Episode]:
    """Lock chattering alarms whose signal has kept still until now, as far as nobody else has them."""
    found = session.execute(
        select(_ALARM)
        .where(_ALARM.c.is_chattering, _ALARM.c.is_active, _ALARM.c.next_at <= now)
        .order_by(_ALARM.c.subject, _ALARM.c.type_key)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    return [_standing(row) for row in found]


def last(session: Session, keys: Sequence[Key]) -> dict[Key, tuple[int, Sequence[int]]]:
    """Return the latest alarm there ever was of each fault: its id and its cycles."""
    if not keys:
        return {}
    wanted = _wanted(keys)
    latest = (
        select(_ALARM.c.id, _ALARM.c.cycles)
        .where(_ALARM.c.subject == wanted.c.subject, _ALARM.c.type_key == wanted.c.type_key)
        .order_by(_ALARM.c.id.desc())
        .limit(1)
        .lateral()
    )
    found = session.execute(select(wanted.c.subject, wanted.c.type_key, latest).join(latest, true()))
    return {(subject, type_key): (alarm_id, cycles) for subject, type_key, alarm_id, cycles in found}


def update_all(session: Session, changed: Sequence[Episode]) -> None:
    """Write what may change of alarms whose rows are locked."""
    session.connection().execute(
        update(_ALARM)
        .where(_ALARM.c.id == bindparam("of_id"))
        .values({_ALARM.c[name]: bindparam(f"new_{name}") for name in episodes.CHANGING}),
        [{"of_id": one.id} | {f"new_{name}": one.row[name] for name in episodes.CHANGING} for one in changed],
    )


def insert_all(session: Session, fresh: Sequence[Episode]) -> set[Episode]:
    """Insert new alarms; return those whose place was taken by somebody who committed first."""
    ids = session.scalars(
        select(func.nextval(text("'alarm_id_seq'"))).select_from(func.generate_series(1, len(fresh)))
    ).all()
    for one, identity in zip(fresh, ids, strict=True):
        one.id = identity
        if one.before is not None:
            one.row["previous_id"] = one.before.id
    # One parameter however many rows and columns there are: a flood is parsed once.
    names = ", ".join(f'"{name}"' for name in ("id", *fresh[0].row))
    inserted = session.execute(
        text(
            f"INSERT INTO alarm ({names}) SELECT {names}"  # noqa: S608 - our own columns
            " FROM jsonb_populate_recordset(CAST(NULL AS alarm), CAST(:rows AS jsonb))"
            " ON CONFLICT (subject, type_key) WHERE is_active DO NOTHING RETURNING id"
        ),
        {"rows": msgspec.json.encode([{"id": one.id, **one.row} for one in fresh]).decode()},
    )
    present = set(inserted.scalars())
    return {one for one in fresh if one.id not in present}


def _standing(row: Row[Any]) -> Episode:
    columns = row._mapping  # noqa: SLF001 - the documented way to a row's columns by name
    fault = Fault(
        row.subject, row.type_key, row.origin, "", row.company_id, row.unit_id, row.asset_id, row.device_id,
        row.alarm_type_id,
    )  # fmt: skip
    kept = {name: columns[name] for name in (*episodes.CHANGING, "is_shelved")}
    return Episode(fault, kept, id=row.id, is_new=False)


def _wanted(keys: Sequence[Key]) -> Any:  # noqa: ANN401 - a table of two columns
    subjects, types = [subject for subject, _ in keys], [type_key for _, type_key in keys]
    return (
        func.unnest(cast(subjects, ARRAY(String)), cast(types, ARRAY(String)))
        .table_valued("subject", "type_key", name="wanted")
        .render_derived()
    )
