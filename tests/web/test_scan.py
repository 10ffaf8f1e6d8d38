"""What stands behind a label: for a stranger three steps and nothing of the inside, for each role its own work."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from api.app import create
from api.runtime import Runtime
from assets.models import Asset
from kernel import clock, db, ids
from maintenance.orders.models import Entry, Order, Request
from people.models import Membership, Role
from qr import reports, tags
from qr.models import Scan, Tag
from tests import factories, pictures
from tests.browser import faults
from tests.factories import Company
from tests.serving import served

NOISE = "Loud noise from the motor"


@pytest.fixture
def asset(database: sessionmaker[Session], company: Company) -> Asset:
    with db.transaction(database) as session:
        hall = factories.location(session, company, "harbour", name="Pump hall", name_zh="泵房")
        return factories.asset(
            session, company, "harbour", code="SECRET-CODE-7", name="Pump 7", name_zh="七号泵", location_id=hall.id
        )


@pytest.fixture
def tag(database: sessionmaker[Session], asset: Asset) -> Tag:
    with db.transaction(database) as session:
        return tags.make(session, session.merge(asset), actor="account:1", now=clock.now())


def send(client: httpx.Client, tag: Tag, *photos: bytes, names: tuple[str, ...] = (), **fields: str) -> httpx.Response:
    """Send a report as the form does."""
    named = [names[number] if number < len(names) else f"photo-{number}.jpg" for number in range(len(photos))]
    files = [("photos", (name, content, "image/jpeg")) for name, content in zip(named, photos, strict=True)]
    return client.post(f"/q/{tag.token}/report", data={"what": NOISE, **fields}, files=files)


def count(database: sessionmaker[Session], *where: object, of: type = Request) -> int:
    with database() as session:
        return session.scalar(select(func.count()).select_from(of).where(*where)) or 0  # type: ignore[arg-type]


# ── The page of a stranger ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("accepts", "language", "words"),
    [
        ("zh-CN,zh;q=0.9", "zh-CN", ("七号泵", "泵房", "港口厂", "出了什么问题？", "提交报修")),
        ("de-DE,en;q=0.5", "en", ("Pump 7", "Pump hall", "Harbour", "What is wrong?", "Send report")),
        ("fr", "en", ("Pump 7", "What is wrong?")),
    ],
)
def test_QRC_2_the_page_speaks_the_language_of_the_phone(
    stranger: httpx.Client, tag: Tag, accepts: str, language: str, words: tuple[str, ...]
) -> None:
    answer = stranger.get(f"/q/{tag.token}", headers={"Accept-Language": accepts})
    assert answer.status_code == 200
    assert f'<html lang="{language}"' in answer.text
    for word in words:
        assert word in answer.text


def test_QRC_2_the_page_holds_no_internal_id_tree_cost_or_name_of_a_person(
    stranger: httpx.Client, database: sessionmaker[Session], company: Company, asset: Asset, tag: Tag
) -> None:
    with db.transaction(database) as session:
        machine = session.merge(asset)
        machine.serial = "SERIAL-99"
        technician = factories.account(session, company, "technician", "harbour", name="Li Wei")
        alarm = factories.alarm(session, machine, message="Bearing 96.5 above 90")
        factories.order(
            session, company, machine, title="Inner words", phase="working", assignee_id=technician.id,
            parts_cost=1234, alarm_id=alarm.id, number="WO-2026-777777",
        )  # fmt: skip
        factories.asset(session, company, "harbour", parent_id=machine.id, name="Motor below")
    text = stranger.get(f"/q/{tag.token}").text
    assert "This fault is known" in text
    inner = [
        "SECRET-CODE-7", "SERIAL-99", "Li Wei", "technician.harbour", "Inner words", "1234", "777777", "Bearing",
        "96.5", "critical", "Motor below", "North", "account:", "asset:", "/assets/", "/orders/", "/alarms/",
    ]  # fmt: skip
    assert [word for word in inner if word in text] == []
    # No number stands where an identity could: what is left after the token, versions and times are small figures.
    bare = re.sub(r"/static/[0-9a-f]+/|\d{4}-\d\d-\d\dT[^\"]*|\d{4}-\d\d-\d\d [^\"<]*", "", text.replace(tag.token, ""))
    assert re.findall(r'(?:id|value|href|action|data-[a-z-]+)="[^"]*?\b\d{2,}\b[^"]*"', bare) == []


def test_QRC_2_a_known_fault_shows_how_far_it_is_and_one_tap_follows_it(
    stranger: httpx.Client, database: sessionmaker[Session], company: Company, asset: Asset, tag: Tag
) -> None:
    assert "known" not in stranger.get(f"/q/{tag.token}").text.lower()
    with db.transaction(database) as session:
        order = factories.order(session, company, session.merge(asset), phase="travelling", assigned_at=clock.now())
    page = stranger.get(f"/q/{tag.token}").text
    assert "A technician is on the way." in page
    answer = stranger.post(f"/q/{tag.token}/report", data={"is_known": "1"})
    assert answer.status_code == 303
    with database() as session:
        report = session.scalars(select(Request)).one()
        assert (report.state, report.order_id, report.what) == ("joined", order.id, "I see the same fault.")
    assert "is on the way" in stranger.get(answer.headers["location"]).text


def test_a_machine_that_noticed_by_itself_says_so(
    stranger: httpx.Client, database: sessionmaker[Session], asset: Asset, tag: Tag
) -> None:
    with db.transaction(database) as session:
        factories.alarm(session, session.merge(asset))
    assert "has noticed a fault by itself" in stranger.get(f"/q/{tag.token}").text


def test_whoever_reported_is_led_back_to_their_report_by_the_label(stranger: httpx.Client, tag: Tag) -> None:
    followed = send(stranger, tag).headers["location"]
    cookie = next(one for one in stranger.cookies.jar if one.name == "report")
    assert cookie.path == f"/q/{tag.token}"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert followed in stranger.get(f"/q/{tag.token}").text
    stranger.post(f"{followed}/withdraw")
    assert followed not in stranger.get(f"/q/{tag.token}").text
    stranger.cookies.set("report", "x" * 28, path=f"/q/{tag.token}")
    assert stranger.get(f"/q/{tag.token}").status_code == 200


def test_QRC_2_three_steps_at_360_px_reach_a_tracking_page_and_weigh_under_200_kb(
    browser: Browser, address: str, tag: Tag, database: sessionmaker[Session], tmp_path: Path
) -> None:
    shot = tmp_path / "fault.png"
    Image.effect_noise((1800, 1200), 90).convert("RGB").save(shot)
    context = browser.new_context(viewport={"width": 360, "height": 740}, locale="zh-CN", has_touch=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    # A slow phone: 50 kB/s, 300 ms to the server and back, a quarter of this machine's speed.
    slow = {"offline": False, "latency": 300, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
    session.send("Network.emulateNetworkConditions", slow)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    sizes: dict[str, int] = {}
    session.on("Network.loadingFinished", lambda done: sizes.update({done["requestId"]: done["encodedDataLength"]}))
    page.goto(f"{address}/q/{tag.token}")
    page.wait_for_load_state("networkidle")
    assert sum(sizes.values()) < 200_000
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert faults(page) == []
    # The page has come over the slow line; a photo of noise, which does not shrink, needs no half minute on it.
    session.send("Network.emulateNetworkConditions", slow | {"downloadThroughput": -1, "uploadThroughput": -1})
    titles = page.locator("legend.fw-report-title")
    expect(titles).to_have_count(3)

    button = page.get_by_role("button", name="提交报修")
    box = button.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 740, "the button is in reach of the thumb without scrolling"
    assert box["height"] >= 44
    page.get_by_text("有异响").tap()
    page.locator("input[type=file]").set_input_files(shot)
    expect(page.locator(".fw-photo")).to_have_count(1)
    button.tap()
    page.wait_for_url(re.compile(r"/t/[\w-]+$"))
    expect(page.get_by_role("heading", name="七号泵")).to_be_visible()
    expect(page.get_by_role("img", name="照片")).to_have_count(1)
    assert faults(page) == []
    assert complaints == []
    with database() as session_:
        report = session_.scalars(select(Request)).one()
        assert (report.what, report.language) == ("有异响", "zh")
    context.close()


def test_QRC_2_all_three_steps_work_without_javascript(
    browser: Browser, address: str, tag: Tag, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.photo())
    context = browser.new_context(viewport={"width": 360, "height": 740}, locale="en", java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/q/{tag.token}")
    page.get_by_text("It leaks").click()
    page.get_by_label("In your words").fill("Oil below the pump")
    page.get_by_label("Of the fault or the display").set_input_files(tmp_path / "a.jpg")
    page.get_by_label("Phone or e-mail").fill("anna@example.com")
    page.get_by_role("button", name="Send report").click()
    page.wait_for_url(re.compile(r"/t/[\w-]+$"))
    expect(page.get_by_text("Oil below the pump")).to_be_visible()
    expect(page.get_by_role("link", name="Look again")).to_be_visible()
    context.close()


# ── Reports ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_IN_3_a_report_with_two_photos_is_a_request_on_the_right_asset(
    stranger: httpx.Client, database: sessionmaker[Session], company: Company, asset: Asset, tag: Tag
) -> None:
    with db.transaction(database) as session:
        factories.asset(session, company, "harbour")
    fields = {"symptom": "noise", "contact_name": "Anna", "contact": "+49 40 1"}
    answer = send(stranger, tag, pictures.photo(), pictures.photo("#123456"), **fields)
    assert answer.status_code == 303
    assert re.fullmatch(r"/t/[\w-]{27,}", answer.headers["location"])
    with database() as session:
        report = session.scalars(select(Request)).one()
        assert (report.asset_id, report.origin, report.state) == (asset.id, "scan", "accepted")
        assert report.what == f"Strange noise\n{NOISE}"
        assert (report.contact_name, report.contact_phone, report.contact_email) == ("Anna", "+49 40 1", None)
        photos = session.scalars(select(Entry).where(Entry.kind == "photo", Entry.request_id == report.id)).all()
        assert len({photo.file_id for photo in photos}) == 2
        assert session.scalars(select(Order)).one().asset_id == asset.id


def test_an_e_mail_address_is_kept_as_one(stranger: httpx.Client, database: sessionmaker[Session], tag: Tag) -> None:
    send(stranger, tag, contact="anna@example.com")
    with database() as session:
        report = session.scalars(select(Request)).one()
        assert (report.contact_email, report.contact_phone) == ("anna@example.com", None)


def test_a_report_that_says_nothing_comes_back_with_what_was_typed(stranger: httpx.Client, tag: Tag) -> None:
    answer = send(stranger, tag, what="  ", symptom="other", contact_name="Anna <b>")
    assert answer.status_code == 422
    assert "Please say what is wrong." in answer.text
    assert 'value="Anna &lt;b&gt;"' in answer.text
    assert re.search(r'value="other" checked', answer.text)


def test_IN_3_20_reports_a_minute_from_an_address_then_429_while_others_are_served(
    database: sessionmaker[Session], tag: Tag, runtime: Runtime
) -> None:
    behind_proxy = runtime.settings.model_copy(update={"trusted_proxies": ["127.0.0.1"]})
    with served(create(replace(runtime, settings=behind_proxy))) as address, httpx.Client(base_url=address) as proxy:
        statuses, other = [], []
        for _number in range(50):
            proxy.headers["X-Forwarded-For"] = "203.0.113.7"
            answer = send(proxy, tag)
            statuses.append(answer.status_code)
            assert answer.status_code == 303 or answer.headers["Retry-After"].isdigit()
        proxy.headers["X-Forwarded-For"] = "203.0.113.8"
        other.append(send(proxy, tag).status_code)
    taken = statuses.count(303)
    assert statuses[0] == 303
    # A minute may end in between; what counts is that no minute takes more than it should.
    assert taken <= 2 * reports.REPORTS_A_MINUTE
    assert set(statuses) == {303, 429}
    assert other == [303]
    assert count(database) == taken + 1


def test_QRC_3_forged_forwarding_headers_do_not_help(
    clients: Callable[[], httpx.Client], database: sessionmaker[Session], tag: Tag
) -> None:
    client = clients()
    statuses = []
    for number in range(50):
        client.headers["X-Forwarded-For"] = f"198.51.100.{number}, 10.0.0.{number}"
        client.headers["X-Real-IP"] = client.headers["Forwarded"] = f"198.51.100.{number}"
        statuses.append(send(client, tag).status_code)
    assert statuses.count(303) <= 2 * reports.REPORTS_A_MINUTE
    assert 429 in statuses
    with database() as session:
        assert set(session.scalars(select(Scan.address))) <= {"127.0.0.1"}


def test_a_label_takes_no_more_than_60_reports_an_hour_from_whomever(session: Session, tag: Tag) -> None:
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    for number in range(reports.REPORTS_AN_HOUR):
        reports.may_report(session, tag, f"203.0.113.{number}", hour + timedelta(seconds=number))
    with pytest.raises(Exception, match="Too many attempts"):
        reports.may_report(session, tag, "203.0.113.99", hour + timedelta(minutes=59))
    reports.may_report(session, tag, "203.0.113.99", hour + timedelta(minutes=60))


def test_P3_two_reports_at_once_on_one_machine_open_one_order(
    clients: Callable[[], httpx.Client], database: sessionmaker[Session], tag: Tag
) -> None:
    askers = [clients() for _number in range(6)]
    with ThreadPoolExecutor(len(askers)) as pool:
        answers = list(pool.map(lambda client: send(client, tag).status_code, askers))
    assert answers == [303] * 6
    assert count(database, of=Order) == 1
    assert count(database, Request.state == "accepted") == 1
    assert count(database, Request.state == "new") == 5


# ── Tokens ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_QRC_3_revoked_is_410_and_unknown_404_and_neither_page_tells_anything(
    stranger: httpx.Client, database: sessionmaker[Session], tag: Tag
) -> None:
    with db.transaction(database) as session:
        tags.revoke(session, session.merge(tag), actor="account:1", now=clock.now())
        other = factories.company(session, "other")
        blank = factories.tag(session, other)
    gone = stranger.get(f"/q/{tag.token}")
    unknown = stranger.get(f"/q/{ids.token(tags.TOKEN_BITS)}")
    assert (gone.status_code, unknown.status_code) == (410, 404)
    assert stranger.post(f"/q/{tag.token}/report", data={"what": "x"}).status_code == 410
    assert stranger.get(f"/q/{blank.token}").status_code == 404
    assert stranger.get("/q/%00").status_code == 404
    for answer in (gone, unknown):
        for word in ("Pump", "Harbour", "Acme", tag.code, "SECRET-CODE-7", "account"):
            assert word not in answer.text
    assert count(database) == 0


def test_QRC_3_forged_tokens_all_get_the_same_answer_and_soon_none(stranger: httpx.Client, tag: Tag) -> None:
    answers = [stranger.get(f"/q/{ids.token(tags.TOKEN_BITS)}") for _number in range(2 * reports.SCANS_A_MINUTE + 60)]
    statuses = {answer.status_code for answer in answers}
    assert statuses == {404, 429}
    unlike = {
        answer.text.replace(answer.url.path.removeprefix("/q/"), "") for answer in answers if answer.status_code == 404
    }
    assert len(unlike) == 1
    assert sum(answer.status_code == 404 for answer in answers) <= 2 * reports.SCANS_A_MINUTE
    assert tag.token


def test_QRC_3_each_scan_is_written_down_with_who_and_when(
    stranger: httpx.Client, client_of: Callable[..., httpx.Client], database: sessionmaker[Session], tag: Tag
) -> None:
    before = clock.now()
    stranger.get(f"/q/{tag.token}", headers={"User-Agent": "Phone/1"})
    client_of("technician", "harbour").get(f"/q/{tag.token}")
    stranger.get(f"/q/{ids.token()}")
    with database() as session:
        scans = session.scalars(select(Scan).order_by(Scan.id)).all()
        assert [(scan.tag_id, scan.account is not None) for scan in scans] == [(tag.id, False), (tag.id, True)]
        assert scans[0].agent == "Phone/1"
        assert all(before <= scan.at <= clock.now() for scan in scans)


# ── One code, by viewer ───────────────────────────────────────────────────────────────────────────────────────


def test_QRC_1_four_scan_one_code_and_get_four_pages(
    clients: Callable[[], httpx.Client],
    client_of: Callable[..., httpx.Client],
    database: sessionmaker[Session],
    company: Company,
    asset: Asset,
    tag: Tag,
) -> None:
    with db.transaction(database) as session:
        technician = factories.account(session, company, "technician", "harbour")
        machine = session.merge(asset)
        order = factories.order(
            session, company, machine, title="Change the seal", phase="assigned", assignee_id=technician.id
        )
        stock = factories.stock(
            session, factories.part(session, company, name="Seal 40"), factories.place(session, company)
        )
        used = factories.order(session, company, machine, phase="closed", closed_at=clock.now())
        session.add(_issue(stock.part_id, stock.place_id, used.id))
    page = f"/q/{tag.token}"
    public = clients().get(page).text
    assert "Send report" in public
    work = client_of("technician", "harbour").get(page).text
    assert "Change the seal" in work
    assert f"/jobs/{order.id}/arrive" in work, "check in with one tap"
    assert "Done here lately" in work
    store = client_of("storekeeper", "harbour").get(page).text
    assert "Hand out" in store
    assert "Seal 40" in store
    assert f"/jobs/{order.id}/arrive" not in store
    elsewhere = client_of("technician", "quarry").get(page).text
    assert "Send report" in elsewhere
    assert "Change the seal" not in elsewhere


def test_QRC_1_another_role_sees_another_page_at_once(
    client_of: Callable[..., httpx.Client], database: sessionmaker[Session], company: Company, tag: Tag
) -> None:
    client = client_of("technician", "harbour")
    assert "Open the asset" in client.get(f"/q/{tag.token}").text
    with db.transaction(database) as session:
        account = factories.account(session, company, "technician", "harbour")
        held = session.scalars(select(Membership).where(Membership.account_id == account.id)).one()
        held.role_id = session.scalars(select(Role.id).where(Role.key == "storekeeper")).one()
        held.unit_id = company.units["quarry"].id
    assert "Send report" in client.get(f"/q/{tag.token}").text


def test_the_scanner_leads_to_the_page_whatever_the_reader_gives(client: httpx.Client, tag: Tag) -> None:
    assert client.get("/scan").status_code == 200
    for text in (tag.token, tag.code, tag.code.lower().replace("-", " "), f"https://elsewhere.example/q/{tag.token}"):
        answer = client.get("/scan", params={"code": text})
        assert (answer.status_code, answer.headers.get("location")) == (303, f"/q/{tag.token}")
    unknown = client.get("/scan", params={"code": "6901234567892"})
    assert unknown.status_code == 404
    assert "There is no such label." in unknown.text
    assert 'value="6901234567892"' in unknown.text


# ── Photos ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (pictures.page_in_disguise(), 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415),
        (b"%PDF-1.7", 415),
        (pictures.cut_off(), 415),
        (pictures.flood(), 413),
        (b"\xff\xd8\xff" + b"\0" * 13_000_000, 413),
    ],
    ids=["page", "drawing", "document", "cut off", "pixel flood", "too long"],
)
def test_IN_10_bad_pictures_get_the_right_answer_and_leave_nothing_behind(
    stranger: httpx.Client, database: sessionmaker[Session], tag: Tag, content: bytes, status: int
) -> None:
    answer = send(stranger, tag, content, names=("x.jpg",))
    assert answer.status_code == status
    assert count(database) == 0
    assert NOISE in answer.text, "the words are not lost with the picture"


def test_a_form_without_photos_as_a_browser_sends_it_is_no_error(
    stranger: httpx.Client, database: sessionmaker[Session], tag: Tag
) -> None:
    lines = [
        "--x", 'Content-Disposition: form-data; name="what"', "", NOISE,
        "--x", 'Content-Disposition: form-data; name="photos"; filename=""', "Content-Type: application/octet-stream",
        "", "", "--x--", "",
    ]  # fmt: skip
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = stranger.post(f"/q/{tag.token}/report", content="\r\n".join(lines), headers=headers)
    assert answer.status_code == 303
    assert count(database) == 1


def test_IN_10_a_name_cannot_climb_out_of_the_folder(
    stranger: httpx.Client, database: sessionmaker[Session], tag: Tag, runtime: Runtime
) -> None:
    names = ("../../../../tmp/climbed.jpg", "..\\..\\climbed.jpg", "a\x00b.jpg", "/etc/passwd")
    before = {path for path in runtime.settings.data_dir.parent.rglob("*") if "climbed" in path.name}
    answer = send(stranger, tag, *(pictures.photo(f"#{n}{n}{n}") for n in range(1, 5)), names=names)
    assert answer.status_code in {303, 422}
    with database() as session:
        for entry in session.scalars(select(Entry).where(Entry.kind == "photo")):
            assert entry.file is not None
            assert "/" not in entry.file.name
            assert "\\" not in entry.file.name
    assert {path for path in runtime.settings.data_dir.parent.rglob("*") if "climbed" in path.name} == before
    assert not Path("/tmp/climbed.jpg").exists()  # noqa: S108 - where it would have climbed to


def test_IN_10_a_shown_picture_holds_no_place_no_script_and_is_turned_upright(
    stranger: httpx.Client, tag: Tag, runtime: Runtime
) -> None:
    polyglot = pictures.with_a_script_behind(pictures.photo())
    followed = send(stranger, tag, pictures.taken_at_a_place(), polyglot).headers["location"]
    page = stranger.get(followed).text
    shown = sorted(set(re.findall(r'src="(/t/[^"]+)"', page)))
    assert len(shown) == 2
    for address in (*shown, *(one.replace("?size=thumb", "") for one in shown)):
        answer = stranger.get(address)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for inner in (pictures.PLACE.encode(), b"Camera 4711", b"<script", b"Exif"):
            assert inner not in answer.content
    sizes = []
    for address in shown:
        (runtime.settings.data_dir / "shown.jpg").write_bytes(stranger.get(address).content)
        with Image.open(runtime.settings.data_dir / "shown.jpg") as picture:
            sizes.append(picture.size)
            assert not picture.getexif()
    assert (240, 320) in sizes, "the turn of the camera is applied, not kept as a note"
    assert stranger.get(shown[0].replace("thumb", "original")).status_code == 404


def test_IN_10_more_photos_than_a_report_may_have_are_refused_unread(
    stranger: httpx.Client, database: sessionmaker[Session], tag: Tag
) -> None:
    answer = send(stranger, tag, *(pictures.photo() for _number in range(reports.MOST_PHOTOS + 1)))
    assert answer.status_code == 422
    assert "at most 6 photos" in answer.text
    assert send(stranger, tag, *(pictures.photo() for _number in range(200))).status_code == 422
    assert count(database) == 0


def _issue(part_id: int, place_id: int, order_id: int) -> object:
    from maintenance.parts.models import Movement

    return Movement(
        part_id=part_id, place_id=place_id, kind="issue", quantity=-1, unit_cost=5, order_id=order_id,
        at=clock.now(), by="account:1",
    )  # fmt: skip
