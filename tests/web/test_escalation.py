"""Escalation policies as people make them: in a form, told in sentences with whom they would call now (ALM-6)."""

from collections.abc import Callable

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db
from kernel.models import AuditEntry
from rules import alarms, policies
from rules.episodes import Fault, Seen
from rules.hold_tables import EscalationPolicy
from rules.models import Alarm
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


def form(company: Company, **said: object) -> dict[str, object]:
    """Return what the form sends of a policy for the harbour, changed by what is said."""
    return {
        "unit": str(company.units["harbour"].id), "name": "Harbour nights", "severity": "major", "kind": "",
        "repeat": "10", "repeats": "2", "realarm": "", "realarms": "", "enabled": "1",
        "after": ["45", "0", ""], "who": ["role:manager", "role:dispatcher", ""],
    } | said  # fmt: skip


def kept(database: sessionmaker[Session]) -> list[EscalationPolicy]:
    with database() as session:
        return list(session.scalars(select(EscalationPolicy)))


def an_alarm(database: sessionmaker[Session], company: Company) -> int:
    """Raise a critical alarm in the harbour; return its id."""
    now = clock.now()
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "harbour")
        device = factories.device(session, company, "harbour", on=machine)
        fault = Fault(f"asset:{machine.id}", "E1", "device", f"device:{device.id}", machine.company_id,
                      machine.unit_id, machine.id, device.id)  # fmt: skip
        seen = Seen(fault, "critical", now, now, message="hot", evidence={"seq": 1})
        return alarms.raise_(session, seen, now=now)


def followed(database: sessionmaker[Session], alarm_id: int) -> int:
    """Return how many reminders the policy in force for an alarm gives."""
    with database() as session:
        return policies.of_alarms(session, [session.get_one(Alarm, alarm_id)])[alarm_id].repeats


def test_ALM_6_a_policy_is_made_changed_and_removed_in_a_form_and_holds(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    client, alarm_id = client_of("administrator"), an_alarm(database, company)
    assert followed(database, alarm_id) == 3, "the default"
    assert "Harbour" in client.get("/escalation/new").text
    assert client.post("/escalation", data=form(company)).status_code == 303
    [policy] = kept(database)
    assert policy.steps == [{"after_min": 0, "role": "dispatcher"}, {"after_min": 45, "role": "manager"}]
    assert followed(database, alarm_id) == 2
    page = client.get(f"/escalation/{policy.id}").text
    assert 'value="Harbour nights"' in page
    changed = form(company, name="Pier", repeats="5", realarm="60", realarms="4")
    assert client.post(f"/escalation/{policy.id}", data=changed).status_code == 303
    assert followed(database, alarm_id) == 5
    assert client.post(f"/escalation/{policy.id}", data=form(company, enabled="")).status_code == 303
    assert followed(database, alarm_id) == 3, "switched off"
    assert client.post(f"/escalation/{policy.id}/drop").status_code == 303
    assert kept(database) == []
    with database() as session:
        wanted = AuditEntry.subject == f"escalation_policy:{policy.id}"
        verbs = list(session.scalars(select(AuditEntry.action).where(wanted).order_by(AuditEntry.id)))
    assert verbs == ["escalation_policy.save"] * 3 + ["escalation_policy.remove"]


def test_the_list_says_whom_a_policy_would_call_now(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        factories.account(session, company, "dispatcher", "harbour", name="Chen Jing")
        factories.account(session, company, "dispatcher", "quarry", name="Wu Lei")
    client = client_of("administrator")
    assert client.post("/escalation", data=form(company)).status_code == 303
    policy = client.get("/escalation").text.partition("Harbour nights")[2].partition("Where none fits")[0]
    assert "Reminded every 10 min until somebody acknowledges it, 2 times at most." in policy
    assert "After 45 min without acknowledgement:" in policy
    assert "Chen Jing" in policy
    assert "Wu Lei" not in policy, "who is elsewhere is not called"
    client.cookies.set("lang", "zh")
    assert "45 分钟无人确认后" in client.get("/escalation").text


def test_what_cannot_be_kept_is_said_beside_what_was_typed(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    client = client_of("administrator")
    for wrong, words in (
        ({"name": " "}, "A name is needed."),
        ({"repeats": "1000"}, "It must lie between 0 and 100."),
        ({"after": ["5"], "who": [""]}, "Each step calls a role or a person."),
        ({"after": ["5"], "who": ["account:999999"]}, "There is no such person."),
        ({"unit": "999999"}, "There is no such org unit."),
    ):
        answer = client.post("/escalation", data=form(company, **wrong))
        assert answer.status_code == 422, wrong
        assert words in answer.text, wrong
        assert 'value="10"' in answer.text, "what was typed stays"
    assert kept(database) == []
