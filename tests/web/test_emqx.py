"""What an EMQX cluster asks: who may connect, who may use a topic, in its own format; and who is shown out of it."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from api.app import create
from api.runtime import Runtime
from assets import credentials, devices, passwords
from assets.models import Device as Row
from ingest.emqx import Management
from kernel import clock, db
from kernel.errors import Misconfigured
from tests import factories
from tests.factories import Company
from tests.serving import served

SECRET = "shown by the broker"
PASSWORD = "open sesame"
Ask = Callable[..., dict[str, Any]]
Change = Callable[[Callable[[Session, Row], None]], None]


@pytest.fixture
def runtime(runtime: Runtime) -> Runtime:
    more = {"broker_secret": SECRET, "mqtt_url": "mqtt://_fixwright:the%20platform@127.0.0.1:1"}
    runtime.settings = type(runtime.settings)(**{**runtime.settings.model_dump(), **more})
    return runtime


@pytest.fixture
def change(database: sessionmaker[Session], company: Company) -> Change:
    """Register a device with a password and return what changes it."""
    with db.transaction(database) as session:
        factories.device(session, company, "harbour", key="pump", password_hash=passwords.hashed(PASSWORD))

    def commit(verb: Callable[[Session, Row], None]) -> None:
        with db.transaction(database) as session:
            verb(session, session.query(Row).filter_by(key="pump").one())

    return commit


@pytest.fixture
def ask(stranger: httpx.Client, change: Change) -> Ask:
    del change

    def send(what: str, *, shows: str | None = SECRET, **body: Any) -> dict[str, Any]:
        headers = {} if shows is None else {"Authorization": f"Bearer {shows}"}
        answer = stranger.post(f"/api/v1/broker/emqx/{what}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return send


def enters(ask: Ask, username: str = "pump", password: str = PASSWORD, clientid: str = "pump", **more: Any) -> bool:
    verdict = ask("authentication", username=username, password=password, clientid=clientid, **more)
    assert verdict["result"] in {"allow", "deny"}
    return bool(verdict["result"] == "allow")


def test_ING_6_emqx_lets_in_who_shows_the_password_and_gives_its_rights(ask: Ask) -> None:
    verdict = ask("authentication", username="pump", password=PASSWORD, clientid="pump")
    assert (verdict["result"], verdict["is_superuser"]) == ("allow", False)
    assert "expire_at" not in verdict
    assert {"permission": "allow", "action": "publish", "topic": "fw/v1/pump/telemetry"} in verdict["acl"]
    assert verdict["acl"][-1] == {"permission": "deny", "action": "all", "topic": "#"}
    assert not enters(ask, password="wrong")
    assert not enters(ask, username="nobody")
    assert not enters(ask, username="", password="", clientid="x")
    assert not enters(ask, username="undefined", password="undefined")


def test_D15_emqx_refuses_a_foreign_client_id(ask: Ask, change: Change) -> None:
    assert enters(ask, clientid="pump:2")
    for foreign in ("spy", "pumps", "", "_fixwright", "fixwright-ingest"):
        assert not enters(ask, clientid=foreign)
    change(lambda session, row: credentials.bind_client(session, row, "plc-4", actor="account:1", now=clock.now()))
    assert enters(ask, clientid="plc-4")
    assert not enters(ask, clientid="pump")


def test_ING_6_emqx_ends_a_connection_with_the_password_before_when_the_overlap_ends(ask: Ask, change: Change) -> None:
    now = clock.now()
    keep = timedelta(hours=1)
    change(lambda session, row: credentials.rotate(
        session, row, passwords.hashed("new"), keep=keep, actor="account:1", now=now))  # fmt: skip
    old = ask("authentication", username="pump", password=PASSWORD, clientid="pump")
    assert (old["result"], old["expire_at"]) == ("allow", int((now + keep).timestamp()))
    assert "expire_at" not in ask("authentication", username="pump", password="new", clientid="pump")
    assert enters(ask, username="pump~2", password="new", clientid="pump~2")

    def run_out(_: Session, row: Row) -> None:
        row.previous_until = clock.now()

    change(run_out)
    assert not enters(ask)


def test_ING_6_emqx_lets_in_the_device_a_verified_certificate_names(ask: Ask, change: Change) -> None:
    assert not enters(ask, password="", cert_common_name="pump")
    change(lambda session, row: credentials.accept_certificate(session, row, True, actor="account:1", now=clock.now()))
    assert enters(ask, username="", password="", cert_common_name="pump")
    assert enters(ask, username="pump", password="", cert_common_name="pump")
    assert not enters(ask, cert_common_name="spy")
    assert enters(ask, cert_common_name="undefined")
    change(lambda session, row: devices.revoke(session, row, actor="account:1", now=clock.now()))
    assert not enters(ask, password="", cert_common_name="pump")
    assert not enters(ask)


@pytest.mark.parametrize(
    ("action", "topic", "result"),
    [
        ("publish", "fw/v1/pump/telemetry", "allow"),
        ("publish", "spBv1.0/plant/NDATA/pump", "allow"),
        ("subscribe", "fw/v1/pump/command/+", "allow"),
        ("subscribe", "fw/v1/pump/alarm/ack", "allow"),
        ("publish", "fw/v1/spy/telemetry", "deny"),
        ("publish", "fw/v1/pump/alarm/ack", "deny"),
        ("subscribe", "fw/v1/pump/telemetry", "deny"),
        ("subscribe", "fw/v1/+/command/+", "deny"),
        ("subscribe", "#", "deny"),
        ("subscribe", "$SYS/#", "deny"),
        ("subscribe", "$share/a/fw/v1/pump/command/+", "deny"),
        ("all", "fw/v1/pump/telemetry", "deny"),
        (None, "fw/v1/pump/telemetry", "deny"),
        ("publish", "", "deny"),
    ],
)
def test_D15_emqx_keeps_a_device_in_its_own_subtree(ask: Ask, action: str | None, topic: str, result: str) -> None:
    for username in ("pump", "pump~2"):
        assert ask("authorization", username=username, action=action, topic=topic) == {"result": result}
    assert ask("authorization", username="nobody", action=action, topic=topic) == {"result": "deny"}


def test_the_platform_itself_may_use_everything_with_its_own_password(ask: Ask) -> None:
    assert ask("authentication", username="_fixwright", password="the platform", clientid="x")["is_superuser"] is True
    for wrong in ("", "wrong", "the%20platform"):
        assert not enters(ask, username="_fixwright", password=wrong)
    assert ask("authorization", username="_fixwright", action="subscribe", topic="fw/v1/#") == {"result": "allow"}


def test_who_does_not_show_the_secret_is_told_nothing(ask: Ask) -> None:
    for shows in (None, "wrong", SECRET.upper()):
        for username in ("pump", "_fixwright"):
            known = {"username": username, "password": PASSWORD, "clientid": "pump"}
            assert ask("authentication", shows=shows, **known) == {"result": "deny"}
            assert ask(
                "authorization", shows=shows, username=username, action="publish", topic="fw/v1/pump/status"
            ) == {"result": "deny"}


def test_without_the_setting_both_addresses_are_closed(runtime: Runtime, change: Change) -> None:
    del change
    runtime.settings = type(runtime.settings)(**{**runtime.settings.model_dump(), "broker_secret": None})
    with served(create(runtime)) as url, httpx.Client(base_url=url) as client:
        for shows in ("None", "Bearer None"):
            answer = client.post(
                "/api/v1/broker/emqx/authentication",
                json={"username": "pump", "password": PASSWORD, "clientid": "pump"},
                headers={"Authorization": f"Bearer {shows}"},
            )
            assert answer.json() == {"result": "deny"}


def test_a_database_that_fails_lets_nobody_in(ask: Ask, database: sessionmaker[Session]) -> None:
    assert enters(ask)
    with db.transaction(database) as session:
        session.execute(text("ALTER TABLE device RENAME TO device_away"))
    assert not enters(ask)
    verdict = ask("authorization", username="pump", action="publish", topic="fw/v1/pump/telemetry")
    assert verdict == {"result": "deny"}


# Shown out --------------------------------------------------------------------------------------------------------


class _Api(BaseHTTPRequestHandler):
    """EMQX's management API as far as we use it: the clients of a user name, and their end."""

    clients: dict[str, str]
    ended: list[str]
    shown: set[str]

    def do_GET(self) -> None:
        self.shown.add(self.headers["Authorization"])
        user = httpx.URL(self.path).params["username"]
        data = [{"clientid": client, "username": name} for client, name in self.clients.items() if name == user]
        self._answer(200, json.dumps({"data": data, "meta": {"count": len(data)}}).encode())

    def do_DELETE(self) -> None:
        client = self.path.rpartition("/")[2].replace("%2F", "/").replace("%7E", "~")
        self.ended.append(client)
        self._answer(204 if client in self.clients else 404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class gives it
        """Say nothing: a test's output is its own."""


@pytest.fixture
def cluster() -> Iterator[tuple[str, type[_Api]]]:
    kind = type("Api", (_Api,), {"clients": {}, "ended": [], "shown": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://key:s%2Fcret@127.0.0.1:{server.server_port}", kind
    server.shutdown()
    server.server_close()
    thread.join()


def test_ING_6_emqx_is_told_to_end_every_connection_of_a_revoked_device_and_no_other(
    cluster: tuple[str, type[_Api]],
) -> None:
    url, api = cluster
    api.clients.update({"pump": "pump", "pump/b": "pump", "pump~2": "pump~2", "spy": "spy"})
    assert Management(url).end("pump") == 3
    assert api.ended == ["pump", "pump/b", "pump~2"]
    assert api.shown == {"Basic " + base64.b64encode(b"key:s/cret").decode()}


def test_a_cluster_that_does_not_answer_is_logged_and_nothing_more() -> None:
    assert Management("http://key:secret@127.0.0.1:1").end("pump") == 0
    for url in ("emqx:18083", "http://emqx:18083", "http://key@emqx", "ftp://k:s@emqx"):
        with pytest.raises(Misconfigured):
            Management(url)
