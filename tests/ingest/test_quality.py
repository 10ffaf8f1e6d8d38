"""What the data path makes of units and of values that are not to be trusted."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest.batch import Batch
from ingest.models import RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from rules import library
from rules.library import AlarmTypeDraft
from rules.models import Alarm, AlarmType
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from telemetry.readings import Flag, Latest, sent_of
from tests import plant
from tests.plant import Plant

NOW_MS = clock.to_ms(datetime(2026, 11, 20, 9, 30, tzinfo=UTC))
HOT = {
    "schema": 1,
    "create": {"major": {"condition": {"type": "compare", "metric": "temperature", "operator": ">=", "limit": 60}}},
    "clear": {"type": "automatic"},
    "message": "It is ${temperature} degrees hot",
}
ROSE = HOT | {
    "create": {
        "major": {
            "condition": {
                "type": "compare", "metric": "temperature", "operator": ">=", "limit": 100,
                "view": {"type": "window", "function": "delta", "seconds": 600},
            }
        }
    }
}  # fmt: skip


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, metrics=("temperature", "pressure"))
        draft = AlarmTypeDraft("overheat", "Overheating", asset_type_id=made.type.id)
        library.add(session, draft, HOT, unit=made.company, actor="account:1", now=clock.from_ms(NOW_MS))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


def started(database: sessionmaker[Session], store: DuckDbStore, works: Plant, **described: object) -> Pipeline:
    """Start a path for a temperature that is described somehow."""
    with db.transaction(database) as session:
        (temperature,) = (one for one in session.merge(works.type).metrics if one.key == "temperature")
        for name, value in described.items():
            setattr(temperature, name, value)
    made = Pipeline(database, store)
    made.load()
    return made


def sent(*values: str, at: int = 0) -> Batch:
    """Give a message a value, each a second later, as the device writes it."""
    messages = (
        ("fw/v1/dev-0/telemetry", f'{{"ts":{NOW_MS + 1000 * (at + n)},"values":{{"temperature":{value}}}}}'.encode())
        for n, value in enumerate(values)
    )
    return Batch.of(messages, received_ms=NOW_MS + 3_600_000)


def number_of(database: sessionmaker[Session]) -> int:
    with database() as session:
        return session.scalars(select(Series.id).where(Series.metric == "temperature")).one()


def newest(database: sessionmaker[Session], store: DuckDbStore) -> Latest:
    number = number_of(database)
    return store.latest([number])[number]


def alarms_of(database: sessionmaker[Session]) -> list[tuple[float | None, bool]]:
    with database() as session:
        return [(one.value, one.is_active) for one in session.scalars(select(Alarm).order_by(Alarm.id))]


def test_TEL_4_fahrenheit_comes_in_celsius_is_stored_judged_and_bounded_and_both_are_kept(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works, unit="°C", sent_unit="°F", high=150)
    path.process(sent("70.3", '"broken"', "131"))
    assert newest(database, store).value == pytest.approx(55)
    assert alarms_of(database) == []  # 131 °F is no 60 °C
    path.process(sent("212", at=3))
    assert newest(database, store) == Latest(number_of(database), NOW_MS + 3000, 100.0, None, 0, 212.0)
    assert alarms_of(database) == [(100.0, True)]
    path.process(sent("400", at=4))  # 204 °C
    assert newest(database, store).flags == Flag.BAD
    found = store.samples(number_of(database), NOW_MS, NOW_MS + 9000, limit=9)
    assert found.value.tolist() == pytest.approx([21.2777777778, 55, 100, 204.4444444444])
    assert sent_of(found) == [70.3, 131.0, 212.0, 400.0]
    with database() as session:
        assert [one.reason for one in session.scalars(select(RejectedMessage))] == ["wrong_type"]


def test_a_number_that_its_own_unit_cannot_hold_is_kept_as_sent_and_bad(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works, unit="Pa", sent_unit="bar")
    path.process(sent("1e308", str(2**53 + 1), "true"))
    found = store.samples(number_of(database), NOW_MS, NOW_MS + 9000, limit=9)
    assert found.value.tolist() == [1e308, (2.0**53) * 100_000, 1.0]
    assert found.flags.tolist() == [Flag.BAD, 0, Flag.BOOLEAN]
    assert sent_of(found) == [None, 2.0**53, None]
    assert found.text is None


def test_TEL_4_a_value_out_of_the_valid_range_is_used_by_rules_that_ask_for_it(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works, high=150, uses_bad=True)
    path.process(sent("900"))
    assert newest(database, store).flags == Flag.BAD
    assert alarms_of(database) == [(900.0, True)]


def test_TEL_4_windows_hold_bad_values_that_rules_ask_for_after_a_restart_as_before(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    with db.transaction(database) as session:
        draft = AlarmTypeDraft("rose", "Rose", asset_type_id=works.type.id)
        company = session.merge(works.company)
        library.add(session, draft, ROSE, unit=company, actor="account:1", now=clock.from_ms(NOW_MS))
    path = started(database, store, works, high=150, uses_bad=True)
    path.process(sent("900", "940"))
    assert len(alarms_of(database)) == 1
    # What the restarted path knows of the window's beginning it has from the store alone.
    again = started(database, store, works, high=150, uses_bad=True)
    again.process(sent("1000", at=2))
    with database() as session:
        raised = session.scalars(select(Alarm).join(AlarmType).where(AlarmType.key == "rose")).all()
    assert len(raised) == 1


def test_a_bad_value_that_is_the_newest_at_a_start_is_not_held_by_rules(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works, high=150)
    path.process(sent("20", "900"))
    again = started(database, store, works)
    with db.transaction(database) as session:
        draft = AlarmTypeDraft("hotter", "Hot", asset_type_id=works.type.id)
        company = session.merge(works.company)
        library.add(session, draft, HOT, unit=company, actor="account:1", now=clock.from_ms(NOW_MS))
    again.follow_changes(clock.from_ms(NOW_MS + 5_000))
    assert alarms_of(database) == []


def test_TEL_6_30_equal_readings_of_a_noisy_sensor_mark_it_stuck_also_after_a_restart(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works)
    path.process(sent(*(str(20 + (step * 7 % 10) / 10) for step in range(40))))
    frozen = sent(*["20.35"] * 30, at=40)
    path.process(frozen)
    assert newest(database, store).flags == Flag.STUCK
    assert len(store.not_good([number_of(database)], NOW_MS, NOW_MS + 99_000, limit=99)) == 1
    # It comes again, here and at a new process, and changes nothing.
    path.process(frozen)
    again = started(database, store, works)
    again.process(frozen)
    assert newest(database, store).flags == Flag.STUCK
    again.process(sent("20.35", at=70))
    assert newest(database, store).flags == Flag.STUCK
    again.process(sent("20.4", at=71))
    assert newest(database, store).flags == 0


def test_TEL_6_a_sensor_that_reports_when_it_changes_is_never_stuck(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant
) -> None:
    path = started(database, store, works, is_on_change=True)
    path.process(sent(*(str(20 + (step * 7 % 10) / 10) for step in range(40)), *["20.35"] * 60))
    assert newest(database, store).flags == 0
