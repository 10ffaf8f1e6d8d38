"""History by asset: each row goes to the device that measured the asset then, within the sight of who imports it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.runtime import Runtime
from assets import measured
from assets.models import Asset, Binding, Device
from kernel import clock, db
from telemetry import series
from telemetry.models import Series
from tests import factories
from tests.factories import Company
from tests.web.test_imports import imported, sent

JUNE = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def pump(database: sessionmaker[Session], company: Company) -> Asset:
    """Return an asset whose device was replaced in June 2024: *first* measured it since April, *second* since."""
    with db.transaction(database) as session:
        asset = factories.asset(session, company, "harbour", code="P-101")
        for key, starts, ends in (("first", JUNE.replace(month=4), JUNE), ("second", JUNE, None)):
            device = factories.device(session, company, "harbour", key=key)
            session.add(Binding(device_id=device.id, asset_id=asset.id, starts_at=starts, ends_at=ends))
        return asset


def held(runtime: Runtime, key: str, metric: str = "temperature") -> list[float]:
    """Return what the series of a device holds."""
    with runtime.sessions() as session:
        device_id = session.scalars(select(Device.id).where(Device.key == key)).one()
        number = series.load(session, [device_id]).get((device_id, metric))
    if number is None:
        return []
    found: list[float] = runtime.store.samples(number, 0, clock.now_ms(), limit=100).value.tolist()
    return found


ROWS = """asset,device,ts,temperature
P-101,,2024-03-01T08:00:00Z,1
P-101,,2024-05-31T23:59:59Z,2
P-101,,2024-06-01T00:00:00Z,3
P-101,second,2024-07-01T08:00:00Z,4
P-101,second,2024-05-01T08:00:00Z,5
P-999,,2024-07-01T08:00:00Z,6
,second,2024-08-01T08:00:00Z,7
,,2024-08-01T08:00:00Z,8
"""


def test_TEL_8_rows_of_an_asset_go_to_the_device_that_measured_it_then_and_make_one_curve(
    client: httpx.Client, runtime: Runtime, database: sessionmaker[Session], pump: Asset
) -> None:
    tried = sent(client, ROWS)["report"]
    assert [(one["line"], one["code"]) for one in tried["faults"]] == [
        (6, "foreign_device"), (7, "unknown_device"), (9, "unknown_device")
    ]  # fmt: skip
    assert tried["sample"][0] | {"ts_ms": 0} == {
        "line": 2, "device": "first", "asset": "P-101", "ts_ms": 0, "values": {"temperature": 1}
    }  # fmt: skip
    done = imported(client, ROWS)
    assert (done["state"], done["report"]["stored"], done["report"]["refused"]) == ("done", 5, 3)
    assert (held(runtime, "first"), held(runtime, "second")) == ([1, 2], [3, 4, 7])
    with database() as session:
        spans = measured.of_asset(session, pump.id, ["temperature"])
    curve = measured.samples(runtime.store, spans, 0, clock.now_ms(), most=10)
    assert curve is not None
    assert curve.value.tolist() == [1, 2, 3, 4, 7], "its first binding begins with its history"
    again = imported(client, ROWS)["report"]
    assert (again["stored"], again["duplicate"], again["refused"]) == (0, 5, 3)


def test_TEL_8_what_nobody_measured_is_refused_unless_it_is_the_history_of_the_asset(
    client: httpx.Client, runtime: Runtime, pump: Asset
) -> None:
    rows = "ts,temperature\n2024-03-01T08:00:00Z,1\n2024-07-01T08:00:00Z,2\n"
    done = imported(client, rows, asset=pump.code, backdates=False)
    assert [one["line"] for one in done["report"]["faults"]] == [2]
    assert pump.code in done["report"]["faults"][0]["reason"]
    assert (held(runtime, "first"), held(runtime, "second")) == ([], [2])


def test_TEL_8_a_row_whose_values_two_devices_measure_is_shared_out_or_refused_whole(
    client: httpx.Client, runtime: Runtime, database: sessionmaker[Session], company: Company, pump: Asset
) -> None:
    with db.transaction(database) as session:
        beside = factories.device(session, company, "harbour", key="beside")
        session.add(Binding(device_id=beside.id, asset_id=pump.id, starts_at=JUNE))
        session.query(Series).filter_by(device_id=beside.id).delete()
        second_id = session.scalars(select(Device.id).where(Device.key == "second")).one()
        series.ensure(session, [(beside.id, "vibration"), (second_id, "temperature")], now=clock.now())
    done = imported(
        client,
        "asset;ts;temperature;vibration;mode\nP-101;2024-07-01T08:00:00Z;20;3;\nP-101;2024-07-01T09:00:00Z;21;4;auto\n",
    )
    assert (done["report"]["stored"], done["report"]["refused"]) == (2, 1)
    assert "mode" in done["report"]["faults"][0]["reason"]
    assert (held(runtime, "second"), held(runtime, "beside", "vibration")) == ([20], [3])


def test_TEL_8_assets_and_devices_out_of_reach_answer_like_those_that_do_not_exist(
    client_of: Callable[..., Any], runtime: Runtime, database: sessionmaker[Session], company: Company, pump: Asset
) -> None:
    stranger = client_of("administrator", "quarry")
    rows = "asset,ts,temperature\n{code},2024-07-01T08:00:00Z,1\n"
    seen, none = (sent(stranger, rows.format(code=code))["report"]["faults"][0] for code in (pump.code, "P-999"))
    assert seen["reason"].replace(pump.code, "P-999") == none["reason"]
    with db.transaction(database) as session:
        here = factories.asset(session, company, "quarry", code="Q-1")
        elsewhere = factories.device(session, company, "harbour", key="elsewhere")
        session.add(Binding(device_id=elsewhere.id, asset_id=here.id, starts_at=JUNE))
    done = imported(stranger, rows.format(code="Q-1"))
    assert (done["report"]["stored"], done["report"]["refused"]) == (0, 1)
    assert "elsewhere" not in done["report"]["faults"][0]["reason"]
    assert held(runtime, "elsewhere") == []
    assert client_of("technician", "harbour").get(f"/imports?asset={pump.id}").status_code == 403
    assert stranger.get(f"/imports?asset={pump.id}").status_code == 404
    assert 'value="P-101"' in client_of().get(f"/imports?asset={pump.id}").text
