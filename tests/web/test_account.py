"""The door and one's own account, as a browser uses them (SE-6)."""

import re
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from api import access
from api.runtime import Runtime
from api.web import account as door
from kernel import clock, db
from kernel.models import AuditEntry
from people import accounts, passwords, scope
from people.models import Account, SignIn, Token
from tests import factories
from tests.factories import Company

PASSWORD = "correct horse battery"
Clients = Callable[[], httpx.Client]


@pytest.fixture
def owner(company: Company, database: sessionmaker[Session]) -> Account:
    with db.transaction(database) as session:
        account = factories.account(session, company, "dispatcher", "north", username="li.wei", name="李伟")
        account.password_hash = passwords.hashed(PASSWORD)
        return account


def sign_in(client: httpx.Client, password: str = PASSWORD, **values: str) -> httpx.Response:
    return client.post("/login", data={"username": "li.wei", "password": password, **values})


def csrf(client: httpx.Client, path: str = "/account") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found
    return found[1]


def cookie(response: httpx.Response, name: str) -> str:
    return next(one for one in response.headers.get_list("set-cookie") if one.startswith(f"{name}="))


@pytest.mark.usefixtures("owner")
def test_SE_6_signing_in_sets_a_cookie_that_scripts_cannot_read_and_leads_on(stranger: httpx.Client) -> None:
    answer = sign_in(stranger, next="/orders?state=open")

    assert (answer.status_code, answer.headers["location"]) == (303, "/orders?state=open")
    for name in (access.COOKIE, door.DEVICE_COOKIE):
        assert "HttpOnly" in cookie(answer, name)
        assert "SameSite=lax" in cookie(answer, name)
    assert stranger.get("/account").status_code == 200
    assert stranger.get("/login").headers["location"] == "/"


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize(
    "onward",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "/a\r\nSet-Cookie: x"],
)
def test_SE_6_the_way_on_never_leads_out(stranger: httpx.Client, onward: str) -> None:
    assert sign_in(stranger, next=onward).headers["location"] == "/"
    assert stranger.get("/preferences", params={"lang": "zh", "next": onward}).headers["location"] == "/"


@pytest.mark.usefixtures("owner")
def test_SE_6_a_wrong_name_and_a_wrong_password_get_the_same_page(stranger: httpx.Client) -> None:
    def answer(username: str) -> tuple[int, str]:
        response = stranger.post("/login", data={"username": username, "password": "not this one"})
        return response.status_code, response.text.replace(username, "NAME")

    assert answer("li.wei") == answer("nobody")
    assert answer("li.wei")[0] == 422


def test_SE_6_the_sign_in_page_slows_a_guesser_and_counts_what_it_refused(
    clients: Clients, owner: Account, database: sessionmaker[Session]
) -> None:
    known, guesser = clients(), clients()
    sign_in(known)
    known.post("/logout", headers={"X-CSRF-Token": csrf(known)})

    statuses = [sign_in(guesser, f"wrong {n}").status_code for n in range(8)]

    assert statuses == [422] * accounts.TRIES_BY_PLACE + [429] * (8 - accounts.TRIES_BY_PLACE)
    slow = sign_in(guesser)
    assert slow.status_code == 429
    assert 0 < int(slow.headers["retry-after"]) <= 901
    assert sign_in(known).status_code == 303, "the browser in which the owner signed in before"
    with database() as session:
        refused = session.query(AuditEntry).filter_by(action="sign_in.refuse", subject=f"account:{owner.id}").count()
        assert refused == accounts.TRIES_BY_PLACE


@pytest.mark.usefixtures("owner")
def test_SE_6_a_sign_in_is_new_each_time_and_replaces_the_browsers_old_one(
    stranger: httpx.Client, database: sessionmaker[Session]
) -> None:
    sign_in(stranger)
    first = stranger.cookies[access.COOKIE]
    token = csrf(stranger)
    sign_in(stranger, csrf_token=token)
    assert stranger.cookies[access.COOKIE] != first
    with database() as session:
        assert session.query(SignIn).count() == 1
    with httpx.Client(base_url=stranger.base_url, cookies={access.COOKIE: first}) as old:
        assert old.get("/account").status_code == 303


@pytest.mark.usefixtures("owner")
def test_SE_6_somebody_elses_page_cannot_sign_one_in_or_out(clients: Clients) -> None:
    victim = clients()
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert victim.post("/login", data={"username": "li.wei", "password": PASSWORD}, headers=cross).status_code == 403
    sign_in(victim)
    assert victim.post("/logout").status_code == 403
    assert victim.get("/account").status_code == 200
    assert victim.post("/logout", headers={"X-CSRF-Token": csrf(victim)}).status_code == 303
    assert victim.get("/account").status_code == 303


@pytest.mark.usefixtures("owner")
def test_SE_6_one_sees_where_one_is_signed_in_and_ends_it_at_once(clients: Clients) -> None:
    here, phone = clients(), clients()
    sign_in(here)
    phone.headers["User-Agent"] = "Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36"
    sign_in(phone)

    page = here.get("/account").text
    assert "Chrome · Android" in page
    [other] = re.findall(r'action="(/account/sign-ins/\d+/end)"', page)
    assert here.post(other, headers={"X-CSRF-Token": csrf(here)}).status_code == 303
    assert phone.get("/account").status_code == 303
    assert here.get("/account").status_code == 200


@pytest.mark.usefixtures("owner")
def test_SE_6_changing_the_password_signs_everybody_else_out(clients: Clients) -> None:
    here, thief = clients(), clients()
    sign_in(here)
    sign_in(thief)

    def change(old: str, new: str) -> httpx.Response:
        return here.post("/account/password", data={"old": old, "new": new}, headers={"X-CSRF-Token": csrf(here)})

    assert change("not this one", "another good one").status_code == 422
    assert change(PASSWORD, "short").status_code == 422
    assert change(PASSWORD, "another good one").status_code == 303
    assert here.get("/account").status_code == 200
    assert thief.get("/account").status_code == 303
    assert sign_in(thief).status_code == 422


def test_SE_6_a_token_is_shown_once_scoped_expiring_and_void_when_revoked(
    stranger: httpx.Client, owner: Account, database: sessionmaker[Session]
) -> None:
    sign_in(stranger)
    form = {"name": "stock import", "days": "30", "right": ["assets.read"]}
    page = stranger.post("/account/tokens", data=form, headers={"X-CSRF-Token": csrf(stranger)}).text
    [secret] = re.findall(r'value="(fw_[\w-]+)"', page)

    def ask(path: str) -> int:
        return httpx.get(f"{stranger.base_url}{path}", headers={"Authorization": f"Bearer {secret}"}).status_code

    assert secret not in stranger.get("/account").text
    assert (ask("/api/v1/assets"), ask("/api/v1/orders")) == (200, 403)
    with database() as session:
        token = session.scalars(select(Token)).one()
        everything = "".join(
            str(row) for row in session.execute(text("SELECT token, audit_entry FROM token, audit_entry"))
        )
        assert secret not in everything, "a copy of the database opens nothing"
        assert (token.expires_at - clock.now()).days in {29, 30}
        identity = token.id
    assert httpx.get(
        f"{stranger.base_url}/api/v1/assets", headers={"Authorization": f"Bearer {token.secret_hash}"}
    ).status_code == 401  # fmt: skip
    stranger.post(f"/account/tokens/{identity}/revoke", headers={"X-CSRF-Token": csrf(stranger)})
    assert ask("/api/v1/assets") == 401
    assert owner.id


@pytest.mark.usefixtures("owner")
def test_a_token_cannot_hold_a_right_its_owner_has_not_and_cannot_make_a_stronger_one(stranger: httpx.Client) -> None:
    sign_in(stranger)
    headers = {"X-CSRF-Token": csrf(stranger)}
    refused = stranger.post("/api/v1/tokens", json={"name": "x", "rights": ["people.write"]}, headers=headers)
    assert refused.status_code == 422
    made = stranger.post("/api/v1/tokens", json={"name": "x", "rights": ["assets.read"]}, headers=headers)
    limited = {"Authorization": f"Bearer {made.json()['secret']}"}
    for rights in (None, ["orders.read"]):
        body = {"name": "y", "rights": rights}
        assert httpx.post(f"{stranger.base_url}/api/v1/tokens", json=body, headers=limited).status_code == 403


@pytest.mark.usefixtures("owner")
def test_a_token_loses_what_its_owner_loses(stranger: httpx.Client, database: sessionmaker[Session]) -> None:
    sign_in(stranger)
    made = stranger.post("/api/v1/tokens", json={"name": "x"}, headers={"X-CSRF-Token": csrf(stranger)})
    headers = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert httpx.get(f"{stranger.base_url}/api/v1/orders", headers=headers).status_code == 200
    with db.transaction(database) as session:
        account = session.scalars(select(Account).where(Account.username == "li.wei")).one()
        session.delete(account.memberships[0])
    assert httpx.get(f"{stranger.base_url}/api/v1/orders", headers=headers).status_code == 403


@pytest.mark.usefixtures("owner")
def test_language_and_theme_are_remembered_by_browser_and_by_account(stranger: httpx.Client) -> None:
    assert "登录" in stranger.get("/login", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).text
    answer = stranger.get("/preferences", params={"lang": "zh", "theme": "dark", "next": "/login"})
    assert answer.headers["location"] == "/login"
    page = stranger.get("/login").text
    assert 'lang="zh-CN"' in page
    assert 'data-theme-choice="dark"' in page
    sign_in(stranger)
    form = {"language": "en", "zone": "Europe/Berlin", "theme": "light"}
    assert stranger.post("/account", data=form, headers={"X-CSRF-Token": csrf(stranger)}).status_code == 303
    page = stranger.get("/account").text
    assert 'value="Europe/Berlin"' in page
    assert 'lang="en"' in page
    wrong = stranger.post("/account", data={**form, "zone": "Mars/Olympus"}, headers={"X-CSRF-Token": csrf(stranger)})
    assert wrong.status_code == 422
    assert "Mars/Olympus" in wrong.text


def test_a_demo_offers_its_accounts_with_one_click_and_nothing_else_does(
    runtime: Runtime, company: Company, database: sessionmaker[Session], stranger: httpx.Client
) -> None:
    assert "demo-title" not in stranger.get("/login").text
    with db.transaction(database) as session:
        account = factories.account(session, company, "technician", "harbour", username="demo.tech")
        account.password_hash = passwords.hashed("a demo password")
    runtime.demo_accounts = [("technician", "李伟", "demo.tech", "a demo password")]

    page = stranger.get("/login").text
    assert "demo-title" in page
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.partition("demo-title")[2]))
    assert stranger.post("/login", data=fields).headers["location"] == "/my"


def test_the_command_line_acts_with_every_right_as_the_system(
    company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        by = scope.operator(session.merge(company.units["company"]))
        made = accounts.create(
            session, session.merge(company.units["mill"]), username="cli", name="Made", by=by, now=clock.now()
        )
        assert made.id
    with database() as session:
        assert session.scalars(select(AuditEntry.actor).where(AuditEntry.action == "account.create")).one() == "system"
