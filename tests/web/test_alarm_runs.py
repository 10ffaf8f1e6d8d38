"""What an alarm set off, on its page and as JSON: who was told, what failed and why, and trying that again (RUL-17)."""

from collections.abc import Callable
from datetime import timedelta
from html import unescape

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.web.alarm_runs import said
from kernel import clock, courier, db, events
from kernel.models import AuditEntry, Delivery
from rules import acting, action_runs, actions
from rules.actions import ActionDraft
from rules.events import AlarmActionDue, AlarmAnnounced, AlarmWebhookDue
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]
SUBSCRIPTIONS: events.Subscriptions = {
    AlarmAnnounced: (acting.on_announced,),
    AlarmActionDue: (acting.on_due,),
    AlarmWebhookDue: (acting.on_webhook_due,),
}


@pytest.fixture
def alarm(database: sessionmaker[Session], company: Company) -> int:
    """An alarm that told a role, and whose post into a network that is not public was refused until it was given up."""
    now = clock.now()
    with db.transaction(database) as session:
        factories.account(session, company, "dispatcher", "company")
        kind = factories.alarm_type(session, company)
        for draft in (
            ActionDraft("message", {"role": "dispatcher"}),
            ActionDraft("webhook", {"url": "http://127.0.0.1:9/a-secret"}),
            ActionDraft("attribute", {"name": "tripped", "value": True}),
        ):
            actions.add(session, actions.of_rule(kind), draft, actor="account:1", now=now)
        machine = factories.asset(session, company, "harbour")
        found = factories.alarm(session, machine, alarm_type_id=kind.id, type_key=kind.key, announced_at=now)
        events.emit(
            session, AlarmAnnounced(found.id, "raised"), subject=f"alarm:{found.id}", at=now, actor="system",
            unit_id=found.unit_id,
        )  # fmt: skip
        alarm_id = found.id
    deliver(database)
    return alarm_id


def deliver(database: sessionmaker[Session]) -> None:
    """Deliver what there is, and try again what fails until it is given up."""
    for round_ in range(2 + courier.ATTEMPTS):
        moment = clock.now() + round_ * timedelta(minutes=10)
        with db.transaction(database) as session:
            events.fan_out(session, SUBSCRIPTIONS, moment)
        while courier.deliver_one(database, SUBSCRIPTIONS, moment) is not None:
            pass


def test_RUL_17_the_page_of_an_alarm_says_what_it_set_off_and_a_failed_one_is_tried_again(
    alarm: int, client: httpx.Client, client_of: ClientOf, database: sessionmaker[Session]
) -> None:
    told = client.get(f"/api/v1/alarms/{alarm}/actions", params={"limit": 2}).json()
    rest = client.get(f"/api/v1/alarms/{alarm}/actions", params={"cursor": told["next"]}).json()
    message, webhook, attribute = [*told["items"], *rest["items"]]
    assert (message["state"], message["target"], message["error"]) == ("done", "dispatcher", None)
    assert (attribute["state"], attribute["target"], rest["next"]) == ("done", "tripped = true", None)
    assert (webhook["state"], webhook["target"], webhook["attempts"]) == ("failed", "127.0.0.1", courier.ATTEMPTS)
    assert webhook["error"].startswith("127.0.0.1 lies in a network that is not public.")
    assert "a-secret" not in str(told)

    page = f"/alarms/{alarm}"
    shown = unescape(client.get(page).text)
    assert "What it set off" in shown
    assert webhook["error"] in shown
    assert "a-secret" not in shown
    retry = f"/deliveries/{webhook['delivery_id']}/retry?back=/alarms/{alarm}%23actions"
    assert retry in shown
    chinese = "; ".join([*(f"{name}={value}" for name, value in client.cookies.items()), "lang=zh"])
    assert "127.0.0.1 位于非公网网段" in client.get(page, headers={"Cookie": chinese}).text

    technician = client_of("technician", "harbour")
    assert technician.get(page).status_code == 200
    assert "/deliveries/" not in technician.get(page).text
    assert technician.post(retry).status_code == 403
    assert client_of("dispatcher", "quarry").get(f"/api/v1/alarms/{alarm}/actions").status_code == 404

    again = client.post(retry)
    assert (again.status_code, again.headers["location"].partition("?")[0]) == (303, f"{page}#actions")
    tried = client.get(f"/api/v1/alarms/{alarm}/actions").json()["items"][1]
    assert (tried["state"], tried["attempts"]) == ("retried", 0)
    with database() as session:
        assert session.get_one(Delivery, webhook["delivery_id"]).state == "waiting"
        assert session.scalars(select(AuditEntry).where(AuditEntry.action == "delivery.retry")).one()


def test_RUL_17_why_a_try_failed_is_a_sentence_in_the_readers_language() -> None:
    kept = "kernel.errors.Unavailable: plant.example does not answer: TimeoutError"
    assert action_runs.reason(kept) == "plant.example does not answer: TimeoutError"
    assert action_runs.reason("sqlalchemy.exc.NoResultFound: No row was found") == action_runs.UNEXPECTED
    assert action_runs.reason(None) is None
    sentence, values = said("plant.example does not answer: TimeoutError")
    assert (sentence, values) == (
        "{host} does not answer: {reason}", {"host": "plant.example", "reason": "TimeoutError"}
    )  # fmt: skip
    assert said("Something {new}.") == ("Something {new}.", {})
    assert said(None) == (None, {})
    assert said(action_runs.UNEXPECTED)[0] == "It failed within Fixwright. The list of deliveries says how."
