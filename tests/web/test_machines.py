"""Assets, devices, types, places and readings, as pages and as JSON, on the real application."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets import passwords
from assets.models import Asset, Binding, Device
from kernel import clock, db
from kernel.models import IdempotencyKey
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.factories import Company

ClientOf = Callable[..., httpx.Client]
MINUTE = 60_000


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """Gather the statements that run meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def plant(database: sessionmaker[Session], company: Company) -> dict[str, int]:
    """Two assets at the harbour, one with a device, and one at the quarry; their ids by name."""
    with db.transaction(database) as session:
        pump = factories.asset(session, company, "harbour", code="P-1", name="Pump one", name_zh="一号泵")
        seal = factories.asset(session, company, "harbour", code="P-1-S", name="Seal", parent_id=pump.id)
        crusher = factories.asset(session, company, "quarry", code="Q-1", name="Crusher", name_zh="破碎机")
        sensor = factories.device(session, company, "harbour", on=pump, key="sensor-1", name="Sensor one")
        return {"pump": pump.id, "seal": seal.id, "crusher": crusher.id, "sensor": sensor.id}


def write(runtime: Runtime, device_id: int, metric: str, ts_ms: list[int], value: list[float]) -> None:
    with runtime.sessions() as session:
        series = session.scalars(select(Series.id).where(Series.device_id == device_id, Series.metric == metric)).one()
    runtime.store.write(Readings.of([series] * len(ts_ms), ts_ms, value))


# Sight -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/assets/{pump}",
        "/assets/{pump}/values",
        "/assets/{pump}/curve?metric=temperature",
        "/assets/{pump}/photo",
        "/assets/branch?asset={pump}",
        "/devices/{sensor}",
        "/api/v1/assets/{pump}",
        "/api/v1/devices/{sensor}",
        "/api/v1/devices/{sensor}/bindings",
        "/api/v1/telemetry/range?asset={pump}",
        "/api/v1/telemetry/range?device={sensor}",
    ],
)
def test_what_lies_outside_the_viewers_sight_does_not_exist(
    client_of: ClientOf, plant: dict[str, int], path: str, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        other = factories.company(session, "other", "Other Works")
    where = path.format(**plant)
    assert client_of("technician", "quarry").get(where).status_code == 404
    assert client_of("administrator", "company", of=other).get(where).status_code == 404
    # Nothing was uploaded, so even those who see the asset find no photo.
    assert client_of("technician", "north").get(where).status_code == (404 if "photo" in path else 200)


def test_lists_maps_latest_values_and_search_leave_out_what_lies_outside(
    client_of: ClientOf, plant: dict[str, int], runtime: Runtime
) -> None:
    write(runtime, plant["sensor"], "temperature", [clock.now_ms()], [21.0])
    near, far = client_of("technician", "harbour"), client_of("technician", "quarry")
    for address, word in (
        ("/assets", "Pump one"),
        ("/assets?view=tree", "Harbour"),
        ("/devices", "sensor-1"),
        ("/sites", "Harbour"),
        ("/api/v1/assets", "P-1"),
        ("/api/v1/devices", "sensor-1"),
        ("/api/v1/sites", "Harbour"),
        ("/api/v1/telemetry/latest", "temperature"),
        ("/search?q=pump", "Pump one"),
    ):
        assert word in near.get(address).text, address
        assert word not in far.get(address).text, address


def test_who_may_only_look_changes_nothing(client_of: ClientOf, plant: dict[str, int]) -> None:
    looker = client_of("technician", "harbour")
    for address, body in (
        ("/api/v1/assets", {"code": "X", "name": "X", "type_id": 1, "site_id": 1}),
        ("/api/v1/sites", {"unit_id": 1, "name": "X", "zone": "UTC"}),
        ("/api/v1/types", {"key": "x", "name": "X"}),
        ("/api/v1/devices", {"key": "x", "asset_id": plant["pump"]}),
        (f"/api/v1/devices/{plant['sensor']}/rotate", {}),
        (f"/api/v1/devices/{plant['sensor']}/revoke", {}),
        (f"/api/v1/assets/{plant['pump']}/move", {"parent_id": None}),
    ):
        assert looker.post(address, json=body).status_code == 403, address
    assert looker.patch(f"/api/v1/assets/{plant['pump']}", json={"name": "X"}).status_code == 403
    for address in (f"/assets/{plant['pump']}/edit", "/assets/new", "/devices/new", "/types/new", "/sites/new"):
        assert looker.get(address).status_code == 403, address


@pytest.mark.usefixtures("plant")
def test_a_planner_of_one_region_writes_there_and_nowhere_else(client_of: ClientOf, company: Company) -> None:
    planner = client_of("planner", "north")
    kind = planner.get("/api/v1/types").json()["items"][0]["id"]
    body = {"code": "N-1", "name": "New one", "type_id": kind, "site_id": company.sites["mill"].id}
    assert planner.post("/api/v1/assets", json=body).status_code == 201
    refused = planner.post("/api/v1/assets", json=body | {"code": "N-2", "site_id": company.sites["quarry"].id})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "site_id")
    # Types belong to the whole company.
    assert planner.post("/api/v1/types", json={"key": "x", "name": "X"}).status_code == 403


# Assets ------------------------------------------------------------------------------------------------------------


def test_the_list_filters_and_pages_by_its_key(
    client: httpx.Client, company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        for number in range(23):
            machine = factories.asset(session, company, "mill", code=f"M-{number:02}")
        factories.alarm(session, machine, severity="major")
        factories.asset(session, company, "quarry", code="Z-1")
    codes: list[str] = []
    cursor = None
    for _ in range(10):
        page = client.get(
            "/api/v1/assets",
            params={"limit": 7, "site_id": company.sites["mill"].id} | ({"cursor": cursor} if cursor else {}),
        ).json()
        codes += [item["code"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert codes == [f"M-{number:02}" for number in range(23)]
    troubled = client.get("/api/v1/assets", params={"severity": "major"}).json()["items"]
    assert [(item["code"], item["severity"], item["open_alarms"]) for item in troubled] == [("M-22", "major", 1)]
    assert client.get("/api/v1/assets", params={"severity": "critical"}).json()["items"] == []
    assert "M-22" in client.get("/assets?state=alarm").text
    assert "Nothing fits" in client.get("/assets?q=nothing-like-it").text
    assert client.get("/assets?type=abc").status_code == 422
    assert client.get("/api/v1/assets?cursor=rubbish").status_code == 422


def test_AS_1_a_loop_over_three_assets_is_422(client: httpx.Client, company: Company, plant: dict[str, int]) -> None:
    kind = client.get("/api/v1/types").json()["items"][0]["id"]
    third = client.post(
        "/api/v1/assets",
        json={
            "code": "P-1-S-R",
            "name": "Ring",
            "type_id": kind,
            "site_id": company.sites["harbour"].id,
            "parent_id": plant["seal"],
        },
    ).json()
    refused = client.post(f"/api/v1/assets/{plant['pump']}/move", json={"parent_id": third["id"]})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json()["errors"][0]["field"] == "parent_id"
    moved = client.post(f"/api/v1/assets/{third['id']}/move", json={"parent_id": None})
    assert moved.json()["path"] == f"/{third['id']}/"


def test_a_change_with_an_old_version_is_refused(client: httpx.Client, plant: dict[str, int]) -> None:
    address = f"/api/v1/assets/{plant['pump']}"
    etag = client.get(address).headers["etag"]
    assert client.patch(address, json={"name": "First"}, headers={"If-Match": etag}).json()["name"] == "First"
    late = client.patch(address, json={"name": "Second"}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert client.get(address).json()["name"] == "First"
    assert client.patch(address, json={"name": "x"}, headers={"If-Match": "rubbish"}).status_code == 422


def test_an_asset_is_registered_changed_and_moved_by_forms(
    client: httpx.Client, company: Company, plant: dict[str, int], database: sessionmaker[Session]
) -> None:
    kind = client.get("/api/v1/types").json()["items"][0]["id"]
    harbour, quarry = company.sites["harbour"].id, company.sites["quarry"].id
    form = {
        "code": "F-1",
        "name": "Fan",
        "type": kind,
        "place": f"site:{harbour}",
        "parent": "P-1",
        "status": "in_service",
    }
    refused = client.post("/assets", data=form | {"code": ""})
    assert refused.status_code == 422
    assert 'value="Fan"' in refused.text
    assert "This is needed." in refused.text
    made = client.post("/assets", data=form)
    assert made.status_code == 303
    address = made.headers["location"]
    with database() as session:
        fan = session.scalars(select(Asset).where(Asset.code == "F-1")).one()
        assert fan.parent_id == plant["pump"]
        version = fan.version
    elsewhere = form | {"place": f"site:{quarry}", "parent": "", "version": version}
    assert client.post(address, data=elsewhere).status_code == 303
    with database() as session:
        fan = session.scalars(select(Asset).where(Asset.code == "F-1")).one()
        assert (fan.parent_id, fan.site_id, fan.path) == (None, quarry, f"/{fan.id}/")
    stale = client.post(address, data=elsewhere | {"name": "Other"})
    assert stale.status_code == 422
    assert "Somebody else changed this" in stale.text


def test_AS_6_the_page_of_an_asset_holds_its_whole_life_in_a_constant_number_of_queries(
    client: httpx.Client, company: Company, plant: dict[str, int], runtime: Runtime, engine: Engine
) -> None:
    now = clock.now()

    def live_on(times: int) -> None:
        with db.transaction(runtime.sessions) as session:
            pump = session.get_one(Asset, plant["pump"])
            for _ in range(times):
                alarm = factories.alarm(session, pump, raised_at=now - timedelta(hours=1))
                order = factories.order(session, company, pump, alarm_id=alarm.id, created_at=now)
                factories.plan(session, company, pump)
                factories.asset(session, company, "harbour", parent_id=pump.id)
                part, place = factories.part(session, company), factories.place(session, company)
                stock = factories.stock(session, part, place)
                factories.reservation(session, stock, order)

    write(runtime, plant["sensor"], "temperature", [clock.now_ms() - MINUTE, clock.now_ms()], [80.0, 81.5])
    live_on(1)
    client.get(f"/assets/{plant['pump']}")
    with counted(engine) as few:
        page = client.get(f"/assets/{plant['pump']}")
    live_on(7)
    with counted(engine) as many:
        client.get(f"/assets/{plant['pump']}")
    text = unescape(page.text)
    for words in (
        "Pump one",
        "81.5",
        "overheat",
        "Runs hot",
        "Weekly round",
        "Sensor one",
        "Seal",
    ):
        assert words in text, words
    # Fewer, where the older kinds of happenings have moved to the next page.
    assert len(many) <= len(few), (len(few), len(many))


def test_a_page_speaks_the_readers_language(client: httpx.Client, plant: dict[str, int]) -> None:
    client.cookies.set("lang", "zh")
    page = client.get(f"/assets/{plant['pump']}").text
    assert "一号泵" in page
    assert "实时读数" in page
    assert "Values now" not in page


def test_the_tree_opens_branch_by_branch(client: httpx.Client, company: Company, plant: dict[str, int]) -> None:
    site = company.sites["harbour"].id
    page = client.get(f"/assets?view=tree&site={site}").text
    assert "Pump one" in page
    assert "Seal" not in page
    assert "Seal" in client.get(f"/assets/branch?asset={plant['pump']}").text
    assert "Pump one" in client.get(f"/assets/branch?site={site}").text


def test_the_map_colours_sites_by_their_worst_alarm(
    client: httpx.Client, company: Company, plant: dict[str, int], database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        site = session.merge(company.sites["harbour"])
        site.latitude, site.longitude = 31.2, 121.5
        factories.alarm(session, session.get_one(Asset, plant["seal"]), severity="major")
    features = client.get("/assets/map.json").json()["features"]
    assert [(one["properties"]["severity"], one["geometry"]["coordinates"]) for one in features] == [
        ("major", [121.5, 31.2])
    ]


def test_the_history_pages_through_everything_once(
    client: httpx.Client, plant: dict[str, int], database: sessionmaker[Session]
) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with db.transaction(database) as session:
        pump = session.get_one(Asset, plant["pump"])
        for number in range(40):
            # Several at one instant, so that a cursor by time alone would lose some.
            factories.alarm(
                session,
                pump,
                raised_at=at + timedelta(days=number // 4),
                message=f"alarm no {number:02}",
                is_active=False,
            )
    address, seen = f"/assets/{plant['pump']}", []
    for _ in range(10):
        page = client.get(address).text
        seen += re.findall(r"alarm no \d\d", page.partition('id="history"')[2])
        following = re.search(r'rel="next" href="([^"]+)"', page)
        if following is None:
            break
        address = unescape(following[1])
    assert sorted(seen) == [f"alarm no {number:02}" for number in range(40)]
    told: list[tuple[str, int]] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        answer = client.get(f"/api/v1/assets/{plant['pump']}/history", params=params).json()
        told += [(item["kind"], item["id"]) for item in answer["items"]]
        cursor = answer["next"]
    assert (len(told), len(set(told))) == (41, 41)
    assert client.get(f"/api/v1/assets/{plant['pump']}/history?cursor=WyJ4IiwxLDFd").status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/assets/99999999999999999999",
        "/api/v1/assets/99999999999999999999",
        "/assets?type=99999999999999999999",
        "/assets?q=%00",
        "/search?q=%00",
        "/api/v1/alarms?asset=99999999999999999999",
        "/api/v1/telemetry/latest?device=99999999999999999999",
    ],
)
def test_what_no_database_can_hold_is_refused_and_not_a_breakdown(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code in {404, 422}


# Devices -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plant")
def test_a_secret_is_shown_exactly_once_and_opens_the_door(
    client: httpx.Client, database: sessionmaker[Session]
) -> None:
    shown = client.post("/devices", data={"key": "new-1", "name": "New", "asset": "P-1-S"})
    assert shown.status_code == 200
    assert shown.headers["cache-control"] == "no-store"
    secret = re.search(r'id="secret">([^<]+)<', shown.text)
    assert secret is not None
    with database() as session:
        device = session.scalars(select(Device).where(Device.key == "new-1")).one()
        assert passwords.is_right(secret[1], device.password_hash)
        first = device.password_hash
    assert f"-u new-1 -P '{secret[1]}'" in unescape(shown.text)
    for address in (f"/devices/{device.id}", "/devices", f"/api/v1/devices/{device.id}", "/api/v1/devices"):
        text = client.get(address).text
        assert secret[1] not in text
        assert str(first) not in text
    again = client.post(f"/devices/{device.id}/rotate")
    other = re.search(r'id="secret">([^<]+)<', again.text)
    assert other is not None
    with database() as session:
        kept = session.get_one(Device, device.id).password_hash
    assert passwords.is_right(other[1], kept)
    assert not passwords.is_right(secret[1], kept)


def test_a_secret_is_not_kept_with_the_answer_of_a_repeatable_request(
    client: httpx.Client, plant: dict[str, int], database: sessionmaker[Session]
) -> None:
    body, headers = {"key": "api-2", "asset_id": plant["seal"]}, {"Idempotency-Key": "once"}
    made = client.post("/api/v1/devices", json=body, headers=headers)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    with database() as session:
        kept = [bytes(row) for row in session.scalars(select(IdempotencyKey.body))]
    assert not [row for row in kept if made.json()["password"].encode() in row]
    assert client.post("/api/v1/devices", json=body, headers=headers).status_code == 409


def test_a_device_is_registered_bound_and_shut_out_over_json(client: httpx.Client, plant: dict[str, int]) -> None:
    made = client.post("/api/v1/devices", json={"key": "api-1", "asset_id": plant["seal"]})
    assert (made.status_code, made.json()["asset_id"], made.json()["topic"]) == (
        201,
        plant["seal"],
        "fw/v1/api-1/telemetry",
    )
    identity = made.json()["id"]
    assert client.post("/api/v1/devices", json={"key": "api-1", "asset_id": plant["seal"]}).status_code == 409
    assert client.post("/api/v1/devices", json={"key": "a/b", "asset_id": plant["seal"]}).status_code == 422
    assert client.post("/api/v1/devices", json={"key": "lonely"}).status_code == 422
    bound = client.post(f"/api/v1/devices/{identity}/bind", json={"asset_id": plant["crusher"]})
    assert bound.json()["asset_id"] == plant["crusher"]
    history = client.get(f"/api/v1/devices/{identity}/bindings").json()["items"]
    assert [one["asset_id"] for one in history] == [plant["crusher"], plant["seal"]]
    assert history[1]["ends_at"] == history[0]["starts_at"]
    assert client.post(f"/api/v1/devices/{identity}/revoke").json()["revoked_at"] is not None
    for verb in ("revoke", "rotate"):
        assert client.post(f"/api/v1/devices/{identity}/{verb}").status_code == 409


def test_a_refused_replacement_leaves_everything_as_it_was(
    client: httpx.Client, plant: dict[str, int], company: Company, database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        factories.device(session, company, "harbour", key="gone", revoked_at=clock.now())
    refused = client.post(f"/devices/{plant['sensor']}/replace", data={"device": "gone"})
    assert refused.status_code == 422
    assert "This device is revoked" in refused.text
    with database() as session:
        still = session.scalars(select(Binding).where(Binding.device_id == plant["sensor"])).one()
        assert still.ends_at is None


# Types and places --------------------------------------------------------------------------------------------------


def test_AS_10_a_metric_added_to_a_type_appears_on_its_assets_at_once(
    client: httpx.Client, plant: dict[str, int], runtime: Runtime
) -> None:
    kind = client.get("/api/v1/types").json()["items"][0]
    with db.transaction(runtime.sessions) as session:
        session.add(Series(device_id=plant["sensor"], metric="flow", created_at=clock.now()))
    write(runtime, plant["sensor"], "flow", [clock.now_ms()], [12.25])
    assert "unclassified" in client.get(f"/assets/{plant['pump']}").text
    made = client.post(
        f"/types/{kind['id']}/metrics", data={"key": "flow", "name": "Flow", "unit": "m³/h", "decimals": "2"}
    )
    assert made.status_code == 303
    page = client.get(f"/assets/{plant['pump']}").text
    assert "unclassified" not in page
    assert "m³/h" in page
    assert client.post(f"/types/{kind['id']}/metrics", data={"key": "flow", "name": "Flow"}).status_code == 422
    bad = client.post(f"/types/{kind['id']}/metrics", data={"key": "heat", "name": "Heat", "low": "many"})
    assert (bad.status_code, "This must be a number." in bad.text) == (422, True)


def test_TEL_4_a_new_metric_is_unclassified_and_is_classified_on_the_page_of_its_type(
    client: httpx.Client, client_of: ClientOf, plant: dict[str, int], runtime: Runtime
) -> None:
    kind = client.get("/api/v1/types").json()["items"][0]["id"]
    assert "Unclassified" not in client.get(f"/types/{kind}").text
    with db.transaction(runtime.sessions) as session:
        session.add(Series(device_id=plant["sensor"], metric="oil_temp", created_at=clock.now()))
    (found,) = client.get(f"/api/v1/types/{kind}/unclassified").json()["items"]
    assert (found["metric"], found["assets"]) == ("oil_temp", 1)
    elsewhere = client_of("technician", "quarry").get(f"/api/v1/types/{kind}/unclassified").json()["items"]
    assert elsewhere == []
    assert f'href="/types/{kind}?classify=oil_temp#new-metric"' in client.get(f"/types/{kind}").text
    form = client.get(f"/types/{kind}", params={"classify": "oil_temp"}).text
    assert 'value="oil_temp"' in form
    assert 'value="Oil temp"' in form
    described = {"key": "oil_temp", "name": "Oil", "unit": "°C", "sent_unit": "°F", "is_on_change": "1"}
    assert client.post(f"/types/{kind}/metrics", data=described).status_code == 303
    page = client.get(f"/types/{kind}").text
    assert "Unclassified" not in page
    assert "sent in °F" in page
    (metric,) = (one for one in client.get(f"/api/v1/types/{kind}").json()["metrics"] if one["key"] == "oil_temp")
    assert (metric["sent_unit"], metric["is_on_change"], metric["stuck_after"]) == ("°F", True, None)
    address = f"/api/v1/types/{kind}/metrics/{metric['id']}"
    assert client.patch(address, json={"stuck_after": 12}).json()["sent_unit"] == "°F"
    assert client.patch(address, json={"sent_unit": "bar"}).status_code == 422
    form = client.get(f"/types/{kind}/metrics/{metric['id']}").text
    assert re.search(r'name="stuck_after"[^>]*value="12"|value="12"[^>]*name="stuck_after"', form.replace("\n", " "))
    # A box that is not ticked sends nothing.
    data = {"name": "Oil", "unit": "°C", "sent_unit": "°F"}
    assert client.post(f"/types/{kind}/metrics/{metric['id']}", data=data).status_code == 303
    (metric,) = (one for one in client.get(f"/api/v1/types/{kind}").json()["metrics"] if one["key"] == "oil_temp")
    assert (metric["is_on_change"], metric["stuck_after"]) == (False, None)


def test_a_site_and_its_locations_are_made_by_forms(client: httpx.Client, company: Company) -> None:
    form = {
        "unit": company.units["south"].id,
        "name": "West",
        "zone": "Europe/Berlin",
        "latitude": "52,5",
        "longitude": "13.4",
    }
    assert client.post("/sites", data=form | {"zone": "Mars/Olympus"}).status_code == 422
    made = client.post("/sites", data=form)
    assert made.status_code == 303
    address = made.headers["location"]
    assert client.post(f"{address}/locations", data={"location": "Hall 1"}).status_code == 303
    page = client.get(address).text
    assert "Hall 1" in page
    location = re.search(rf"{address}/locations/(\d+)", page)
    assert location is not None
    loop = client.post(f"{address}/locations/{location[1]}", data={"location": "Hall 1", "parent": location[1]})
    assert (loop.status_code, "cannot stand inside itself" in loop.text) == (422, True)
    site = client.get("/api/v1/sites", params={"q": "west"}).json()["items"][0]
    assert (site["latitude"], site["zone"]) == (52.5, "Europe/Berlin")


# Readings ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def readings(plant: dict[str, int], runtime: Runtime) -> int:
    """Ten hours of a reading a minute; return when they began."""
    began = clock.now_ms() // MINUTE * MINUTE - 600 * MINUTE
    ts_ms = [began + number * MINUTE for number in range(600)]
    write(
        runtime, plant["sensor"], "temperature", ts_ms, [20 + 10 * float(np.sin(number / 50)) for number in range(600)]
    )
    return began


def test_TEL_3_a_range_comes_in_as_many_buckets_as_asked_for_and_no_peak_is_lost(
    client: httpx.Client, plant: dict[str, int], readings: int
) -> None:
    answer = client.get(
        "/api/v1/telemetry/range",
        params={
            "asset": plant["pump"],
            "metric": "temperature",
            "from": readings,
            "to": readings + 600 * MINUTE,
            "points": 20,
        },
    ).json()
    (series,) = answer["series"]
    points = series["points"]
    assert (series["unit"], len(points), sum(point["count"] for point in points)) == ("°C", 20, 600)
    everything = [20 + 10 * float(np.sin(number / 50)) for number in range(600)]
    assert max(point["max"] for point in points) == max(everything)
    assert min(point["min"] for point in points) == min(everything)
    assert points[0]["ts"] == readings
    empty = client.get(
        "/api/v1/telemetry/range",
        params={"asset": plant["pump"], "metric": "temperature", "from": 0, "to": 1000, "points": 2},
    ).json()
    assert empty["series"][0]["points"][0] == {
        "ts": 0, "end": 500, "count": 0, "min": None, "max": None, "mean": None, "sum": None, "first": None,
        "last": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "0", "to": "253402300799000"},
        {"from": "yesterday"},
        {"from": "99999999999999999999"},
        {"points": "0"},
        {"points": "1000000"},
        {"asset": ""},
        {"device": "1"},
    ],
)
def test_TEL_3_reversed_and_endless_ranges_are_refused(
    client: httpx.Client, plant: dict[str, int], change: dict[str, str]
) -> None:
    wanted = {"asset": str(plant["pump"]), "metric": "temperature"} | change
    answer = client.get("/api/v1/telemetry/range", params=wanted)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_a_curve_shows_every_reading_when_few_its_gaps_its_alarms_and_its_orders(
    client: httpx.Client, company: Company, plant: dict[str, int], readings: int, runtime: Runtime
) -> None:
    gap_ends = readings + 900 * MINUTE
    write(runtime, plant["sensor"], "temperature", [gap_ends], [25.0])
    with db.transaction(runtime.sessions) as session:
        pump = session.get_one(Asset, plant["pump"])
        raised = clock.from_ms(readings + 100 * MINUTE)
        factories.alarm(
            session, pump, raised_at=raised, began_at=raised, ended_at=raised + timedelta(minutes=9), is_active=False
        )
        order = factories.order(session, company, pump, created_at=raised)
    address = f"/assets/{plant['pump']}/curve"
    params = {"metric": "temperature", "from": readings, "to": gap_ends + 1, "points": 2000}
    answer = client.get(address, params=params).json()
    points = answer["series"][0]["points"]
    assert len(points) == 602
    assert [value for _, value in points].count(None) == 1
    assert points[600][1] is None
    assert {mark["label"] for mark in answer["marks"]} >= {order.number}
    assert [mark["to"] - mark["from"] for mark in answer["marks"] if mark["to"]] == [9 * MINUTE]
    thin = client.get(address, params=params | {"points": 100}).json()["series"][0]["points"]
    assert len(thin) <= 102
    assert max(value for _, value in thin if value is not None) == max(
        value for _, value in points if value is not None
    )


def test_TEL_2_500_latest_values_cost_a_constant_number_of_queries(
    client: httpx.Client, company: Company, runtime: Runtime, engine: Engine
) -> None:
    now = clock.now_ms()
    with db.transaction(runtime.sessions) as session:
        for _ in range(170):
            machine = factories.asset(session, company, "mill")
            factories.device(session, company, "mill", on=machine)
        numbers = list(session.scalars(select(Series.id).order_by(Series.id)))
    runtime.store.write(Readings.of(numbers, [now] * len(numbers), [float(number) for number in numbers]))
    address = "/api/v1/telemetry/latest"
    client.get(address, params={"limit": 10})
    with counted(engine) as few:
        client.get(address, params={"limit": 10})
    with counted(engine) as many:
        began = time.perf_counter()
        page = client.get(address, params={"limit": 500}).json()
        took = time.perf_counter() - began
    # Measured and shown, not asserted: how fast is a matter for the bench, how many queries one for here.
    sys.stdout.write(f"500 latest values in {took * 1000:.0f} ms, {len(many)} queries\n")
    assert len(page["items"]) == 500
    assert len(many) == len(few)
    rest = client.get(address, params={"limit": 500, "cursor": page["next"]}).json()
    assert [item["series_id"] for item in [*page["items"], *rest["items"]]] == numbers
    first = page["items"][0]
    assert (first["value"], first["unit"], first["quality"], first["ts"]) == (float(numbers[0]), "°C", "good", now)


def test_TEL_2_an_older_reading_never_replaces_a_newer_one(
    client: httpx.Client, plant: dict[str, int], runtime: Runtime
) -> None:
    now = clock.now_ms()
    write(runtime, plant["sensor"], "temperature", [now], [50.0])
    write(runtime, plant["sensor"], "temperature", [now - MINUTE], [10.0])
    items = client.get("/api/v1/telemetry/latest", params={"asset": plant["pump"]}).json()["items"]
    assert [(item["metric"], item["value"]) for item in items] == [("temperature", 50.0)]


def test_AS_9_a_swap_at_ten_continues_the_curve_over_the_api(
    client: httpx.Client, company: Company, plant: dict[str, int], runtime: Runtime
) -> None:
    now = clock.now()
    swap = now - timedelta(hours=2)
    with db.transaction(runtime.sessions) as session:
        new = factories.device(session, company, "harbour", key="sensor-2")
    for device_id, level in ((plant["sensor"], 10.0), (new.id, 20.0)):
        ts_ms = [clock.to_ms(now) - number * MINUTE for number in range(240, 0, -1)]
        write(runtime, device_id, "temperature", ts_ms, [level] * 240)
    answer = client.post(
        f"/api/v1/devices/{plant['sensor']}/replace", json={"device_id": new.id, "at": swap.isoformat()}
    )
    assert answer.json()["asset_id"] == plant["pump"]
    params = {
        "asset": plant["pump"],
        "metric": "temperature",
        "from": clock.to_ms(now) - 240 * MINUTE,
        "to": clock.to_ms(now),
        "points": 7,
    }
    points = client.get("/api/v1/telemetry/range", params=params).json()["series"][0]["points"]
    assert len(points) <= 7
    assert sum(point["count"] for point in points) == 240
    for point in points:
        assert (point["min"], point["max"]) == ((10.0, 10.0) if point["end"] <= clock.to_ms(swap) else (20.0, 20.0))


# Search ------------------------------------------------------------------------------------------------------------


def test_the_search_box_finds_machines_orders_and_parts_and_opens_an_exact_code(
    client: httpx.Client, company: Company, plant: dict[str, int], database: sessionmaker[Session]
) -> None:
    with db.transaction(database) as session:
        order = factories.order(session, company, session.get_one(Asset, plant["pump"]), title="Pump leaks")
        factories.part(session, company, number="PUMP-SEAL", name="Shaft seal")
    found = client.get("/search", params={"q": "pump"}).text
    for words in ("Pump one", order.number, "PUMP-SEAL"):
        assert words in found, words
    exact = client.get("/search", params={"q": "p-1"})
    assert (exact.status_code, exact.headers["location"]) == (303, f"/assets/{plant['pump']}")
    assert client.get("/search", params={"q": order.number}).headers["location"] == f"/orders/{order.id}"
    assert "Found nothing" in client.get("/search", params={"q": "100%_nothing"}).text
    assert client.get("/search").status_code == 200
