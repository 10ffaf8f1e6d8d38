"""Payload mappings as people and programs shape them: adopted, written beside a sample, tried, saved, rolled back."""

import json
import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.web import assets as libraries
from ingest import ready
from ingest.models import Mapping, MappingVersion
from tests.browser import faults, visit

FORM = {
    "name": "Works",
    "topic": "works/{device}/up",
    "device": "{device}",
    "format": "json",
    "metric-0-path": "v.t",
    "metric-0-name": "temperature",
    "metric-0-unit": "°F",
    "metric-0-to": "°C",
    "metric-1-path": "",
    "alarm-0-path": "leak",
    "alarm-0-code": "leak",
    "alarm-0-severity": "critical",
    "sample_topic": "works/press-7/up",
    "sample": '{"v": {"t": 212}, "leak": true}',
    "sample_form": "text",
}
PLAIN = {"topic": "plant/{device}", "device": "{device}", "metrics": [{"name": "x", "path": "x"}]}
SAMPLE = {"topic": "plant/a", "payload": '{"x": 1}'}


def only(database: sessionmaker[Session]) -> tuple[Mapping, list[MappingVersion]]:
    with database() as session:
        row = session.scalars(select(Mapping)).one()
        versions = session.scalars(select(MappingVersion).order_by(MappingVersion.number)).all()
        return row, list(versions)


def test_ING_12_a_mapping_is_written_as_a_form_tried_and_saved(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    tried = client.post("/mappings/try", data=FORM, headers={"HX-Request": "true"}).text
    assert "<html" not in tried
    for said in ("press-7", "temperature", "100.0", "leak", "Critical"):
        assert said in tried
    saved = client.post("/mappings", data=FORM)
    assert saved.status_code == 303
    row, (version,) = only(database)
    assert (row.name, row.topic, row.version) == ("Works", "works/{device}/up", 1)
    assert version.definition["metrics"] == [{"name": "temperature", "path": "v.t", "unit": "°F", "to": "°C"}]
    assert version.definition["alarms"] == [{"path": "leak", "code": "leak", "severity": "critical"}]
    page = client.get(f"/mappings/{row.id}").text
    assert "works/press-7/up" in page
    assert "°F → °C" in page


def test_ING_12_nothing_is_saved_that_does_not_understand_its_sample(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    for change, said in (
        ({"sample": ""}, "Try it on a message first"),
        ({"sample": '{"w": 1}'}, "nothing was found at"),
        ({"sample": "{"}, "Not JSON"),
        ({"metric-0-path": "v["}, "This is no path"),
        ({"metric-0-scale": "much"}, "This must be a number."),
        ({"topic": "fw/v1/x"}, "have a meaning of their own"),
        ({"bridge": "nobody"}, "no device with this key"),
        ({"name": ""}, "Name"),
    ):
        answer = client.post("/mappings", data={**FORM, **change})
        assert answer.status_code == 422, change
        assert said in re.sub(r"&#39;|&#34;", "'", answer.text), change
        # What was written stays in the form.
        assert 'value="leak"' in answer.text
    with database() as session:
        assert session.scalars(select(Mapping)).all() == []


def test_what_is_wrong_is_said_in_the_language_of_the_page(client: httpx.Client) -> None:
    client.cookies.set("lang", "zh")
    wrong = {**FORM, "metric-0-path": "v["}
    tried = client.post("/mappings/try", data=wrong, headers={"HX-Request": "true"}).text
    assert "metrics 1 · path" in tried
    assert "这不是有效的路径" in tried


def test_without_a_script_a_trial_shows_the_whole_form_again_with_more_rows(client: httpx.Client) -> None:
    page = client.post("/mappings/try", data={**FORM, "more": "1"}).text
    assert 'value="v.t"' in page
    assert page.count('name="metric-') > 6 * 12
    assert "100.0" in page


def test_a_version_is_revised_shown_and_put_back(client: httpx.Client, database: sessionmaker[Session]) -> None:
    client.post("/mappings", data=FORM)
    row, _ = only(database)
    editor = client.get(f"/mappings/{row.id}/edit").text
    assert 'value="works/{device}/up"' in editor
    assert client.post(f"/mappings/{row.id}", data={**FORM, "after": "1", "metric-0-name": "heat"}).status_code == 303
    stale = client.post(f"/mappings/{row.id}", data={**FORM, "after": "1", "metric-0-name": "warmth"})
    assert stale.status_code == 422
    assert "Somebody else saved this mapping meanwhile" in stale.text
    assert "Version 1 does not hold." in client.get(f"/mappings/{row.id}?version=1").text
    assert client.post(f"/mappings/{row.id}/roll_back", data={"number": "1"}).status_code == 303
    row, versions = only(database)
    assert (row.version, len(versions)) == (1, 2)
    assert client.post(f"/mappings/{row.id}/switch", data={"on": "0"}).status_code == 303
    assert not only(database)[0].is_enabled


def test_what_the_form_cannot_say_is_edited_as_text_and_loses_nothing(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    definition = {**PLAIN, "alarms": [{"path": "f", "code": "f", "severity": "{=s}", "severities": {"1": "major"}}]}
    made = client.post("/api/v1/mappings", json={"name": "Odd", "definition": definition, "sample": SAMPLE}).json()
    page = client.get(f"/mappings/{made['id']}/edit").text
    assert "says more than the form can show" in page
    text = json.dumps({**definition, "tidy": True})
    data = {"name": "Odd", "text": text, "after": "1", "sample_topic": "plant/a", "sample": '{"x": 2}'}
    assert client.post(f"/mappings/{made['id']}", data=data).status_code == 303
    _, versions = only(database)
    assert versions[-1].definition["alarms"][0]["severities"] == {"1": "major"}
    assert versions[-1].definition["tidy"] is True


def test_ready_mappings_are_adopted_by_a_click_and_no_longer_offered(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    page = client.get("/mappings").text
    assert all(one.definition["topic"] in page for one in ready.READY)
    assert client.post("/mappings/adopt", data={"key": "Tasmota"}).status_code == 303
    assert client.post("/mappings/adopt", data={"key": "chirpstack"}).status_code == 303
    with database() as session:
        found = session.scalars(select(Mapping.ready).order_by(Mapping.id)).all()
    assert found == ["tasmota-sensor", "tasmota-state", "tasmota-lwt", "chirpstack"]
    page = client.get("/mappings").text
    assert "Adopt all of Tasmota" not in page
    assert "Adopt all of Shelly" in page
    assert "Tasmota: sensors" in page
    started = client.get("/mappings/new?start=senml").text
    assert "urn:dev:ow:10e2073a01080063" in started
    assert "229.1" in started


def test_ING_12_the_api_tries_adds_revises_and_puts_back(client: httpx.Client) -> None:
    def post(path: str, body: Any, status: int, **headers: str) -> Any:
        answer = client.post(f"/api/v1/mappings{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    tried = post("/try", {"definition": PLAIN, "sample": SAMPLE}, 200)
    assert tried["said"] == [
        {"device": "a", "readings": [{"ts": None, "values": {"x": 1}}], "alarms": [], "is_online": None}
    ]
    tried = post("/try", {"definition": PLAIN, "sample": {**SAMPLE, "payload": "{}"}}, 200)
    assert (tried["reason"], tried["detail"]) == ("path_missing", "nothing was found at “x”")
    post("/try", {"definition": {**PLAIN, "colour": 1}, "sample": SAMPLE}, 422)
    body = {"name": "Plant", "definition": PLAIN, "sample": SAMPLE}
    post("", {**body, "sample": {"topic": "plant/a", "payload": "{}"}}, 422)
    made = post("", body, 201)
    wider = {**PLAIN, "metrics": [{"name": "x", "path": "x || y"}]}
    saved = post(f"/{made['id']}/versions", {"definition": wider, "sample": SAMPLE}, 201, **{"If-Match": '"1"'})
    assert saved["number"] == 2
    post(f"/{made['id']}/versions", {"definition": PLAIN, "sample": SAMPLE}, 412, **{"If-Match": '"1"'})
    assert post(f"/{made['id']}/roll_back", {"number": 1}, 200)["number"] == 1
    patched = client.patch(f"/api/v1/mappings/{made['id']}", json={"is_enabled": False, "name": "Plant 1"}).json()
    assert (patched["name"], patched["is_enabled"], patched["version"]) == ("Plant 1", False, 1)
    assert post("/adopt", {"ready": "ttn"}, 201)["topic"] == "v3/{application}@{tenant}/devices/{device}/up"
    assert len(client.get("/api/v1/mappings").json()["items"]) == 2
    assert len(client.get("/api/v1/mappings/ready").json()["items"]) == len(ready.READY)
    assert [one["number"] for one in client.get(f"/api/v1/mappings/{made['id']}/versions").json()["items"]] == [2, 1]


def test_the_pages_are_accessible_and_what_a_mapping_gives_follows_the_typing(
    client: httpx.Client, address: str, database: sessionmaker[Session], browser: Browser
) -> None:
    if not libraries.VENDOR.is_dir():
        pytest.skip("needs the browser libraries (python -m api.web.assets, or make test)")
    client.post("/mappings", data=FORM)
    row, _ = only(database)
    paths = ("/mappings", f"/mappings/{row.id}", "/mappings/new?start=chirpstack", f"/mappings/{row.id}/edit")
    complaints: list[str] = []
    with visit(browser):
        for width, language in ((360, "zh"), (1440, "en")):
            context = browser.new_context(viewport={"width": width, "height": 900})
            cookies = [{"name": name, "value": value, "url": address} for name, value in client.cookies.items()]
            context.add_cookies([*cookies, {"name": "lang", "value": language, "url": address}])
            page = context.new_page()
            page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            for path in paths:
                page.goto(f"{address}{path}")
                page.wait_for_load_state("networkidle")
                assert faults(page) == [], path
                assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        trial = page.locator("#trial")
        expect(trial).to_contain_text("100.0")
        page.locator("#f-sample").fill('{"v": {"t": 50}}')
        expect(trial).to_contain_text("10.0")
        page.locator("#metric-0-path").fill("v.missing")
        expect(trial).to_contain_text("v.missing")
        page.locator("#metric-0-path").fill("v.t")
        expect(trial).to_contain_text("10.0")
        page.locator(".fw-buttons .btn-primary").click()
        expect(page).to_have_url(re.compile(rf"/mappings/{row.id}$"))
    assert complaints == []
    assert only(database)[0].version == 2
