"""Exports by pages and API: asked for, carried out beside, fetched by the one who asked and by nobody else."""

import csv
import io
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from kernel import clock, db
from telemetry.models import Series
from telemetry.readings import Readings
from tests import factories
from tests.factories import Company
from tests.waiting import until


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company, runtime: Runtime) -> int:
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="P-1", name="Pump")
        device = factories.device(session, company, "harbour", on=asset)
        number = session.scalar(select(Series.id).where(Series.device_id == device.id, Series.metric == "temperature"))
        identity = asset.id
    assert number is not None
    now = clock.now_ms()
    runtime.store.write(Readings.of([number] * 100, range(now - 100_000, now, 1000), range(100)))
    return identity


def _done(client: httpx.Client, export: int) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def look() -> bool:
        told.update(client.get(f"/api/v1/telemetry/exports/{export}").json())
        return told["state"] in {"done", "failed"}

    until(look, what="the export is carried out")
    return told


def test_TEL_8_a_program_asks_waits_and_fetches(client: httpx.Client, client_of: Any, pump: int) -> None:
    asked = client.post("/api/v1/telemetry/exports", json={"assets": [pump], "metrics": ["temperature"]})
    assert asked.status_code == 202
    export = asked.json()["id"]
    told = _done(client, export)
    assert (told["state"], told["rows"], told["percent"]) == ("done", 100, 100)
    answer = client.get(f"/api/v1/telemetry/exports/{export}/file")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="readings-')
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [float(row["value"]) for row in rows] == [float(number) for number in range(100)]
    assert all(row["time"].endswith("+08:00") for row in rows)
    other = client_of("manager", "company")
    for path in ("", "/file"):
        assert other.get(f"/api/v1/telemetry/exports/{export}{path}").status_code == 404
    assert other.get("/api/v1/telemetry/exports").json()["items"] == []
    assert client.get("/api/v1/telemetry/exports").json()["items"][0]["id"] == export


def test_an_asset_out_of_sight_cannot_be_exported(client_of: Any, pump: int) -> None:
    elsewhere = client_of("manager", "quarry")
    assert elsewhere.post("/api/v1/telemetry/exports", json={"assets": [pump]}).status_code == 404
    form = {"codes": "P-1", "starts": "2026-01-01T00:00", "ends": "2026-01-02T00:00", "zone": "UTC"}
    refused = elsewhere.post("/exports", data=form)
    assert refused.status_code == 422
    assert "There is no asset P-1 here." in refused.text


def test_a_person_fills_in_the_form_sees_it_done_and_downloads(client: httpx.Client, pump: int) -> None:
    page = client.get("/exports", params={"asset": pump})
    assert "P-1</textarea>" in page.text
    form = {
        "codes": "P-1", "metrics": "temperature", "starts": "2020-01-01T00:00", "ends": "2100-01-01T00:00",
        "zone": "Asia/Shanghai", "step": "hour", "format": "csv",
    }  # fmt: skip
    too_many = client.post("/exports", data=form | {"step": "1m"})
    assert too_many.status_code == 422
    assert "The range cannot be read" in too_many.text
    sent = client.post("/exports", data=form | {"starts": "2026-01-01T00:00", "ends": "2027-01-01T00:00"})
    assert sent.status_code == 303
    where = sent.headers["location"]
    _done(client, int(where.rsplit("/", 1)[1]))
    page = client.get(where)
    assert f'href="{where}/file"' in page.text
    assert client.get(f"{where}/file").text.count("temperature") in {1, 2}
    assert where in client.get("/exports").text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codes": "", "site": "", "type": ""}, "Please choose at least one asset."),
        ({"zone": "Mars/Olympus"}, "There is no time zone Mars/Olympus."),
        ({"ends": "2019-01-01T00:00"}, "The end of the range must lie after its beginning."),
        ({"format": "exe"}, "Please choose a format."),
        ({"step": "5 minutes"}, "A step is a number and a unit"),
    ],
)
def test_what_cannot_be_exported_is_said_at_its_field(
    client: httpx.Client,
    pump: int,  # noqa: ARG001 - the row
    change: dict[str, str],
    said: str,
) -> None:
    form = {"codes": "P-1", "starts": "2026-01-01T00:00", "ends": "2026-01-02T00:00", "zone": "UTC", "format": "csv"}
    refused = client.post("/exports", data=form | change)
    assert refused.status_code == 422
    assert said in refused.text
