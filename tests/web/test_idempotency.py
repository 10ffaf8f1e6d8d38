"""``Idempotency-Key`` on every POST of the API (API-1)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from api import idempotency
from api.v1 import routers
from kernel import db
from kernel.models import AuditEntry, IdempotencyKey
from people.models import Team
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]


def make(
    client: httpx.Client, company: Company, *, key: str | None = "k1", name: str = "Night watch"
) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/api/v1/teams", json={"name": name, "unit_id": company.units["harbour"].id}, headers=headers)


def teams(database: sessionmaker[Session]) -> list[str]:
    with database() as session:
        return list(session.scalars(select(Team.name).order_by(Team.id)))


WITHOUT_KEY = {
    "/broker/emqx /broker/emqx/authentication",  # a broker's question, which changes nothing
    "/broker/emqx /broker/emqx/authorization",  # the same
    "/provision /provision",  # a device that asks again is known by its proof, and gets a new password
}
"""Posts that take no key, and why."""


def test_API_1_every_post_of_the_api_takes_the_key() -> None:
    plain = [
        f"{router.prefix} {route.path}"
        for router in routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        and "POST" in (route.methods or ())
        and idempotency.claim not in [one.dependency for one in route.dependencies]
    ]
    assert set(plain) == WITHOUT_KEY


def test_API_1_the_same_request_again_repeats_the_answer_and_changes_nothing(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    first, second = make(client, company), make(client, company)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert idempotency.REPEATED not in first.headers
    assert second.headers[idempotency.REPEATED] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert teams(database) == ["Night watch"]


def test_API_1_the_same_key_with_another_body_or_address_is_refused(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    make(client, company)
    other = make(client, company, name="Day watch")
    elsewhere = client.post("/api/v1/tokens", json={"name": "x"}, headers={"Idempotency-Key": "k1"})

    assert (other.status_code, elsewhere.status_code) == (422, 422)
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"
    assert teams(database) == ["Night watch"]


def test_API_1_fifty_equal_requests_at_once_make_one_record(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with ThreadPoolExecutor(50) as many:
        answers = list(many.map(lambda _: make(client, company), range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum(idempotency.REPEATED not in answer.headers for answer in answers) == 1
    assert teams(database) == ["Night watch"]
    with database() as session:
        assert session.query(AuditEntry).where(AuditEntry.action == "team.create").count() == 1


def test_a_refused_request_may_be_mended_under_the_same_key(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    assert make(client, company, name=" ").status_code == 422
    assert make(client, company).status_code == 201
    assert teams(database) == ["Night watch"]


def test_keys_are_each_accounts_own(client_of: ClientOf, company: Company, database: sessionmaker[Session]) -> None:
    make(client_of(), company)
    other = make(client_of("administrator", "harbour"), company)
    assert other.status_code == 201
    assert idempotency.REPEATED not in other.headers
    assert teams(database) == ["Night watch"] * 2


def test_somebody_who_may_not_do_it_leaves_no_key_behind(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    assert make(client_of("technician", "harbour"), company).status_code == 403
    with database() as session:
        assert session.query(IdempotencyKey).count() == 0


def test_a_key_counts_for_24_hours(client: httpx.Client, company: Company, database: sessionmaker[Session]) -> None:
    make(client, company)
    with db.transaction(database) as session:
        session.execute(update(IdempotencyKey).values(at=IdempotencyKey.at - idempotency.KEPT))
    again = make(client, company)
    assert idempotency.REPEATED not in again.headers
    assert teams(database) == ["Night watch"] * 2


def test_without_a_key_two_requests_are_two(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    for _ in range(2):
        assert make(client, company, key=None).status_code == 201
    assert teams(database) == ["Night watch"] * 2


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_nobody_can_keep_is_refused(client: httpx.Client, company: Company, key: str) -> None:
    headers = {"Idempotency-Key": key}
    body = {"name": "Night watch", "unit_id": company.units["harbour"].id}
    assert client.post("/api/v1/teams", json=body, headers=headers).status_code == 422


def test_an_answer_without_a_body_is_repeated_too(client: httpx.Client, company: Company) -> None:
    made = client.post(
        "/api/v1/users", json={"username": "new.one", "name": "New", "home_unit_id": company.units["mill"].id}
    )
    address = f"/api/v1/users/{made.json()['id']}/password"
    answers = [
        client.post(address, json={"password": "quite a long one"}, headers={"Idempotency-Key": "p"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1].headers[idempotency.REPEATED] == "true"
