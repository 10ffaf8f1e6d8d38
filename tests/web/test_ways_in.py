"""The five ways in (ING-7), each from the first request to a stored reading, over real HTTP and a real broker."""

import base64
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets import enrolment
from assets.models import Device as Row
from assets.models import DeviceApplication
from ingest.run import Ingest
from kernel import clock, db, settings
from kernel.models import AuditEntry
from telemetry.models import Series
from tests import factories
from tests.certificates import Authority
from tests.factories import Company
from tests.ingest.edges import Device
from tests.waiting import until

Way = Callable[["World"], tuple[str | None, str | None, ssl.SSLContext | None]]
ASK = "/api/v1/provision"


class World:
    """The product with its broker, as somebody who sets up a way in and a device that uses it see it."""

    def __init__(
        self, client: httpx.Client, stranger: httpx.Client, authority: Authority, place: dict[str, int]
    ) -> None:
        self.client = client
        self.stranger = stranger
        self.authority = authority
        self.place = place

    def offered(self, kind: str, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/v1/devices/enrolments/{kind}", json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def secret(self, **body: Any) -> str:
        made = self.offered("secrets", type_id=self.place["type"], site_id=self.place["site"], **body)
        return str(made["secret"])

    def ask(self, **body: Any) -> httpx.Response:
        return self.stranger.post(ASK, json=body)

    def with_certificate(self, name: str, *, time: str | None = None, signs: str | None = None) -> httpx.Response:
        certificate, key_file = self.authority.sign(name)
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        at = time or clock.now().isoformat()
        signature = key.sign(f"fixwright-provision {signs or name} {at}".encode(), ec.ECDSA(hashes.SHA256()))
        return self.ask(certificate=certificate.read_text(), time=at, signature=base64.b64encode(signature).decode())


@pytest.fixture
def place(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    with db.transaction(database) as session:
        kind = factories.asset_type(session, company, "pump")
        asset = factories.asset(session, company, "harbour", code="P-1")
        return {"type": kind.id, "site": company.sites["harbour"].id, "asset": asset.id}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def world(client: httpx.Client, stranger: httpx.Client, authority: Authority, place: dict[str, int]) -> World:
    return World(client, stranger, authority, place)


@pytest.fixture
def ingest(runtime: Runtime, tmp_path: Path, authority: Authority) -> Iterator[Ingest]:
    certificate, key = authority.sign("broker")
    chosen = settings.load(
        data_dir=tmp_path,
        mqtt_bind="127.0.0.1:0",
        mqtt_tls_bind="127.0.0.1:0",
        mqtt_tls_cert=certificate,
        mqtt_tls_key=key,
        mqtt_tls_client_ca=authority.file,
    )
    running = Ingest(chosen, runtime.sessions, runtime.store)
    running.start()
    yield running
    running.stop()


def by_hand(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    made = world.client.post("/api/v1/devices", json={"key": "way-in", "asset_id": world.place["asset"]}).json()
    return made["username"], made["password"], None


def by_csv(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    file = "\ufeffkey,name,asset\r\nway-in,Pump one,P-1\r\n\r\nother,,P-1\r\n".encode()
    answer = world.client.post("/api/v1/devices/import", files={"file": ("devices.csv", file)})
    assert answer.status_code == 201, answer.text
    made = answer.json()["devices"]
    assert [one["line"] for one in made] == [2, 4]
    return made[0]["key"], made[0]["password"], None


def by_claim_code(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    code = world.offered("claims", asset_id=world.place["asset"])["secret"]
    made = world.ask(code=f" {code.lower()} ", key="way-in")
    assert made.status_code == 201, made.text
    return made.json()["username"], made.json()["password"], None


def by_secret(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    made = world.ask(secret=world.secret(needs_approval=False), key="way-in", said={"serial": "SN-1"})
    assert made.status_code == 201, made.text
    return made.json()["username"], made.json()["password"], None


def by_secret_and_approval(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    shown = {"secret": world.secret(), "key": "way-in", "said": {"serial": "SN-1"}}
    for _ in range(2):
        assert world.ask(**shown).status_code == 202
    base = "/api/v1/devices/applications"
    [waiting] = world.client.get(base).json()["items"]
    assert waiting["said"] == {"serial": "SN-1"}
    assert world.client.post(f"{base}/{waiting['id']}/approve", json={}).status_code == 200
    made = world.ask(**shown)
    assert made.status_code == 201, made.text
    return made.json()["username"], made.json()["password"], None


def by_certificate(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    world.offered("authorities", certificate=world.authority.pem.decode(), site_id=world.place["site"])
    made = world.with_certificate("way-in")
    assert made.status_code == 201, made.text
    assert made.json()["password"] is None
    return None, None, world.authority.context("way-in")


def by_connecting(world: World) -> tuple[str | None, str | None, ssl.SSLContext | None]:
    world.offered("authorities", certificate=world.authority.pem.decode(), site_id=world.place["site"])
    return None, None, world.authority.context("way-in")


@pytest.mark.parametrize(
    "way", [by_hand, by_csv, by_claim_code, by_secret, by_secret_and_approval, by_certificate, by_connecting]
)
def test_ING_7_each_way_in_makes_one_working_device(
    world: World, ingest: Ingest, database: sessionmaker[Session], way: Way
) -> None:
    user, password, tls = way(world)

    def connected() -> Device | None:
        port = ingest.port if tls is None else ingest.tls_port
        device = Device(port, username=user, password=password, tls=tls)
        return device if device.is_accepted else device.leave()  # type: ignore[func-returns-value]  # None, which is the answer

    found: list[Device] = []
    until(lambda: found.extend(filter(None, [connected()])) or found, what="it comes in")  # type: ignore[func-returns-value]  # None, so that the list decides
    found[0].say("fw/v1/way-in/telemetry", '{"temperature": 21.5}')
    with database() as session:
        [row] = session.scalars(select(Row).where(Row.key == "way-in"))
        assert session.scalar(select(func.count()).where(Series.device_id == row.id)) == 1
    found[0].leave()


def test_ING_7_a_claim_code_works_once_and_for_whom_it_was_made(world: World) -> None:
    code = world.offered("claims", asset_id=world.place["asset"], key="mine")["secret"]
    assert world.ask(code=code, key="other").status_code == 401
    assert world.ask(code=code, key="mine").status_code == 201
    assert world.ask(code=code, key="mine").status_code == 401
    assert world.client.get("/api/v1/devices?q=mine").json()["items"][0]["asset_id"] == world.place["asset"]


def test_ING_7_ten_wrong_secrets_lock_the_source_for_a_while_and_are_audited(
    world: World, database: sessionmaker[Session]
) -> None:
    secret = world.secret(needs_approval=False)
    for number in range(10):
        assert world.ask(secret=f"wrong {number}", key="a").status_code == 401
    locked = world.ask(secret=secret, key="a")
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) > 0
    with database() as session:
        [entry] = session.scalars(select(AuditEntry).where(AuditEntry.action == "provision.lock"))
        assert entry.subject == "source:127.0.0.1"
        assert session.scalar(select(func.count(Row.id))) == 0
        later = clock.now() + 2 * enrolment.WINDOW
        enrolment.require_room(session, "127.0.0.1", later)
        with pytest.raises(Exception, match="wrong secrets"):
            enrolment.require_room(session, "127.0.0.1", later - enrolment.WINDOW)


def test_ING_7_unknown_devices_are_refused_where_their_type_offers_no_way_in(
    world: World, database: sessionmaker[Session]
) -> None:
    secret = world.secret(needs_approval=False)
    [offered] = world.client.get("/api/v1/devices/enrolments").json()["items"]
    assert "secret" not in offered
    assert world.client.post(f"/api/v1/devices/enrolments/{offered['id']}/close").status_code == 200
    assert world.ask(secret=secret, key="a").status_code == 401
    assert world.ask(key="a").status_code == 422
    assert world.with_certificate("a").status_code == 401
    with database() as session:
        assert session.scalar(select(func.count(Row.id))) == 0
        assert session.scalar(select(func.count(DeviceApplication.id))) == 0


def test_ING_7_who_holds_the_secret_of_a_type_becomes_no_device_that_is_there_already(
    world: World, database: sessionmaker[Session], company: Company
) -> None:
    secret = world.secret(needs_approval=False)
    with db.transaction(database) as session:
        factories.device(session, company, "harbour", key="theirs")
    assert world.ask(secret=secret, key="theirs").status_code == 409
    first = world.ask(secret=secret, key="mine")
    again = world.ask(secret=secret, key="mine")
    assert (first.status_code, again.status_code) == (201, 201), "its answer may have been lost"
    assert first.json()["password"] != again.json()["password"]
    with db.transaction(database) as session:
        session.query(Row).filter_by(key="mine").one().last_seen_at = clock.now()
    assert world.ask(secret=secret, key="mine").status_code == 409
    assert world.ask(secret=world.secret(needs_approval=False), key="mine").status_code == 409


def test_ING_7_a_declined_device_hears_so_and_gets_nothing(world: World) -> None:
    shown = {"secret": world.secret(), "key": "way-in"}
    assert world.ask(**shown).status_code == 202
    base = "/api/v1/devices/applications"
    [waiting] = world.client.get(base).json()["items"]
    world.client.post(f"{base}/{waiting['id']}/decline", json={"reason": "Not ours"})
    assert world.ask(**shown).status_code == 403


def test_ING_7_a_certificate_counts_only_with_its_key_and_now(world: World) -> None:
    world.offered("authorities", certificate=world.authority.pem.decode(), site_id=world.place["site"])
    assert world.with_certificate("a", signs="b").status_code == 401
    old = (clock.now() - timedelta(minutes=6)).isoformat()
    assert world.with_certificate("a", time=old).status_code == 401
    assert world.with_certificate("a", time="yesterday").status_code == 401
    assert world.ask(certificate="nonsense", key="a").status_code == 422


def test_ING_7_a_file_with_lines_that_do_not_fit_brings_in_nothing_and_names_each(
    world: World, database: sessionmaker[Session]
) -> None:
    lines = ["key,asset,site,gateway,certificate", "good,P-1,,,", "a b,P-1,,,", "x,nowhere,,,", "y,,,,", "good,P-1,,,",
             "z,P-1,,none,", "w,P-1,,,perhaps", "cert,P-1,,,yes"]  # fmt: skip
    answer = world.client.post("/api/v1/devices/import", files={"file": ("d.csv", "\n".join(lines).encode())})
    assert answer.status_code == 422
    told = [(one["line"], one["column"]) for one in answer.json()["errors"]]
    assert told == [(3, "key"), (4, "asset"), (5, "asset"), (6, "key"), (7, "gateway"), (8, "certificate")]
    assert answer.json()["devices"] == []
    with database() as session:
        assert session.scalar(select(func.count(Row.id))) == 0
    for content in (b"\xff\xfe", b"", b"name\nx\n", b"key,colour\nx,red\n"):
        assert world.client.post("/api/v1/devices/import", files={"file": ("d.csv", content)}).status_code == 422
