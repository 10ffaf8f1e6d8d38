"""Mosquitto kept in step with what is registered: rotation with overlap, revocation, certificates. A real one."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from assets import credentials as verbs
from assets import devices, passwords
from assets.identity import Credentials
from assets.models import Device as Row
from ingest import brokerfiles, credentials, mosquitto
from kernel import clock, db, settings
from tests import factories
from tests.certificates import Authority
from tests.factories import Company
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto, free_port
from tests.waiting import until

OWN, PASSWORD = "the platform's", "open sesame"
NOW = datetime.fromisoformat("2026-05-04T08:00:00+00:00")
HOUR = timedelta(hours=1)


class Kept:
    """A Mosquitto, the keeper of its files, and the devices that are registered."""

    def __init__(self, broker: Mosquitto, tls_port: int, database: sessionmaker[Session], company: Company) -> None:
        self.broker = broker
        self.tls_port = tls_port
        self._database = database
        self._company = company
        pid_file = broker.folder / "pid"
        assert broker.process is not None
        pid_file.write_text(str(broker.process.pid))
        chosen = settings.load(mqtt_url=f"mqtt://_fixwright:{OWN.replace(' ', '%20')}@127.0.0.1:{broker.port}")
        self.keeper = brokerfiles.Keeper(chosen, broker.folder, pid_file)
        self.look()

    def register(self, key: str, *, certificate: bool = False) -> None:
        def make(session: Session) -> None:
            draft = devices.DeviceDraft(key, key)
            made = devices.register(session, draft, unit=self._company.units["harbour"], actor="account:1", now=NOW)
            if certificate:
                verbs.accept_certificate(session, made, True, actor="account:1", now=NOW)
            else:
                verbs.issue(session, made, passwords.hashed(PASSWORD), actor="account:1", now=NOW)

        with db.transaction(self._database) as session:
            make(session)
        self.look()

    def change(self, key: str, verb: Callable[[Session, Row], None]) -> None:
        with db.transaction(self._database) as session:
            verb(session, session.query(Row).filter_by(key=key).one())
        self.look()

    def look(self, now: datetime | None = None) -> bool:
        with self._database() as session:
            return self.keeper.look(session, now or clock.now())

    def login(self, user: str, password: str = PASSWORD) -> Device:
        return Device(self.broker.port, username=user, password=password)

    def lets_in(self, user: str, password: str) -> bool:
        device = self.login(user, password)
        device.leave()
        return device.is_accepted

    def shows(self, authority: Authority, name: str) -> Device:
        return Device(self.tls_port, tls=authority.context(name))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def kept(brokers: Callable[..., Mosquitto], database: sessionmaker[Session], authority: Authority) -> Kept:
    with db.transaction(database) as session:
        company = factories.company(session)
    certificate, key = authority.sign("broker")
    tls_port = free_port()
    lines = f"{mosquitto.SETTINGS}\npassword_file {{folder}}/passwd\nacl_file {{folder}}/acl"
    passwd = credentials.password_file({}, ingest=passwords.hashed(OWN))
    broker = brokers(
        lines,
        {"passwd": passwd, "acl": credentials.access_file()},
        listeners=mosquitto.tls_listener(f"{tls_port} 127.0.0.1", str(certificate), str(key), str(authority.file)),
    )
    return Kept(broker, tls_port, database, company)


def test_ING_6_with_mosquitto_the_new_password_works_under_a_second_name_until_the_overlap_ends(kept: Kept) -> None:
    kept.register("pump")
    until(lambda: kept.lets_in("pump", PASSWORD), what="the broker knows it")
    old = kept.login("pump")
    began = clock.now()
    kept.change("pump", lambda session, row: verbs.rotate(
        session, row, passwords.hashed("new"), keep=HOUR, actor="account:1", now=began))  # fmt: skip
    until(lambda: kept.lets_in("pump~2", "new"), what="the second name is known")
    assert not kept.lets_in("pump", "new")
    assert not kept.lets_in("pump~2", PASSWORD)
    new = kept.login("pump~2", "new")
    for device in (old, new):
        device.say("fw/v1/pump/telemetry", b"{}")
        assert not device.is_gone
    assert new.subscribe("fw/v1/pump/command/+") < 0x80
    assert not kept.look(began + HOUR - timedelta(seconds=1))
    assert kept.look(began + HOUR)
    until(lambda: old.is_gone, what="the connection with the password before is cut")
    assert not kept.lets_in("pump", PASSWORD)
    assert kept.lets_in("pump", "new")
    assert not new.is_gone


def test_D15_with_mosquitto_a_second_name_reaches_its_own_device_and_no_other(kept: Kept) -> None:
    for key in ("pump", "spy"):
        kept.register(key)
    kept.change("spy", lambda session, row: verbs.rotate(
        session, row, passwords.hashed("new"), keep=HOUR, actor="account:1", now=clock.now()))  # fmt: skip
    until(lambda: kept.lets_in("spy~2", "new"), what="the second name is known")
    spy, pump = kept.login("spy~2", "new"), kept.login("pump")
    platform = Device(kept.broker.port, username="_fixwright", password=OWN)
    platform.subscribe("fw/v1/#")
    spy.subscribe("fw/v1/pump/#")
    spy.subscribe("fw/v1/+/command/+")
    for topic in ("fw/v1/pump/telemetry", "fw/v1/spy~2/telemetry", "fw/v1/spy/telemetry"):
        spy.say(topic, b"{}")
    pump.say("fw/v1/pump/telemetry", b"own")
    until(lambda: len(platform.received) == 2, what="what is allowed arrives")
    assert platform.received == [("fw/v1/spy/telemetry", b"{}"), ("fw/v1/pump/telemetry", b"own")]
    assert spy.received == []


def test_ING_6_with_mosquitto_revoking_cuts_the_connection_of_a_password_within_two_seconds(kept: Kept) -> None:
    kept.register("pump")
    until(lambda: kept.lets_in("pump", PASSWORD), what="the broker knows it")
    device = kept.login("pump")
    began = time.monotonic()
    kept.change("pump", lambda session, row: devices.revoke(session, row, actor="account:1", now=clock.now()))
    until(lambda: device.is_gone, what="the connection is cut")
    # Two seconds are promised; a machine that runs other tests beside this one may be slower, so the bound is wide.
    assert time.monotonic() - began < 10
    assert not kept.lets_in("pump", PASSWORD)


def test_ING_6_with_mosquitto_a_certificates_common_name_is_the_device_and_revoking_cuts_it(
    kept: Kept, authority: Authority
) -> None:
    kept.register("pump", certificate=True)
    device = kept.shows(authority, "pump")
    assert device.is_accepted
    platform = Device(kept.broker.port, username="_fixwright", password=OWN)
    platform.subscribe("fw/v1/#")
    device.say("fw/v1/spy/telemetry", b"foreign")
    device.say("fw/v1/pump/telemetry", b"own")
    until(lambda: platform.received, what="what is allowed arrives")
    assert platform.received == [("fw/v1/pump/telemetry", b"own")]
    began = time.monotonic()
    kept.change("pump", lambda session, row: devices.revoke(session, row, actor="account:1", now=clock.now()))
    until(lambda: device.is_gone, what="the connection is cut")
    assert time.monotonic() - began < 10
    again = kept.shows(authority, "pump")
    again.say("fw/v1/pump/telemetry", b"too late")
    platform.subscribe("fw/v1/pump/+")
    assert platform.received == [("fw/v1/pump/telemetry", b"own")]
    assert "pump" not in (kept.broker.folder / "passwd").read_text()


def test_ING_6_the_users_of_a_device_at_a_broker_that_knows_one_password_each() -> None:
    plain = Credentials("a")
    during = Credentials("b", "pump~2", "a", None, NOW + HOUR)
    later = Credentials("c", "pump~3", "b", "pump~2", NOW + HOUR)
    assert credentials.users_of("pump", Credentials(), NOW) == {}
    assert credentials.users_of("pump", plain, NOW) == {"pump": "a"}
    assert credentials.users_of("pump", during, NOW) == {"pump": "a", "pump~2": "b"}
    assert credentials.users_of("pump", during, NOW + HOUR) == {"pump": "b", "pump~2": "b"}
    assert credentials.users_of("pump", later, NOW) == {"pump": "b", "pump~2": "b", "pump~3": "c"}
    assert credentials.users_of("pump", later, NOW + HOUR) == {"pump": "c", "pump~3": "c"}
