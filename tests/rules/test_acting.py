"""Alarms set off their actions: each once, independent of one another, a target that is down waited for (RUL-17)."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.command_tables import DeviceCommand
from assets.models import Attribute
from kernel import courier, db, events, outgoing
from kernel.errors import Invalid, Unavailable
from kernel.models import Delivery
from people.models import Notice
from rules import acting, actions
from rules.action_tables import AlarmActionRun
from rules.actions import ActionDraft, Whose
from rules.events import AlarmActionDue, AlarmAnnounced, AlarmCleared, AlarmWebhookDue
from rules.models import Alarm, AlarmType
from tests import factories
from tests.factories import NOW, Company

SUBSCRIPTIONS: events.Subscriptions = {
    AlarmAnnounced: (acting.on_announced,),
    AlarmCleared: (acting.on_cleared,),
    AlarmActionDue: (acting.on_due,),
    AlarmWebhookDue: (acting.on_webhook_due,),
}
MINUTE = timedelta(minutes=1)


class Plain(HTTPServer):
    """Looks its own name up at no name server, which may take long to say that it does not know."""

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


@contextmanager
def listening(port: int = 0) -> Iterator[tuple[int, list[tuple[dict[str, str], bytes]]]]:
    """Take posts on a port of the loopback; yield the port and what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    class Target(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((dict(self.headers.items()), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = Plain(("127.0.0.1", port), Target)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield server.server_address[1], came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def acme(database: sessionmaker[Session]) -> Company:
    database.kw["info"]["outgoing"] = ("127.0.0.0/8",)
    with db.transaction(database) as session:
        return factories.company(session)


def raised(session: Session, acme: Company, kind: AlarmType, **values: object) -> Alarm:
    asset = factories.asset(session, acme)
    alarm = factories.alarm(
        session, asset, **{"alarm_type_id": kind.id, "type_key": kind.key, "announced_at": NOW, **values}
    )
    said = AlarmAnnounced(alarm.id, "raised")
    events.emit(session, said, subject=f"alarm:{alarm.id}", at=NOW, actor="system", unit_id=alarm.unit_id)
    return alarm


def deliver(database: sessionmaker[Session], now: Any = NOW) -> list[str]:
    errors = []
    while True:
        with db.transaction(database) as session:
            taken = events.fan_out(session, SUBSCRIPTIONS, now)
        delivered = 0
        while (outcome := courier.deliver_one(database, SUBSCRIPTIONS, now)) is not None:
            delivered += 1
            errors += [outcome.error] if outcome.error else []
        if not taken and not delivered:
            return errors


def add(session: Session, kind: AlarmType, of: str, *, occasion: str = "raise", **settings: object) -> None:
    draft = ActionDraft(of, settings, occasion, "warning")
    actions.add(session, actions.of_rule(kind), draft, actor="account:1", now=NOW)


def test_RUL_17_two_actions_the_first_target_down_for_ten_minutes(
    database: sessionmaker[Session], acme: Company
) -> None:
    with listening() as (port, _):
        pass
    with db.transaction(database) as session:
        account = factories.account(session, acme, "dispatcher", "company")
        kind = factories.alarm_type(session, acme)
        add(session, kind, "webhook", url=f"http://127.0.0.1:{port}/alarms?from=plant")
        add(session, kind, "message", account_id=account.id)
        raised(session, acme, kind)
    assert len(deliver(database)) == 1
    with database() as session:
        assert session.scalars(select(Notice.account_id)).all() == [account.id], "the second ran"
        assert "does not answer" in session.scalars(select(Delivery.last_error).where(Delivery.attempts > 0)).one()
    for second in range(0, 600, 30):
        deliver(database, NOW + timedelta(seconds=second))
    with listening(port) as (_, came):
        for minute in range(10, 30, 4):
            deliver(database, NOW + minute * MINUTE)
    assert len(came) == 1, "the first runs once when it is back"
    headers, body = came[0]
    told = json.loads(body)
    assert (told["event"], told["alarm"]["severity"]) == ("alarm.raised", "critical")
    stamp, _, proof = headers["X-Fixwright-Signature"].partition(",v1=")
    with database() as session:
        run = session.scalars(select(AlarmActionRun).where(AlarmActionRun.kind == "webhook")).one()
        key = actions.signing_key(session, run.settings).encode()
        assert run.done_at is not None
        assert session.scalars(select(func.count(Notice.id))).one() == 1
        assert {row.state for row in session.scalars(select(Delivery))} == {"done"}
    assert proof == hmac.new(key, stamp.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()


def test_RUL_17_what_waits_for_strangers_is_delivered_apart(database: sessionmaker[Session], acme: Company) -> None:
    apart = {events.name_of(acting.on_webhook_due)}
    with listening() as (port, came), database() as session:
        account = factories.account(session, acme, "dispatcher", "company")
        kind = factories.alarm_type(session, acme)
        add(session, kind, "webhook", url=f"http://127.0.0.1:{port}/")
        add(session, kind, "message", account_id=account.id)
        raised(session, acme, kind)
        session.commit()
        for _round in range(2):
            with db.transaction(database) as other:
                events.fan_out(other, SUBSCRIPTIONS, NOW)
            while courier.deliver_one(database, SUBSCRIPTIONS, NOW, besides=apart) is not None:
                pass
        assert session.scalars(select(func.count(Notice.id))).one() == 1
        assert came == []
        while courier.deliver_one(database, SUBSCRIPTIONS, NOW, among=apart) is not None:
            pass
        assert len(came) == 1


def test_RUL_17_an_action_runs_once_an_alarm_however_often_it_is_announced(
    database: sessionmaker[Session], acme: Company
) -> None:
    with db.transaction(database) as session:
        account = factories.account(session, acme, "dispatcher", "company")
        kind = factories.alarm_type(session, acme)
        add(session, kind, "message", account_id=account.id)
        alarm = raised(session, acme, kind)
        for why in ("rearmed", "released", "severity"):
            again = AlarmAnnounced(alarm.id, why)
            events.emit(session, again, subject=f"alarm:{alarm.id}", at=NOW, actor="system")
    assert deliver(database) == []
    with database() as session:
        assert session.scalars(select(func.count(Notice.id))).one() == 1


def test_RUL_17_what_is_below_the_severity_sets_nothing_off_until_it_gets_worse(
    database: sessionmaker[Session], acme: Company
) -> None:
    with db.transaction(database) as session:
        account = factories.account(session, acme, "dispatcher", "company")
        kind = factories.alarm_type(session, acme)
        add(session, kind, "message", account_id=account.id)
        alarm = raised(session, acme, kind, severity="info")
    assert deliver(database) == []
    with db.transaction(database) as session:
        assert session.scalars(select(Notice)).all() == []
        session.get_one(Alarm, alarm.id).severity = "warning"
        worse = AlarmAnnounced(alarm.id, "severity")
        events.emit(session, worse, subject=f"alarm:{alarm.id}", at=NOW, actor="system")
    assert deliver(database) == []
    with database() as session:
        assert session.scalars(select(func.count(Notice.id))).one() == 1


def test_RUL_17_a_device_is_told_on_the_raise_and_marked_on_the_clear(
    database: sessionmaker[Session], acme: Company
) -> None:
    with db.transaction(database) as session:
        kind = factories.alarm_type(session, acme)
        add(session, kind, "command", method="slow_down", params={"percent": 50})
        add(session, kind, "attribute", occasion="clear", name="tripped", value=False)
        alarm = raised(session, acme, kind)
        assert alarm.asset is not None
        device = factories.device(session, acme, on=alarm.asset)
    assert deliver(database) == []
    with db.transaction(database) as session:
        command = session.scalars(select(DeviceCommand)).one()
        assert (command.device_id, command.method, command.params) == (device.id, "slow_down", {"percent": 50})
        assert session.scalars(select(Attribute)).all() == []
        over = AlarmCleared(alarm.id)
        events.emit(session, over, subject=f"alarm:{alarm.id}", at=NOW, actor="system")
    assert deliver(database) == []
    with database() as session:
        mark = session.scalars(select(Attribute)).one()
        assert (mark.level, mark.subject_id, mark.name, mark.value) == ("asset", alarm.asset_id, "tripped", False)
        assert session.scalars(select(func.count(DeviceCommand.id))).one() == 1


def test_RUL_17_what_was_never_announced_has_no_end_to_tell(database: sessionmaker[Session], acme: Company) -> None:
    with db.transaction(database) as session:
        account = factories.account(session, acme, "dispatcher", "company")
        kind = factories.alarm_type(session, acme)
        add(session, kind, "message", occasion="clear", account_id=account.id)
        alarm = factories.alarm(session, factories.asset(session, acme), alarm_type_id=kind.id, announced_at=None)
        events.emit(session, AlarmCleared(alarm.id), subject=f"alarm:{alarm.id}", at=NOW, actor="system")
    assert deliver(database) == []
    with database() as session:
        assert session.scalars(select(Notice)).all() == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "http://", "http://user:pass@example.com/", "https://example.com:99999/", "gopher:x",
        "http://exa mple.com/", "/alarms",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_posted_to_is_refused_when_it_is_typed(url: str) -> None:
    with pytest.raises(Invalid):
        outgoing.check(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.5", "192.168.1.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]",
             "0.0.0.1", "100.64.0.1", "[fe80::1]", "2130706433"],
)  # fmt: skip
def test_nothing_is_posted_into_a_network_that_is_not_public(host: str) -> None:
    with listening() as (port, came), pytest.raises((Invalid, Unavailable)) as refused:
        outgoing.post(f"http://{host}:{port}/", b"{}", {})
    assert isinstance(refused.value, Invalid)
    assert came == []


def test_an_answer_that_is_no_success_or_leads_elsewhere_is_no_success() -> None:
    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = Plain(("127.0.0.1", 0), Redirect)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        with pytest.raises(Unavailable):
            outgoing.post(
                f"http://127.0.0.1:{server.server_address[1]}/", b"{}", {}, allowed=outgoing.networks(["127.0.0.0/8"])
            )
    finally:
        thread.join()
        server.server_close()


def test_RUL_17_an_alarm_that_a_device_reports_sets_off_what_its_code_says(
    database: sessionmaker[Session], acme: Company
) -> None:
    with db.transaction(database) as session:
        account = factories.account(session, acme, "dispatcher", "company")
        pump = factories.asset(session, acme)
        fan = factories.asset(session, acme, type_id=factories.asset_type(session, acme, "fan").id)
        for code, type_id, name in (("E42", None, "of all"), ("E42", pump.type_id, "of pumps"), ("E43", None, "other")):
            whose = Whose(acme.id, "alarm_code:1", code=code, asset_type_id=type_id)
            draft = ActionDraft("attribute", {"name": "tripped", "value": name})
            actions.add(session, whose, draft, actor=f"account:{account.id}", now=NOW)
        alarms = [
            factories.alarm(session, asset, type_key="E42", origin=origin, announced_at=NOW)
            for asset, origin in ((pump, "device"), (fan, "device"), (factories.asset(session, acme), "rule"))
        ]
        for alarm in alarms:
            said = AlarmAnnounced(alarm.id, "raised")
            events.emit(session, said, subject=f"alarm:{alarm.id}", at=NOW, actor="system", unit_id=alarm.unit_id)
        told = [AlarmAnnounced(alarm.id, "raised") for alarm in alarms]
        assert acting.concerns(session, told) == [True, True, False]
    assert deliver(database) == []
    with database() as session:
        found = session.execute(select(Attribute.subject_id, Attribute.value).order_by(Attribute.subject_id)).all()
        assert [tuple(row) for row in found] == [(pump.id, "of pumps"), (fan.id, "of all")]
