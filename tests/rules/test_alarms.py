"""Alarms in their table: one open for one thing and type, folded, acknowledged, cleared, told."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import audit, clock, db
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry, Event
from rules import alarms, episodes
from rules.episodes import Fault, Over, Seen
from rules.models import Alarm, AlarmEntry
from tests import plant
from tests.plant import BORN, Plant

SECOND = timedelta(seconds=1)


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=3)


def fault(works: Plant, number: int = 0, type_key: str = "overheat", origin: str = "rule") -> Fault:
    asset, device = works.assets[number], works.devices[number]
    return Fault(
        f"asset:{asset.id}", type_key, origin, f"{origin}:1", asset.company_id, asset.unit_id, asset.id, device.id
    )


def seen(what: Fault, severity: str = "major", second: float = 0, **more: object) -> Seen:
    at = BORN + second * SECOND
    return replace(Seen(what, severity, at, at), **more)


def over(what: Fault, second: float) -> Over:
    return Over(what, BORN + second * SECOND)


def happened(session: Session) -> list[tuple[str, dict[str, object]]]:
    return [(event.kind, event.payload) for event in session.scalars(select(Event).order_by(Event.id))]


def test_ALM_1_sixty_four_workers_raise_one_alarm_with_count_64(database: sessionmaker[Session], works: Plant) -> None:
    what = fault(works)

    def raise_once(number: int) -> int:
        with db.transaction(database) as session:
            return alarms.raise_(session, seen(what, second=number), now=clock.now())

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(raise_once, range(64)))
    with database() as session:
        (alarm,) = session.scalars(select(Alarm)).all()
        assert ids == {alarm.id}
        assert alarm.count == 64
        assert alarm.last_seen_at == BORN + 63 * SECOND
        assert [kind for kind, _ in happened(session)] == ["AlarmRaised", "AlarmAnnounced"]
        assert list(audit.verify(session)) == []


def test_workers_that_raise_many_alarms_in_different_orders_neither_wait_in_a_circle_nor_double_any(
    database: sessionmaker[Session], works: Plant
) -> None:
    kinds = [f"kind-{number}" for number in range(40)]

    def raise_all(turn: int) -> None:
        order = kinds[turn:] + kinds[:turn]
        with db.transaction(database) as session:
            alarms.take(session, [seen(fault(works, 0, kind)) for kind in order], now=clock.now())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(raise_all, range(8)))
    with database() as session:
        assert sorted(session.scalars(select(Alarm.type_key))) == sorted(kinds)
        assert set(session.scalars(select(Alarm.count))) == {8}


def test_ALM_3_severity_goes_up_and_down_and_the_peak_stays(session: Session, works: Plant) -> None:
    what = fault(works)
    ids = alarms.take(
        session,
        [seen(what, "critical", 1), seen(what, "major", 2), seen(what, "critical", 3), seen(what, "critical", 4)],
        now=clock.now(),
    )
    alarm = session.get_one(Alarm, ids[0])
    assert (alarm.severity, alarm.peak_severity, alarm.count) == ("critical", "critical", 4)
    assert happened(session) == [
        ("AlarmRaised", {"alarm_id": alarm.id}),
        ("AlarmSeverityChanged", {"alarm_id": alarm.id, "before": "critical", "after": "major"}),
        ("AlarmSeverityChanged", {"alarm_id": alarm.id, "before": "major", "after": "critical"}),
        ("AlarmAnnounced", {"alarm_id": alarm.id, "why": "raised"}),
        ("AlarmAnnounced", {"alarm_id": alarm.id, "why": "severity"}),
    ]


def test_a_rise_takes_the_acknowledgement_away_and_a_fall_does_not(session: Session, works: Plant) -> None:
    what = fault(works)
    alarm = session.get_one(Alarm, alarms.raise_(session, seen(what, "major"), now=clock.now()))
    alarms.acknowledge(session, alarm, by="account:1", now=clock.now())
    alarms.raise_(session, seen(what, "warning", 1), now=clock.now())
    session.refresh(alarm)
    assert alarm.is_acknowledged
    alarms.raise_(session, seen(what, "critical", 2), now=clock.now())
    session.refresh(alarm)
    assert not alarm.is_acknowledged
    assert alarm.acknowledged_by is None


def test_what_is_raised_and_over_in_one_batch_leaves_closed_alarms_linked_in_order(
    session: Session, works: Plant
) -> None:
    what = fault(works)
    batch = [
        seen(what, second=1),
        over(what, 2),
        seen(what, second=3),
        over(what, 4),
        seen(what, second=5),
        over(what, 6),
    ]
    first, first_end, second, _, third, _ = alarms.take(session, batch, now=clock.now())
    assert first == first_end
    chain = [session.get_one(Alarm, identity) for identity in (first, second, third)]
    assert [alarm.previous_id for alarm in chain] == [None, first, second]
    assert [alarm.is_active for alarm in chain] == [False] * 3
    assert [alarm.ended_at for alarm in chain if alarm.ended_at] == [BORN + s * SECOND for s in (2, 4, 6)]


def test_a_new_alarm_is_linked_to_the_one_before(session: Session, works: Plant) -> None:
    what = fault(works)
    first = alarms.raise_(session, seen(what, second=1), now=clock.now())
    assert alarms.end(session, what, at=BORN + 2 * SECOND, now=clock.now()) == first
    second = alarms.raise_(session, seen(what, second=3), now=clock.now())
    assert session.get_one(Alarm, second).previous_id == first


def test_an_end_before_the_raise_gives_no_negative_time(session: Session, works: Plant) -> None:
    what = fault(works)
    identity = alarms.raise_(session, seen(what, second=10), now=clock.now())
    alarms.end(session, what, at=BORN, now=clock.now())
    alarm = session.get_one(Alarm, identity)
    assert alarm.ended_at == alarm.raised_at


def test_nothing_open_means_nothing_to_end_or_to_update(session: Session, works: Plant) -> None:
    what = fault(works)
    assert alarms.take(session, [over(what, 1), seen(what, opens=False)], now=clock.now()) == [None, None]
    assert session.scalars(select(Alarm)).all() == []


def test_the_evidence_of_the_raise_is_frozen(session: Session, works: Plant) -> None:
    what = fault(works)
    identity = alarms.raise_(session, seen(what, value=61.0, evidence={"samples": [61.0]}), now=clock.now())
    alarms.raise_(session, seen(what, second=1, value=65.0, peak=65.0, evidence={"samples": [65.0]}), now=clock.now())
    alarm = session.get_one(Alarm, identity)
    assert (alarm.evidence, alarm.value, alarm.peak_value) == ({"samples": [61.0]}, 65.0, 65.0)


def test_what_a_device_says_again_is_told_once_a_batch_and_what_a_rule_says_again_is_not(
    session: Session, works: Plant
) -> None:
    device = fault(works, origin="device", type_key="E42")
    alarms.take(session, [seen(device, second=n) for n in range(5)], now=clock.now())
    rule = fault(works, 1)
    alarms.take(session, [seen(rule, second=n) for n in range(5)], now=clock.now())
    told = [(kind, payload.get("times")) for kind, payload in happened(session) if kind != "AlarmAnnounced"]
    assert told == [
        ("AlarmRaised", None),
        ("AlarmRepeated", 4),
        ("AlarmRaised", None),
    ]


def test_ALM_2_acknowledging_twice_keeps_the_first_name(session: Session, works: Plant) -> None:
    alarm = session.get_one(Alarm, alarms.raise_(session, seen(fault(works)), now=clock.now()))
    assert alarms.acknowledge(session, alarm, by="account:1", now=clock.now(), comment="On my way")
    assert not alarms.acknowledge(session, alarm, by="account:2", now=clock.now())
    assert alarm.acknowledged_by == "account:1"
    session.flush()
    kinds = session.scalars(select(AlarmEntry.kind).order_by(AlarmEntry.id)).all()
    assert kinds == ["raised", "comment", "acknowledged"]


def test_ALM_2_a_thousand_updates_leave_a_note_intact(session: Session, works: Plant) -> None:
    what = fault(works)
    alarm = session.get_one(Alarm, alarms.raise_(session, seen(what, message="too hot"), now=clock.now()))
    note = alarms.add_comment(session, alarm, "Fan ordered", by="account:1", now=clock.now())
    alarms.take(session, [seen(what, second=n, message=f"too hot {n}") for n in range(1000)], now=clock.now())
    session.refresh(note)
    session.refresh(alarm)
    assert (note.text, alarm.count, alarm.message) == ("Fan ordered", 1001, "too hot 999")


def test_a_person_clears_with_a_reason_and_only_once(session: Session, works: Plant) -> None:
    alarm = session.get_one(Alarm, alarms.raise_(session, seen(fault(works)), now=clock.now()))
    with pytest.raises(Invalid):
        alarms.clear_by_hand(session, alarm, by="account:1", reason=" ", now=clock.now())
    alarms.clear_by_hand(session, alarm, by="account:1", reason="Sensor was unplugged", now=clock.now())
    assert not alarm.is_active
    with pytest.raises(Conflict):
        alarms.clear_by_hand(session, alarm, by="account:2", reason="again", now=clock.now())


def test_every_change_has_its_audit_entry(database: sessionmaker[Session], works: Plant) -> None:
    what = fault(works)
    with db.transaction(database) as session:
        alarms.take(session, [seen(what), seen(what, "critical", 1), over(what, 2)], now=clock.now())
    with database() as session:
        assert session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq)).all() == [
            "alarm.raised",
            "alarm.severity",
            "alarm.cleared",
        ]
        assert list(audit.verify(session)) == []


_STEPS = st.lists(
    st.tuples(st.sampled_from(["kind-a", "kind-b"]), st.sampled_from(["critical", "minor", "over"])), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, cuts=st.sets(st.integers(0, 12)))
def test_a_batch_cut_into_any_pieces_gives_the_same_alarms(
    database: sessionmaker[Session], works: Plant, steps: list[tuple[str, str]], cuts: set[int]
) -> None:
    def rows(bounds: list[int]) -> list[tuple[object, ...]]:
        with database() as session:
            batch: list[episodes.Sighting] = []
            for second, (kind, word) in enumerate(steps):
                what = fault(works, type_key=kind)
                batch.append(over(what, second) if word == "over" else seen(what, word, second))
            for begin, end in zip([0, *bounds], [*bounds, len(batch)], strict=True):
                alarms.take(session, batch[begin:end], now=BORN)
            found = session.scalars(select(Alarm).order_by(Alarm.type_key, Alarm.raised_at)).all()
            result = [
                (a.type_key, a.severity, a.peak_severity, a.count, a.is_active, a.raised_at, a.ended_at) for a in found
            ]
            session.rollback()
            return result

    assert rows(sorted(cut for cut in cuts if cut <= len(steps))) == rows([])
