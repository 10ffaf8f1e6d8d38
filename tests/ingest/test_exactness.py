"""TEL-1: what a device sends is what is stored and read, to the last digit; the wrong kind of value is set aside."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.v1.telemetry import value_of
from ingest.batch import Batch
from ingest.models import RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.plant import Plant

SENT: dict[str, Any] = {
    "beyond": 2**53 + 1,
    "below": -(2**53) - 1,
    "minus_zero": -0.0,
    "tiny": 1e-308,
    "third": 0.1 + 0.2,
    "empty": "",
    "emoji": "🛠️ 运行",
    "yes": True,
    "no": False,
    "one": 1,
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=1, metrics=("temperature",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


def test_TEL_1_every_value_makes_the_round_trip_before_and_after_compaction_and_a_restart(
    database: sessionmaker[Session], works: Plant, tmp_path: Path
) -> None:
    now_ms = clock.now_ms()
    with closing(DuckDbStore(tmp_path / "telemetry.duckdb", hot_rows=1)) as store:
        pipeline = Pipeline(database, store)
        pipeline.load()
        payload = json.dumps({"ts": now_ms, "values": SENT}, ensure_ascii=False).encode()
        pipeline.process(Batch.of([("fw/v1/dev-0/telemetry", payload)], received_ms=now_ms))
        with database() as session:
            mine = select(Series).where(Series.device_id == works.devices[0].id)
            numbers = {row.metric: row.id for row in session.scalars(mine)}
        _arrived(store, numbers, now_ms)
        while store.compact():
            pass
        _arrived(store, numbers, now_ms)
    with closing(DuckDbStore(tmp_path / "telemetry.duckdb")) as again:
        _arrived(again, numbers, now_ms)


def _arrived(store: DuckDbStore, numbers: dict[str, int], now_ms: int) -> None:
    found = store.latest(list(numbers.values()))
    for name, sent in SENT.items():
        latest = found[numbers[name]]
        (row,) = store.samples(numbers[name], now_ms, now_ms + 1, limit=5).rows()
        np.testing.assert_equal((latest.ts_ms, latest.value, latest.text, latest.flags), row[1:])
        told = value_of(latest)
        if isinstance(sent, bool | str):
            assert (told, type(told)) == (sent, type(sent)), name
        elif abs(sent) > 2**53:
            assert told == str(sent), name
        else:
            assert np.float64(told).tobytes() == np.float64(sent).tobytes(), name


@pytest.mark.parametrize("wrong", ['"hot"', '""', '"21.5"'])
def test_TEL_1_a_text_into_a_numeric_metric_is_a_reject_with_its_reason(
    database: sessionmaker[Session], works: Plant, store: DuckDbStore, wrong: str
) -> None:
    pipeline = Pipeline(database, store)
    pipeline.load()
    now_ms = clock.now_ms()
    bodies = [f'{{"temperature": {wrong}}}', '{"temperature": 20.5}']
    pipeline.process(Batch.of([("fw/v1/dev-0/telemetry", body.encode()) for body in bodies], received_ms=now_ms))
    with database() as session:
        (reject,) = session.scalars(select(RejectedMessage)).all()
        (number,) = session.scalars(select(Series.id).where(Series.device_id == works.devices[0].id)).all()
    assert (reject.reason, reject.payload) == ("wrong_type", bodies[0].encode())
    assert "temperature" in reject.detail
    assert store.latest([number])[number].value == 20.5
