"""What lets a device in: rotation with overlap, the bound client id, its certificate."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from assets import credentials, devices
from assets.identity import Credentials
from assets.models import Device
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry, Event
from people.models import OrgUnit
from tests.assets.plant import ACTOR, NOW, Plant

DAY = timedelta(days=1)


@pytest.fixture
def pump(session: Session, plant: Plant) -> Device:
    return registered(session, plant, "pump")


def registered(session: Session, plant: Plant, key: str) -> Device:
    unit = session.get_one(OrgUnit, plant.north.unit_id)
    return devices.register(session, devices.DeviceDraft(key, key), unit=unit, actor=ACTOR, now=NOW)


def cuts(session: Session) -> list[bool]:
    query = select(Event.payload).where(Event.kind == "DeviceCredentialsChanged").order_by(Event.id)
    return [payload["cuts"] for payload in session.scalars(query)]


def test_ING_6_a_rotation_with_overlap_keeps_the_password_before_and_cuts_nobody(
    session: Session, pump: Device
) -> None:
    with pytest.raises(Conflict):
        credentials.rotate(session, pump, "$a", keep=DAY, actor=ACTOR, now=NOW)
    credentials.issue(session, pump, "$a", actor=ACTOR, now=NOW)
    credentials.rotate(session, pump, "$b", keep=DAY, actor=ACTOR, now=NOW)
    assert pump.credentials == Credentials("$b", "pump~2", "$a", None, NOW + DAY)
    assert pump.credentials.previous(NOW + DAY - timedelta(seconds=1)) == "$a"
    assert pump.credentials.previous(NOW + DAY) is None
    credentials.rotate(session, pump, "$c", keep=DAY, actor=ACTOR, now=NOW + 2 * DAY)
    assert pump.credentials == Credentials("$c", "pump~3", "$b", "pump~2", NOW + 3 * DAY)
    assert cuts(session) == [False, False, False]
    told = [f"{entry.before}{entry.after}" for entry in session.scalars(select(AuditEntry))]
    assert not [line for line in told if "$" in line]


def test_ING_6_never_do_three_passwords_work(session: Session, pump: Device) -> None:
    credentials.issue(session, pump, "$a", actor=ACTOR, now=NOW)
    credentials.rotate(session, pump, "$b", keep=DAY, actor=ACTOR, now=NOW)
    credentials.rotate(session, pump, "$c", keep=DAY, actor=ACTOR, now=NOW)
    assert (pump.password_hash, pump.previous_hash) == ("$c", "$b")
    assert cuts(session) == [False, False, True]


def test_ING_6_an_overlap_can_be_ended_at_once_and_a_plain_issue_ends_it_too(session: Session, pump: Device) -> None:
    credentials.issue(session, pump, "$a", actor=ACTOR, now=NOW)
    for end in (
        lambda: credentials.end_overlap(session, pump, actor=ACTOR, now=NOW),
        lambda: credentials.issue(session, pump, "$z", actor=ACTOR, now=NOW),
    ):
        credentials.rotate(session, pump, "$b", keep=DAY, actor=ACTOR, now=NOW)
        end()
        assert pump.credentials.previous(NOW) is None
        with pytest.raises(Conflict):
            credentials.end_overlap(session, pump, actor=ACTOR, now=NOW)
    for keep in (timedelta(0), timedelta(days=91)):
        with pytest.raises(Invalid):
            credentials.rotate(session, pump, "$b", keep=keep, actor=ACTOR, now=NOW)


def test_ING_6_a_revoked_device_has_nothing_left_to_show(session: Session, pump: Device) -> None:
    credentials.issue(session, pump, "$a", actor=ACTOR, now=NOW)
    credentials.rotate(session, pump, "$b", keep=DAY, actor=ACTOR, now=NOW)
    credentials.accept_certificate(session, pump, True, actor=ACTOR, now=NOW)
    devices.revoke(session, pump, actor=ACTOR, now=NOW)
    assert pump.credentials == Credentials()
    for verb in (
        lambda: credentials.rotate(session, pump, "$c", keep=DAY, actor=ACTOR, now=NOW),
        lambda: credentials.bind_client(session, pump, "x", actor=ACTOR, now=NOW),
        lambda: credentials.accept_certificate(session, pump, True, actor=ACTOR, now=NOW),
    ):
        with pytest.raises(Conflict):
            verb()


def test_ING_6_a_bound_client_id_is_nobody_elses_name(session: Session, plant: Plant, pump: Device) -> None:
    other = registered(session, plant, "spy")
    credentials.bind_client(session, pump, "plc-4", actor=ACTOR, now=NOW)
    for taken in ("plc-4", "pump", "pump:1"):
        with pytest.raises(Conflict):
            credentials.bind_client(session, other, taken, actor=ACTOR, now=NOW)
    for unfit in ("a b", "ü", "x" * 129, "a\n"):
        with pytest.raises(Invalid):
            credentials.bind_client(session, other, f"-{unfit}-", actor=ACTOR, now=NOW)
    credentials.bind_client(session, pump, " ", actor=ACTOR, now=NOW)
    assert pump.client_id is None
    assert cuts(session) == [True, False]
