"""People, roles, teams, skills and the org tree as an administrator uses them, by forms and by JSON."""

import re
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from api.web import settings, week
from kernel import audit, db
from kernel.models import AuditEntry, Delivery, Event
from maintenance.orders.events import OrderOpened
from people.models import Account, Membership, Role, Shift, Skill, Team
from people.rights import ROLES
from tests import factories
from tests.factories import NOW, Company

ClientOf = Callable[..., httpx.Client]
Database = sessionmaker[Session]


def one_account(database: Database, username: str) -> Account:
    with database() as session:
        return session.scalars(select(Account).where(Account.username == username)).one()


def test_a_new_person_gets_a_first_password_that_is_shown_once_and_opens_the_door(
    client: httpx.Client, stranger: httpx.Client, company: Company, database: Database
) -> None:
    form = {
        "username": "Zhang.San", "name": "张三", "unit": company.units["harbour"].id,
        "role": company.roles["technician"].id, "language": "zh", "zone": "Asia/Shanghai",
    }  # fmt: skip
    made = client.post("/people", data=form)
    assert made.status_code == 201
    [password] = re.findall(r"<code>([\w-]{19})</code>", made.text)
    assert made.headers["cache-control"] == "no-store"
    person = one_account(database, "zhang.san")
    assert password not in client.get(f"/people/{person.id}").text

    assert stranger.post("/login", data={"username": "zhang.san", "password": password}).status_code == 303
    with database() as session:
        told = str([(entry.before, entry.after) for entry in session.scalars(select(AuditEntry))])
    assert password not in told


def test_a_form_that_is_refused_comes_back_with_its_words_and_changes_nothing(
    client: httpx.Client, company: Company, database: Database
) -> None:
    form = {"username": "x", "name": "Somebody New", "unit": company.units["mill"].id, "zone": "UTC"}
    refused = client.post("/people", data=form)
    assert refused.status_code == 422
    assert "Somebody New" in refused.text
    assert "Use 2 to 60 letters" in refused.text
    with database() as session:
        assert session.query(Account).where(Account.name == "Somebody New").count() == 0


def test_a_role_a_skill_a_shift_and_an_absence_are_given_and_taken(
    client: httpx.Client, company: Company, database: Database
) -> None:
    with db.transaction(database) as session:
        person = factories.account(session, company, None, "harbour").id
        skill = factories.skill(session, company).id
    at = f"/people/{person}"
    role = {"role": company.roles["dispatcher"].id, "at": company.units["north"].id}
    shift = {
        "weekday": ["5", "6"],
        "starts": "22:00",
        "ends": "06:00",
        "zone": "Asia/Shanghai",
        "valid_from": "2026-01-01",
    }
    absence = {"starts_at": "2026-11-21T00:00", "ends_at": "2026-11-23T00:00", "reason": "Leave"}
    for path, form in (
        ("roles", role), ("skills", {"skill": skill, "level": "3"}), ("shifts", shift), ("absences", absence)
    ):  # fmt: skip
        assert client.post(f"{at}/{path}", data=form).status_code == 303, path

    page = client.get(f"{at}?on=2026-11-22").text
    assert "22:00–06:00 +1" in client.get(f"{at}?on=2026-11-12").text
    assert "22:00–06:00" not in page.partition('id="week"')[2].partition("</table>")[0], "absent that weekend"
    assert "Absent" in page
    assert client.post(f"{at}/roles", data=role).status_code == 409
    with database() as session:
        held = session.scalars(select(Membership).where(Membership.account_id == person)).one().id
        given = session.scalars(select(Shift).where(Shift.account_id == person)).one().id
    for path in (f"roles/{held}/withdraw", f"skills/{skill}/drop", f"shifts/{given}/end"):
        assert client.post(f"{at}/{path}").status_code == 303, path
    with database() as session:
        assert session.scalars(select(Membership).where(Membership.account_id == person)).all() == []


def test_an_account_is_switched_off_with_an_undo(client: httpx.Client, company: Company, database: Database) -> None:
    with db.transaction(database) as session:
        person = factories.account(session, company, "technician", "harbour").id
    answer = client.post(f"/people/{person}/deactivate")
    assert answer.status_code == 303
    page = client.get(answer.headers["location"]).text
    assert f'action="/people/{person}/reactivate"' in page
    client.post(f"/people/{person}/reactivate")
    assert one_account(database, "technician.harbour.acme").is_active


def test_the_list_of_people_runs_as_many_queries_for_many_as_for_few(
    client: httpx.Client, company: Company, database: Database, runtime: Runtime
) -> None:
    def queries() -> int:
        counted: list[str] = []

        def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
            counted.append(statement)

        event.listen(runtime.engine, "before_cursor_execute", count)
        assert client.get("/people").status_code == 200
        event.remove(runtime.engine, "before_cursor_execute", count)
        return len(counted)

    def add(*numbers: int) -> None:
        with db.transaction(database) as session:
            for n in numbers:
                account = factories.account(session, company, "technician", "mill", username=f"many{n}")
                factories.team(session, company, "mill", (account,))

    add(0)
    few = queries()
    add(*range(1, 30))
    assert queries() == few


def test_filters_narrow_the_list_and_survive_paging(client: httpx.Client, company: Company, database: Database) -> None:
    with db.transaction(database) as session:
        for n in range(60):
            factories.account(session, company, "technician", "mill", username=f"mill{n:02}", name=f"Miller {n:02}")
        factories.account(session, company, "technician", "quarry", name="Quarryman")
    first = client.get("/people", params={"q": "mill", "unit": company.units["north"].id})
    assert "Miller 00" in first.text
    assert "Quarryman" not in first.text
    [following] = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = client.get(following.replace("&amp;", "&"))
    assert "Miller 59" in second.text
    assert "Quarryman" not in second.text


def test_an_own_role_appears_in_the_matrix_and_can_be_given(
    client: httpx.Client, company: Company, database: Database
) -> None:
    form = {"name": "Night watch", "right": ["alarms.read", "alarms.act"]}
    assert client.post("/roles", data=form).status_code == 303
    page = client.get("/roles").text
    assert "Night watch" in page
    with database() as session:
        role = session.scalars(select(Role).where(Role.company_id == company.id)).one()
        assert role.rights == ["alarms.act", "alarms.read"]
    assert client.post(f"/roles/{role.id}", data={"name": "Night watch", "right": ["nothing.real"]}).status_code == 422
    assert client.post(f"/roles/{role.id}/remove").status_code == 303


def test_a_team_is_made_and_filled_and_its_week_stands_side_by_side(
    client: httpx.Client, company: Company, database: Database
) -> None:
    with db.transaction(database) as session:
        people = [
            factories.account(session, company, "technician", "mill", username=f"m{n}", name=f"Miller {n}")
            for n in range(3)
        ]
        for person in people:
            factories.shift(session, person)
        identities = [person.id for person in people]
    made = client.post("/teams", data={"name": "Mill crew", "unit": company.units["mill"].id})
    at = made.headers["location"]
    assert client.post(at, data={"name": "Mill crew", "member": identities[:2]}).status_code == 303
    page = client.get(f"{at}?on=2026-11-18").text
    week = page.partition('id="week"')[2].partition("</table>")[0]
    assert [f"Miller {n}" in week for n in range(3)] == [True, True, False]
    assert client.post(f"{at}/remove").status_code == 303
    with database() as session:
        assert session.query(Team).count() == 0


def test_a_skill_and_a_unit_are_added_and_refused_twice_or_badly(
    client: httpx.Client, company: Company, database: Database
) -> None:
    assert client.post("/skills", data={"key": "welding", "name": "Welding"}).status_code == 303
    assert client.post("/skills", data={"key": "welding", "name": "Welding"}).status_code == 422
    assert client.post("/skills", data={"key": "Not Good", "name": "x"}).status_code == 422
    add = {"parent": company.units["north"].id, "kind": "site", "name": "Annex"}
    assert client.post("/units", data=add).status_code == 303
    assert client.post("/units", data={**add, "parent": company.units["harbour"].id}).status_code == 422
    assert "Annex" in client.get("/units").text
    with database() as session:
        assert session.query(Skill).count() == 1


def test_the_trail_is_filtered_verified_and_says_where_it_was_altered(
    client: httpx.Client, company: Company, database: Database
) -> None:
    with db.transaction(database) as session:
        for n in range(3):
            audit.record(session, "order.accept", subject=f"order:{n}", actor="system", at=NOW, company_id=company.id)
        audit.record(session, "role.grant", subject="account:1", actor="system", at=NOW, company_id=company.id)
        audit.record(session, "order.accept", subject="order:77", actor="system", at=NOW, company_id=999)

    page = client.get("/audit", params={"action": "order.", "since": "2026-11-20", "until": "2026-11-20"}).text
    assert page.count("<code>order.accept</code>") == 3
    assert "order:77" not in page
    assert "role.grant" not in page
    assert "order.accept" not in client.get("/audit", params={"since": "2026-11-21"}).text
    assert "The trail is whole." in client.post("/audit/verify").text
    assert client.get("/api/v1/audit/verify").json() == {"is_whole": True, "breaks": []}
    with db.transaction(database) as session:
        session.connection().exec_driver_sql("ALTER TABLE audit_entry DISABLE TRIGGER ALL")
        session.connection().exec_driver_sql("UPDATE audit_entry SET actor = 'account:1' WHERE subject = 'order:1'")
    answer = client.post("/audit/verify").text
    assert "altered at 1 places" in answer
    assert audit.ENTRY_ALTERED in answer


def test_the_manager_of_a_part_sees_what_its_people_did_and_cannot_verify_the_whole(
    client_of: ClientOf, company: Company, database: Database
) -> None:
    with db.transaction(database) as session:
        for where in ("harbour", "quarry"):
            actor = f"account:{factories.account(session, company, 'technician', where).id}"
            audit.record(session, f"{where}.act", subject="x:1", actor=actor, at=NOW, company_id=company.id)
    manager = client_of("manager", "north")
    page = manager.get("/audit").text
    assert "harbour.act" in page
    assert "quarry.act" not in page
    assert manager.post("/audit/verify").status_code == 403


def test_a_stuck_delivery_is_seen_where_it_happened_and_tried_again(
    client_of: ClientOf, company: Company, database: Database
) -> None:
    with db.transaction(database) as session:
        row = Event(kind=OrderOpened.__name__, subject="order:5", actor="system", at=NOW, payload={"order_id": 5},
                    unit_id=company.units["harbour"].id, fanned_out=True)  # fmt: skip
        session.add(row)
        session.flush()
        delivery = Delivery(event_id=row.id, subscriber="a.b", state="stuck", attempts=8, next_at=NOW,
                            last_error="No paper.")  # fmt: skip
        session.add(delivery)
        session.flush()
        identity = delivery.id
    here, elsewhere = client_of("administrator", "north"), client_of("administrator", "south")

    assert "No paper." in here.get("/deliveries").text
    assert "No paper." not in elsewhere.get("/deliveries").text
    assert elsewhere.post(f"/deliveries/{identity}/retry").status_code == 404
    assert here.post(f"/deliveries/{identity}/retry").status_code == 303
    assert here.post(f"/deliveries/{identity}/retry").status_code == 404, "it is no longer stuck"
    with database() as session:
        assert session.get_one(Delivery, identity).state == "waiting"
        assert session.query(AuditEntry).where(AuditEntry.action == "delivery.retry").count() == 1
    assert "order:5" in here.get("/deliveries?state=waiting").text


@pytest.mark.parametrize("role", ROLES)
def test_the_settings_lead_everybody_to_what_they_may_see_and_nowhere_else(client_of: ClientOf, role: str) -> None:
    client = client_of(role, "company")
    shown = set(re.findall(r'class="card fw-card fw-link-card" href="([^"]+)"', client.get("/settings").text))
    for _, cards in settings.CARDS:
        for href, *_ in cards:
            status = client.get(href).status_code
            assert status == (200 if href in shown else 403), href


@pytest.mark.parametrize(
    ("days", "runs"),
    [
        ([0, 1, 2, 3, 4], [(0, 4)]),
        ([6, 0, 1], [(0, 1), (6, 6)]),
        ([], []),
        ([2], [(2, 2)]),
        ([1, 1, 3], [(1, 1), (3, 3)]),
    ],
)
def test_days_of_the_week_are_said_as_runs(days: list[int], runs: list[tuple[int, int]]) -> None:
    assert week.runs(days) == runs
