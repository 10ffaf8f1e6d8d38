"""The alarm desk as a person works with it: in a real browser, without JavaScript, with the keyboard, on a phone."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api import access
from kernel import clock, db, events
from kernel.models import AuditEntry
from people.models import SavedView
from rules import alarms, policies
from rules.events import AlarmRaised
from rules.models import SEVERITIES, Alarm
from tests import browser, factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 740}
LOOKS = pytest.mark.parametrize(
    ("size", "language", "theme"),
    [(PHONE, "zh", "dark"), (DESK, "en", "light")],
    ids=["phone-zh-dark", "desk-en"],
)
Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Browser:
    """Return the browser of the run, under a name that the module beside it does not have."""
    started: Browser = request.getfixturevalue("browser")
    return started


@pytest.fixture
def opened(chromium: Browser, address: str, client: httpx.Client) -> Iterator[Opened]:
    """Return a function that opens a page as the administrator; a fault in its console fails the test at the end."""
    complaints: list[str] = []

    def open_page(
        path: str, *, size: dict[str, int] = DESK, language: str = "en", theme: str = "light", **more: Any
    ) -> Page:
        context = chromium.new_context(viewport=size, color_scheme=theme, **more)
        cookies = {access.COOKIE: client.cookies[access.COOKIE], "lang": language, "theme": theme}
        context.add_cookies([{"name": name, "value": value, "url": address} for name, value in cookies.items()])
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}{path}")
        return page

    with browser.visit(chromium):
        yield open_page
    assert complaints == []


def many(session: Session, company: Company, number: int) -> list[int]:
    """Make so many open alarms of all severities on a few machines."""
    machines = [factories.asset(session, company, where, name=f"Press {where}") for where in ("harbour", "mill")]
    now = clock.now()
    return [
        factories.alarm(
            session, machines[index % 2], severity=SEVERITIES[1 + index % 4], raised_at=now - timedelta(minutes=index)
        ).id
        for index in range(number)
    ]


def announce(session: Session, alarm: Alarm) -> None:
    events.emit(
        session, AlarmRaised(alarm.id), subject=f"alarm:{alarm.id}", at=clock.now(), actor="rule:1",
        unit_id=alarm.unit_id,
    )  # fmt: skip


# The list keeps itself up to date --------------------------------------------------------------------------------


def test_ALM_13_of_all_rows_an_event_touches_one(
    opened: Opened, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        ids = many(session, company, 250)
    page = opened("/alarms")
    rows = page.locator("#rows > li")
    # The rest comes page by page as the end of the list comes near.
    for _ in range(4):
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_load_state("networkidle")
        if rows.count() == 250:
            break
    expect(rows).to_have_count(250)
    expect(page.locator(".fw-pages")).to_be_hidden()
    shown = page.evaluate("[...document.querySelectorAll('#rows > li')].map((one) => Number(one.dataset.id))")
    assert sorted(shown) == sorted(ids)
    assert page.locator(f"#alarm-{ids[0]}").evaluate("(one) => getComputedStyle(one).contentVisibility") == "auto"
    page.evaluate(
        """() => {
            const seen = (window.touched = new Set());
            const note = (changes) => changes.forEach(({ target, addedNodes, removedNodes }) => {
                for (const one of [target, ...addedNodes, ...removedNodes]) {
                    const row = one.nodeType === 1 && one.closest("li.fw-alarm");
                    if (row) seen.add(Number(row.dataset.id));
                }
            });
            new MutationObserver(note).observe(document.querySelector("#rows"), { childList: true, subtree: true });
        }"""
    )
    with (
        page.expect_response(lambda answer: "/alarms/rows" in answer.url) as asked,
        db.transaction(database) as session,
    ):
        alarms.acknowledge(session, session.get_one(Alarm, ids[150]), by="account:1", now=clock.now())
    assert asked.value.text().count("<li ") == 1
    expect(page.locator(f"#alarm-{ids[150]}")).to_contain_text("Acknowledged")
    expect(page.locator("#rows > li.fw-glow")).to_have_count(1)
    assert page.evaluate("[...window.touched]") == [ids[150]]


def test_ALM_13_a_new_alarm_takes_its_place_and_one_that_is_over_leaves(
    opened: Opened, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill", name="Kiln")
        major, minor = (factories.alarm(session, machine, severity=one).id for one in ("major", "minor"))
    page = opened("/alarms")
    page.wait_for_load_state("networkidle")
    order = "[...document.querySelectorAll('#rows > li')].map((one) => one.dataset.severity)"
    with db.transaction(database) as session:
        machine = session.merge(machine)
        critical = factories.alarm(session, machine, severity="critical", message="<img src=x onerror=alert(1)>")
        announce(session, critical)
        announce(session, factories.alarm(session, machine, severity="minor"))
    expect(page.locator("#rows > li")).to_have_count(4)
    assert page.evaluate(order) == ["critical", "major", "minor", "minor"]
    assert page.locator("#rows > li").nth(2).get_attribute("data-id") != str(minor), "among equals the newest first"
    expect(page.locator("#counts")).to_contain_text("Critical 1")
    page.locator(f"#alarm-{major} [name=ids]").check()
    with db.transaction(database) as session:
        gone = session.get_one(Alarm, minor)
        alarms.acknowledge(session, gone, by="account:1", now=clock.now())
        alarms.clear_by_hand(session, gone, by="account:1", reason="Mended", now=clock.now())
    expect(page.locator("#rows > li")).to_have_count(3)
    expect(page.locator(f"#alarm-{major} [name=ids]")).to_be_checked()
    nothing = page.get_by_text("Nothing is wrong")
    expect(nothing).to_be_hidden()
    with db.transaction(database) as session:
        for gone in session.scalars(select(Alarm).where(Alarm.is_active)):
            alarms.acknowledge(session, gone, by="account:1", now=clock.now())
            alarms.clear_by_hand(session, gone, by="account:1", reason="Mended", now=clock.now())
    expect(nothing).to_be_visible()


def test_ALM_13_a_new_critical_alarm_sounds_only_once_somebody_has_asked_for_it(
    opened: Opened, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
    page = opened("/alarms")
    button = page.locator("[data-desk-sound]")

    def raised(severity: str) -> None:
        before = page.locator("#rows > li").count()
        with db.transaction(database) as session:
            announce(session, factories.alarm(session, session.merge(machine), severity=severity))
        expect(page.locator("#rows > li")).to_have_count(before + 1)

    expect(button).to_have_text("Sound off")
    raised("critical")
    expect(button).to_have_attribute("data-played", "0")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    raised("major")
    expect(button).to_have_attribute("data-played", "0")
    raised("critical")
    expect(button).to_have_attribute("data-played", "1")
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")


# Keyboard ----------------------------------------------------------------------------------------------------------


def test_ALM_13_the_desk_is_worked_with_the_keyboard_alone(
    opened: Opened, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill", name="Kiln")
        ids = [factories.alarm(session, machine, severity=one).id for one in ("critical", "major", "minor")]
    page = opened("/alarms")
    page.wait_for_load_state("networkidle")
    press = page.keyboard.press
    press("j")
    expect(page.locator(f"#alarm-{ids[0]}")).to_be_focused()
    press("j")
    press("j")
    press("k")
    expect(page.locator(f"#alarm-{ids[1]}")).to_be_focused()
    press("x")
    expect(page.locator(f"#alarm-{ids[1]} [name=ids]")).to_be_checked()
    press("a")
    expect(page.locator(f"#alarm-{ids[1]}")).to_contain_text("Acknowledged")
    expect(page.locator(f"#alarm-{ids[1]}")).to_be_focused()
    expect(page.locator("#rows > li.fw-glow")).to_have_count(0)
    with database() as session:
        acknowledged = session.scalars(select(Alarm.id).where(Alarm.is_acknowledged)).all()
    assert acknowledged == [ids[1]]
    press("?")
    expect(page.locator("dialog")).to_be_visible()
    press("Escape")
    press("/")
    expect(page.locator("[data-desk-search]")).to_be_focused()
    press("Escape")
    page.locator(f"#alarm-{ids[0]}").focus()
    press("Enter")
    expect(page).to_have_url(re.compile(f"/alarms/{ids[0]}$"))


# Without JavaScript --------------------------------------------------------------------------------------------------


def test_ALM_13_without_javascript_the_desk_is_a_list_that_pages(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        ids = many(session, company, 120)
    seen: list[int] = []
    path: str | None = "/alarms"
    while path:
        page = client.get(path).text
        seen += [int(one) for one in re.findall(r'<li class="fw-alarm[^>]*data-id="(\d+)"', page)]
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert sorted(seen) == sorted(ids)
    assert len(seen) == len(ids)


def test_the_rows_of_an_order_are_those_of_its_alarm_and_fit_the_filter(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
        one, other = (factories.alarm(session, machine) for _ in range(2))
        who = factories.account(session, company, "technician", "mill", name="Wang Fang")
        order = factories.order(
            session, company, machine, fault_key=f"{one.subject}/{one.type_key}", assignee_id=who.id
        )
    client = client_of()
    rows = client.get("/alarms/rows", params={"orders": order.id}).text
    assert f'id="alarm-{one.id}"' in rows
    assert "Wang Fang" in rows
    assert f'id="alarm-{other.id}"' not in rows
    assert "<li" not in client.get("/alarms/rows", params={"orders": order.id, "severity": "minor"}).text
    assert "<li" not in client_of("technician", "quarry").get("/alarms/rows", params={"ids": one.id}).text
    assert client.get("/alarms/rows", params={"ids": "1,x,99999999999999999999"}).status_code == 200


def test_ALM_13_what_is_put_away_stands_apart_and_a_flood_is_one_row_that_leads_to_its_alarms(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill")
        who = factories.account(session, company, "technician", "mill", name="Wang Fang")
        flood = factories.alarm(session, machine, type_key="alarm_flood", assignee_id=who.id)
        children = [
            factories.alarm(session, machine, suppressed_by="flood", parent_id=flood.id, severity="minor").id
            for _ in range(12)
        ]
        shelved = factories.alarm(session, machine, is_shelved=True)
    ids = lambda page: {int(one) for one in re.findall(r'<li class="fw-alarm [^>]*data-id="(\d+)"', page)}  # noqa: E731
    page = client.get("/alarms").text
    assert ids(page) == {flood.id}
    assert "stands for 12 more" in page
    assert "Wang Fang" in page
    assert ids(client.get("/alarms?state=held").text) == {shelved.id, *children}
    behind = re.search(r'class="fw-alarm-many" href="([^"]+)"', page)
    assert behind is not None
    assert ids(client.get(behind[1].replace("&amp;", "&")).text) == set(children)


def test_ALM_11_worst_and_number_are_told_of_sites_and_customers_within_sight(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        buyer, neighbour = (factories.customer(session, company, name=name) for name in ("Lanyu", "Elbe"))
        for where, customer, severity in (
            ("mill", buyer, "minor"),
            ("mill", buyer, "major"),
            ("quarry", neighbour, "info"),
        ):
            machine = factories.asset(session, company, where, customer_id=customer.id)
            factories.alarm(session, machine, severity=severity)
    client = client_of("dispatcher", "north")
    sites = {one["name"]: one for one in client.get("/api/v1/sites").json()["items"]}
    assert (sites["Mill"]["severity"], sites["Mill"]["open_alarms"]) == ("major", 2)
    assert (sites["Harbour"]["severity"], sites["Harbour"]["open_alarms"]) == (None, 0)
    card = client.get("/alarms/map").text.partition('id="customers"')[2]
    assert "Lanyu" in card
    assert "Major <b" in re.sub(r"</?span>", "", card)
    assert "Elbe" not in card
    assert client.get(f"/alarms?customer={buyer.id}").text.count('<li class="fw-alarm ') == 2
    assert len(client.get("/api/v1/alarms", params={"customer": neighbour.id}).json()["items"]) == 0


# Views -------------------------------------------------------------------------------------------------------------


def test_ALM_13_a_view_is_kept_with_the_account_and_its_address_serves_others_within_their_own_sight(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill", name="Kiln")
        factories.alarm(session, machine, severity="major")
    mine, theirs = client_of("dispatcher", "company"), client_of("dispatcher", "quarry")
    site = company.sites["mill"].id
    kept = mine.post(
        "/alarms/views", data={"name": " Mill,  major ", "query": f"severity=major&site={site}&ack=&after=x"}
    )
    assert kept.status_code == 303
    address = kept.headers["location"]
    assert address == f"/alarms?severity=major&site={site}"
    page = mine.get(address).text
    assert re.search(r'class="fw-view" href="[^"]+" aria-current="true">.*?Mill, major', page)
    assert "Kiln" in page
    assert "Mill, major" not in theirs.get("/alarms").text
    assert "Kiln" not in theirs.get(address).text
    mine.post("/alarms/views", data={"name": "Mill, major", "query": "severity=minor"})
    with database() as session:
        views = session.scalars(select(SavedView)).all()
        assert [(one.name, one.query) for one in views] == [("Mill, major", "severity=minor")]
        assert session.scalar(select(func.count()).where(AuditEntry.action == "view.keep")) == 2
    assert theirs.post(f"/alarms/views/{views[0].id}/drop").status_code == 404
    assert mine.post(f"/alarms/views/{views[0].id}/drop").status_code == 303
    assert "Mill, major" not in mine.get("/alarms").text
    assert mine.post("/alarms/views", data={"name": " ", "query": ""}).status_code == 422


# Look --------------------------------------------------------------------------------------------------------------


@LOOKS
def test_the_desk_and_its_map_are_accessible_and_fit_their_window(
    opened: Opened,
    company: Company,
    database: sessionmaker[Session],
    size: dict[str, int],
    language: str,
    theme: str,
) -> None:
    with db.transaction(database) as session:
        many(session, company, 8)
        for name, where in (("harbour", (31.2, 121.5)), ("mill", (53.5, 10.0))):
            company.sites[name].latitude, company.sites[name].longitude = where
            session.merge(company.sites[name])
        machine = factories.asset(session, company, "mill", name="Screw compressor 3")
        why = {
            "samples": [{"metric": "air_end_temperature", "value": 108.4, "ts_ms": clock.to_ms(clock.now())}],
            "limits": [
                {"metric": "air_end_temperature", "operator": ">", "limit": 105.0, "deadband": 2.0, "from": "rule"}
            ],
        }
        alarm_id = factories.alarm(session, machine, evidence=why, metric=None).id
        steps = [{"after_min": 0, "role": "dispatcher"}, {"after_min": 45, "role": "manager"}]
        wanted = {"name": "Harbour nights", "name_zh": "港口夜班", "severity": "major", "repeat_min": 10, "repeats": 2}
        unit = session.merge(company.units["harbour"])
        policy = policies.save(session, unit, wanted | {"steps": steps}, by="account:1", now=clock.now())
        policy_id = policy.id
    followed = ("/escalation", "/escalation/new", f"/escalation/{policy_id}")
    for path in ("/alarms?severity=major", "/alarms/figures", "/alarms/map", f"/alarms/{alarm_id}", *followed):
        page = opened(path, size=size, language=language, theme=theme)
        page.wait_for_load_state("networkidle")
        if path.endswith("map"):
            expect(page.locator(".fw-map-pin")).to_have_count(2)
        assert browser.faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path


# Figures -----------------------------------------------------------------------------------------------------------


def test_ALM_13_every_figure_leads_to_as_many_alarms_as_it_says_and_to_what_is_counted(
    client_of: ClientOf, company: Company, database: sessionmaker[Session]
) -> None:
    now = clock.now()
    with db.transaction(database) as session:
        machine = factories.asset(session, company, "mill", name="Kiln")
        for number in range(13):
            at = now - timedelta(hours=30, seconds=number)
            factories.alarm(
                session, machine, raised_at=at, detected_at=at, announced_at=at, ended_at=at + timedelta(seconds=20),
                is_active=False, severity="minor", origin="device",
            )  # fmt: skip
        old = now - timedelta(days=2)
        factories.alarm(session, machine, raised_at=old, detected_at=old, announced_at=old)
    client, elsewhere = client_of(), client_of("dispatcher", "quarry")
    page = client.get("/alarms/figures?days=7").text
    assert page.count("What is counted") >= 8
    for behind, count in (("fleeting", 13), ("stale", 1)):
        href = re.search(rf'href="([^"]*behind={behind}[^"]*)"', page)
        assert href is not None
        assert client.get(href[1].replace("&amp;", "&")).text.count('<li class="fw-alarm ') == count
    told = client.get("/api/v1/alarms/figures").json()
    assert (told["announced"], told["peak"], told["fleeting"], told["stale"]) == (14, 13, 13, 1)
    assert [flood["alarms"] for flood in told["floods"]] == [13]
    assert [desk["unit_id"] for desk in told["desks"]] == [company.units["mill"].id]
    assert told["priorities"]["high"] == pytest.approx(100 / 14)
    listed = client.get("/api/v1/alarms", params={"state": "all", "behind": "fleeting", "since": told["from"]}).json()
    assert len(listed["items"]) == 13
    assert elsewhere.get("/api/v1/alarms/figures").json()["announced"] == 0
    unit = company.units["mill"].id
    assert elsewhere.get("/api/v1/alarms/figures", params={"unit": unit}).status_code == 404
    assert elsewhere.get("/alarms/figures", params={"unit": unit}).status_code == 404
    long = client.get("/api/v1/alarms/figures", params={"from": "2020-01-01", "to": "2026-01-01"})
    assert long.status_code == 422


@pytest.mark.parametrize(
    "query",
    [{"after": "x" * 301}, {"since": "0001-01-01T00:00:00+14:00"}, {"until": "9999-12-31T23:59:59-14:00"}],
    ids=lambda query: next(iter(query)),
)
def test_a_filter_that_cannot_be_read_is_refused_and_not_an_unexpected_error(
    client: httpx.Client, query: dict[str, str]
) -> None:
    for path in ("/alarms", "/alarms/rows"):
        assert client.get(path, params=query).status_code == 422
