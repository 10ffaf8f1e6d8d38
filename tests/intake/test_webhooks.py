"""Other systems that post to an address of their own, by token or by signature (ING-11)."""

import base64
import hmac
import json
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create
from api.web import assets as libraries
from ingest import webhooks
from ingest.models import RejectedMessage, WebhookSource
from kernel import clock, db
from kernel.errors import Conflict, Invalid
from kernel.models import AuditEntry
from people.models import OrgUnit
from tests import factories
from tests.browser import faults, visit
from tests.conftest import SECRET
from tests.intake.conftest import Intake
from tests.serving import served

UPLINK = json.dumps({"deviceInfo": {"devEui": "70b3d57ed0000001"}, "object": {"temperature": 21.5}}).encode()


def add(database: sessionmaker[Session], intake: Intake, name: str, proof: str) -> tuple[int, str]:
    with db.transaction(database) as session:
        unit = session.get_one(OrgUnit, intake.works.company.id)
        source = webhooks.add(session, name, proof=proof, unit=unit, actor="account:1", now=clock.now())
        return source.id, webhooks.secret_of(SECRET, source)


def post(intake: Intake, name: str, body: bytes = UPLINK, **headers: str) -> httpx.Response:
    return httpx.post(f"{intake.address}/api/v1/intake/webhook/{name}", content=body, headers=headers, timeout=60)


def test_ING_11_a_webhook_with_its_token_is_kept_until_a_mapping_understands_it(
    intake: Intake, database: sessionmaker[Session]
) -> None:
    _, secret = add(database, intake, "chirpstack", "token")
    answer = post(intake, "chirpstack", Authorization=f"Bearer {secret}")
    assert (answer.status_code, answer.json()["rejects"][0]["reason"]) == (202, "unknown_topic")
    assert (
        httpx.post(f"{intake.address}/api/v1/intake/webhook/chirpstack?token={secret}", content=UPLINK).status_code
        == 202
    )
    (kept,) = intake.rejects()
    assert (kept.topic, bytes(kept.payload), kept.repeats) == ("webhook/chirpstack", UPLINK, 2)
    assert kept.unit_id == intake.works.company.id
    with database() as session:
        assert session.scalars(select(WebhookSource.last_used_at)).one() is not None
    assert intake.ledger() == (2, 0, 0, 2)


def test_ING_11_a_signature_is_that_of_the_body_and_of_no_other(
    intake: Intake, database: sessionmaker[Session]
) -> None:
    _, secret = add(database, intake, "erp", "signature")
    made = hmac.digest(secret.encode(), UPLINK, "sha256")
    for signature in (f"sha256={made.hex()}", made.hex().upper(), base64.b64encode(made).decode()):
        assert post(intake, "erp", **{"X-Hub-Signature-256": signature}).status_code == 202
    assert post(intake, "erp", UPLINK + b" ", **{"X-Hub-Signature-256": made.hex()}).status_code == 401
    assert post(intake, "erp", Authorization=f"Bearer {secret}").status_code == 401
    assert post(intake, "erp").status_code == 401
    assert post(intake, "nobody", Authorization=f"Bearer {secret}").status_code == 401


def test_ING_11_rotation_and_revocation_hold_at_once_and_are_audited(
    intake: Intake, database: sessionmaker[Session]
) -> None:
    number, old = add(database, intake, "ttn", "token")
    with db.transaction(database) as session:
        source = session.get_one(WebhookSource, number)
        webhooks.rotate(session, source, actor="account:1", now=clock.now())
        new = webhooks.secret_of(SECRET, source)
    assert post(intake, "ttn", Authorization=f"Bearer {old}").status_code == 401
    assert post(intake, "ttn", Authorization=f"Bearer {new}").status_code == 202
    with db.transaction(database) as session:
        webhooks.revoke(session, session.get_one(WebhookSource, number), actor="account:1", now=clock.now())
    assert post(intake, "ttn", Authorization=f"Bearer {new}").status_code == 401
    with db.transaction(database) as session:
        source = session.get_one(WebhookSource, number)
        with pytest.raises(Conflict):
            webhooks.rotate(session, source, actor="account:1", now=clock.now())
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.subject == f"webhook:{number}")).all()
        assert sorted(actions) == ["webhook.add", "webhook.revoke", "webhook.rotate"]
        unit = session.get_one(OrgUnit, intake.works.company.id)
        for name, error in (("ttn", Conflict), ("No Name", Invalid), ("", Invalid)):
            with pytest.raises(error):
                webhooks.add(session, name, proof="token", unit=unit, actor="account:1", now=clock.now())


@pytest.fixture
def boss(intake: Intake, database: sessionmaker[Session]) -> Iterator[httpx.Client]:
    with db.transaction(database) as session:
        company = factories.company(session, "other", "Other Works")
        secret, csrf = factories.sign_in(
            session, factories.account(session, company, "administrator", "company"), now=clock.now()
        )
    with served(create(intake.runtime)) as address, httpx.Client(base_url=address, timeout=60) as client:
        client.cookies.set("fixwright_session", secret)
        client.headers["X-CSRF-Token"] = csrf
        yield client


def test_ING_11_the_page_shows_a_secret_once_and_it_works(intake: Intake, boss: httpx.Client) -> None:
    assert "No webhook sources yet" in boss.get("/webhooks").text
    page = boss.post("/webhooks", data={"name": "loriot", "proof": "token"})
    assert page.headers["cache-control"] == "no-store"
    secret = page.text.partition('id="secret">')[2].partition("<")[0]
    assert post(intake, "loriot", Authorization=f"Bearer {secret}").status_code == 202
    assert secret not in boss.get("/webhooks").text
    assert boss.post("/webhooks", data={"name": "loriot", "proof": "token"}).status_code == 422
    made = boss.post("/api/v1/webhooks", json={"name": "erp", "proof": "signature"}).json()
    assert (made["header"], made["url"].rpartition("/")[2]) == ("X-Hub-Signature-256", "erp")
    assert [row["name"] for row in boss.get("/api/v1/webhooks").json()["items"]] == ["erp", "loriot"]
    assert boss.post(f"/api/v1/webhooks/{made['id']}/revoke").json()["revoked_at"]
    assert boss.post(f"/webhooks/{made['id']}/rotate").status_code == 409
    with intake.runtime.sessions() as session:
        assert session.scalars(select(RejectedMessage.topic)).all() == ["webhook/loriot"]


def test_the_pages_have_nothing_serious_to_complain_of_in_both_languages_and_sizes(
    boss: httpx.Client, database: sessionmaker[Session], browser: Browser
) -> None:
    if not libraries.VENDOR.is_dir():
        pytest.skip("needs the browser libraries (python -m api.web.assets, or make test)")
    for name, proof in (("chirpstack", "token"), ("erp-of-the-works", "signature")):
        boss.post("/api/v1/webhooks", json={"name": name, "proof": proof})
    with db.transaction(database) as session:
        for source in session.scalars(select(WebhookSource).where(WebhookSource.name == "erp-of-the-works")):
            webhooks.revoke(session, source, actor="account:1", now=clock.now())
    address = str(boss.base_url).rstrip("/")
    with visit(browser):
        for width, language in ((360, "zh"), (1440, "en")):
            context = browser.new_context(viewport={"width": width, "height": 900})
            cookies = [{"name": name, "value": value, "url": address} for name, value in boss.cookies.items()]
            context.add_cookies([*cookies, {"name": "lang", "value": language, "url": address}])
            page = context.new_page()
            page.goto(f"{address}/webhooks")
            page.wait_for_load_state("networkidle")
            assert faults(page) == []
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            page.locator("#f-name").fill(f"loriot-{width}")
            page.locator(".fw-buttons .btn-primary").click()
            page.wait_for_selector("#secret")
            assert faults(page) == []
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
