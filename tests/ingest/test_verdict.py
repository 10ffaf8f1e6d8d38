"""One statement about the platform, however many workers look at it: ING-15 and ING-16 with a group."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api import health
from ingest import verdict, workers
from ingest.models import IngestWorker
from ingest.run import Ingest
from ingest.verdict import Said, combine
from ingest.watch import Finding
from ingest.workers import Gauges, Member
from kernel import clock, db, settings
from kernel.models import Event
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.mosquitto import Mosquitto
from tests.waiting import until

WELL = Finding("backlog", is_wrong=False)
BEHIND = Finding("backlog", True, "major", "Late.", 61)
FINDINGS = st.builds(
    Finding, st.sampled_from(("broker", "backlog")), st.booleans(), st.sampled_from(("major", "critical")), st.just("x")
)
SAID = st.lists(st.builds(Said, st.sampled_from("abc"), st.lists(FINDINGS, max_size=3)), max_size=4)


def test_any_worker_in_trouble_is_trouble_and_is_named() -> None:
    told = combine([Said("a (1)", [WELL]), Said("b (2)", [BEHIND]), Said("c (3)", [WELL])])
    assert told == [Finding("backlog", True, "major", "Late. In trouble: b (2); 1 of 3 workers.", 61)]
    assert combine([Said("a (1)", [WELL]), Said("b (2)", [WELL])]) == [WELL]


def test_a_lone_reader_is_not_named_and_who_has_said_nothing_counts_neither_way() -> None:
    assert combine([Said("a (1)", [BEHIND])]) == [BEHIND]
    assert combine([Said("a (1)", []), Said("b (2)", [])]) == []
    assert [one.is_wrong for one in combine([Said("a (1)", []), Said("b (2)", [BEHIND])])] == [True]


@given(SAID)
def test_the_statement_is_in_trouble_exactly_where_a_worker_is(said: list[Said]) -> None:
    spoken = [finding for one in said for finding in one.findings]
    told = {one.what: one for one in combine(said)}
    assert set(told) == {one.what for one in spoken}
    for what, one in told.items():
        wrong = [finding.severity for finding in spoken if finding.what == what and finding.is_wrong]
        assert one.is_wrong is bool(wrong)
        assert not wrong or one.severity == ("critical" if "critical" in wrong else "major")


def _alarms(database: sessionmaker[Session]) -> list[tuple[str, bool]]:
    with database() as session:
        found = session.scalars(select(Alarm).where(Alarm.type_key == "backlog").order_by(Alarm.id))
        return [(one.message, one.is_active) for one in found]


def _events(database: sessionmaker[Session]) -> list[str]:
    with database() as session:
        return list(session.scalars(select(Event.kind).where(Event.subject == "ingest").order_by(Event.id)))


@pytest.fixture
def members(database: sessionmaker[Session]) -> Iterator[list[Member]]:
    with db.transaction(database) as session:
        plant.build(session, machines=1)
    made = [Member(database, "hall") for _ in range(2)]
    for one in made:
        one.join()
        assert not one.rivals()
        assert one.lead()
    yield made
    for one in made:
        one._hang_up()


def test_OPS_8_the_good_news_of_one_worker_does_not_end_the_alarm_of_another_and_the_dead_are_not_heard(
    database: sessionmaker[Session], members: list[Member]
) -> None:
    eldest, other = members
    assert (eldest.is_eldest, other.is_eldest) == (True, False)

    def tell(member: Member, finding: Finding) -> None:
        member.beat(Gauges(findings=verdict.as_json([finding])))
        with db.transaction(database) as session:
            verdict.pronounce(session, now=clock.now())

    tell(other, BEHIND)
    tell(eldest, WELL)
    tell(eldest, WELL)
    ((message, is_active),) = _alarms(database)
    assert is_active
    assert "1 of 2 workers" in message
    tell(other, WELL)
    assert [is_active for _, is_active in _alarms(database)] == [False]
    tell(other, BEHIND)
    other._hang_up()
    until(lambda: eldest.sweep() and _is_over(database, other), what="its life is ended")
    tell(eldest, WELL)
    assert [is_active for _, is_active in _alarms(database)] == [False, False]
    assert _events(database) == ["IntakeFellBehind", "IntakeCaughtUp"] * 2


def _is_over(database: sessionmaker[Session], member: Member) -> bool:
    with database() as session:
        return session.get_one(IngestWorker, member.licence.life).ended_at is not None


@pytest.fixture
def group(database: sessionmaker[Session], tmp_path: Path, broker: Mosquitto) -> Iterator[Callable[[], Ingest]]:
    """Return a starter of workers on one real broker; in one process they can share a store that is a file."""
    with db.transaction(database) as session:
        plant.build(session, machines=1)
    store, made = DuckDbStore(tmp_path / "telemetry.duckdb"), list[Ingest]()

    def start() -> Ingest:
        chosen = settings.load(
            data_dir=tmp_path, mqtt_url=broker.url, telemetry_url="victoria://shared", ingest_group="hall",
            ingest_name=f"worker-{len(made)}", lag_alarm_s=30,
        )  # fmt: skip
        made.append(Ingest(chosen, database, store))
        made[-1].start()
        until(made[-1].healthy, what="the broker is connected")
        return made[-1]

    yield start
    for one in made:
        one.stop()
    store.close()


def _lags(worker: Ingest, seconds: float, waiting: int = 9) -> None:
    worker.counters.waiting, worker.counters.lag_ms = waiting, seconds * 1000


def test_ING_15_event_metric_readiness_and_one_alarm_come_with_a_backlog_and_go_when_it_is_drained(
    database: sessionmaker[Session], group: Callable[[], Ingest]
) -> None:
    well, behind = group(), group()
    health.watch(behind)
    _lags(behind, 29)
    assert behind.healthy()
    _lags(behind, 31)
    until(lambda: [is_active for _, is_active in _alarms(database)] == [True], what="the alarm is raised")
    assert "31 s" in (behind.trouble() or "")
    assert REGISTRY.get_sample_value("fixwright_intake_lag_seconds") == 31
    assert well.healthy(), "the readiness of each process is its own"
    _lags(behind, 2)
    until(lambda: _events(database) == ["IntakeFellBehind", "IntakeCaughtUp"], what="the backlog is drained")
    assert behind.healthy()
    _lags(behind, 0, waiting=0)
    assert REGISTRY.get_sample_value("fixwright_intake_lag_seconds") == 0
    _lags(behind, 31)
    until(lambda: [is_active for _, is_active in _alarms(database)] == [False, True], what="it is behind again")
    with db.transaction(database) as session:
        workers.end(session, behind._life.member.licence.life, "gone")
    until(lambda: [is_active for _, is_active in _alarms(database)] == [False, False], what="nobody hears the dead")
    assert _events(database) == ["IntakeFellBehind", "IntakeCaughtUp"] * 2
