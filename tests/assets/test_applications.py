"""Devices that ask to be let in: one application a key, a person's answer, and a flood that finds no room."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from assets import applications, devices
from assets.models import Device, DeviceApplication
from kernel.errors import Conflict, Invalid, TooMany
from kernel.models import AuditEntry, Event
from people.models import OrgUnit
from tests.assets.plant import ACTOR, NOW, Plant, asset, build


def unit(session: Session, plant: Plant) -> OrgUnit:
    return session.get_one(OrgUnit, plant.north.unit_id)


def gateway(session: Session, plant: Plant, key: str = "gw") -> Device:
    return devices.register(session, devices.DeviceDraft(key, key), unit=unit(session, plant), actor=ACTOR, now=NOW)


def ask(
    session: Session,
    plant: Plant,
    key: str = "pump-7",
    *,
    seconds: float = 0,
    through: Device | None = None,
    **said: object,
) -> DeviceApplication:
    return applications.apply(
        session,
        key=key,
        origin="sparkplug" if through else "secret",
        unit=unit(session, plant),
        gateway=through,
        asset_type=None if through else plant.pump,
        name="Pump 7",
        said=said,
        now=NOW + timedelta(seconds=seconds),
    )


def actions(session: Session, application: DeviceApplication) -> list[str]:
    query = select(AuditEntry.action).where(AuditEntry.subject == f"application:{application.id}")
    return list(session.scalars(query.order_by(AuditEntry.id)))


def kinds(session: Session) -> list[str]:
    wanted = select(Event.kind).where(Event.kind.in_(["DeviceApplied", "DeviceApproved", "DeviceDeclined"]))
    return list(session.scalars(wanted.order_by(Event.id)))


def test_asking_again_is_the_same_application_and_what_it_says_follows(session: Session, plant: Plant) -> None:
    first = ask(session, plant, serial="A1")
    again = ask(session, plant, seconds=90, serial="A1", firmware="2.0")
    assert first.id == again.id
    assert (again.first_seen_at, again.last_seen_at) == (NOW, NOW + timedelta(seconds=90))
    assert again.said == {"serial": "A1", "firmware": "2.0"}
    assert kinds(session) == ["DeviceApplied"]
    assert actions(session, first) == ["device.apply"]


def test_what_asks_a_thousand_times_a_second_is_written_down_seldom(session: Session, plant: Plant) -> None:
    first = ask(session, plant, serial="A1")
    ask(session, plant, seconds=59, serial="A1")
    ask(session, plant, seconds=1, serial="A2")
    assert (first.last_seen_at, first.said) == (NOW, {"serial": "A1"})
    ask(session, plant, seconds=3, serial="A2")
    assert first.said == {"serial": "A2"}


def test_approving_registers_the_device_under_its_gateway_and_binds_it(session: Session, plant: Plant) -> None:
    through = gateway(session, plant)
    machine = asset(session, plant, "M1")
    application = ask(session, plant, through=through)
    made = applications.approve(session, application, name="Feed pump", asset=machine, actor=ACTOR, now=NOW)
    assert (made.key, made.name, made.gateway_id) == ("pump-7", "Feed pump", through.id)
    bound = devices.binding_of(session, made)
    assert bound is not None
    assert bound.asset_id == machine.id
    assert (application.state, application.device_id, application.decided_by) == ("approved", made.id, ACTOR)
    assert kinds(session) == ["DeviceApplied", "DeviceApproved"]
    assert ask(session, plant, through=through).state == "approved"
    for verb in (
        lambda: applications.approve(session, application, actor=ACTOR, now=NOW),
        lambda: applications.decline(session, application, reason="No", actor=ACTOR, now=NOW),
        lambda: applications.reopen(session, application, actor=ACTOR, now=NOW),
    ):
        with pytest.raises(Conflict):
            verb()


def test_a_declined_device_is_not_asked_about_until_a_person_reopens_its_case(session: Session, plant: Plant) -> None:
    application = ask(session, plant)
    with pytest.raises(Invalid) as refused:
        applications.decline(session, application, reason=" ", actor=ACTOR, now=NOW)
    assert refused.value.field == "reason"
    applications.decline(session, application, reason="Not ours", actor=ACTOR, now=NOW)
    assert ask(session, plant, seconds=3600).state == "declined"
    assert kinds(session) == ["DeviceApplied", "DeviceDeclined"]
    applications.reopen(session, application, actor=ACTOR, now=NOW)
    assert ask(session, plant, seconds=7200).state == "waiting"
    assert kinds(session)[2:] == ["DeviceApplied"]
    assert actions(session, application) == ["device.apply", "device.decline", "device.reopen"]


def test_a_flood_of_one_source_finds_no_room_and_leaves_others_theirs(
    session: Session, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applications, "WAITING_AT_MOST", 3)
    flooding, quiet = gateway(session, plant), gateway(session, plant, "gw-2")
    for number in range(3):
        ask(session, plant, f"a{number}", through=flooding)
    for number in range(3, 20):
        with pytest.raises(TooMany):
            ask(session, plant, f"a{number}", through=flooding)
    assert ask(session, plant, "a0", through=flooding).state == "waiting"
    ask(session, plant, "b0", through=quiet)
    ask(session, plant, "c0")
    assert session.scalar(select(func.count(DeviceApplication.id))) == 5


def test_those_sent_away_take_room_too(session: Session, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "KEPT_AT_MOST", 2)
    for number in range(2):
        applications.decline(session, ask(session, plant, f"a{number}"), reason="No", actor=ACTOR, now=NOW)
    with pytest.raises(TooMany):
        ask(session, plant, "a2")


def test_what_a_device_says_of_itself_is_bounded_and_storable(session: Session, plant: Plant) -> None:
    application = ask(session, plant, serial="A\x001", noise="x" * 10_000, late=1)
    session.flush()
    session.refresh(application)
    assert application.said == {"serial": "A1"}


def test_a_key_no_device_can_have_and_one_that_is_taken_are_refused(session: Session, plant: Plant) -> None:
    gateway(session, plant, "known")
    with pytest.raises(Invalid):
        ask(session, plant, "a/b")
    with pytest.raises(Conflict):
        ask(session, plant, "known")


def test_each_company_has_its_own_application_of_a_key(session: Session, plant: Plant) -> None:
    other = build(session, "Other")
    assert ask(session, plant).id != ask(session, other).id


def test_what_was_not_heard_of_for_a_month_is_forgotten_unless_somebody_decided(session: Session, plant: Plant) -> None:
    ask(session, plant, "old")
    applications.decline(session, ask(session, plant, "sent-away"), reason="No", actor=ACTOR, now=NOW)
    ask(session, plant, "fresh", seconds=86_400)
    applications.sweep(session, NOW + applications.FORGOTTEN_AFTER + timedelta(hours=1))
    assert list(session.scalars(select(DeviceApplication.key).order_by(DeviceApplication.key))) == [
        "fresh",
        "sent-away",
    ]
