"""A device that sends a hundred times what it may, and the neighbours it does not harm (ING-16)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from ingest import fairuse, rejected
from ingest.allowance import Rates
from ingest.batch import Batch
from ingest.models import AlarmReport, IntakeCount, RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.intake.conftest import Intake
from tests.plant import Plant

START_MS = clock.now_ms() - 600_000
SECONDS = 30
DEVICE = fairuse.Terms(device=Rates(messages=1, points=10, burst_s=10))


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=5)


def telemetry(device: int, number: int, at_ms: int) -> tuple[str, bytes]:
    body = {"ts": at_ms, "values": {"temperature": number}}
    return f"fw/v1/dev-{device}/telemetry", json.dumps(body).encode()


def ledger(database: sessionmaker[Session]) -> dict[int, tuple[int, int, int, int]]:
    columns = (IntakeCount.received, IntakeCount.stored, IntakeCount.duplicate, IntakeCount.rejected)
    with database() as session:
        rows = session.execute(
            select(IntakeCount.device_id, *map(func.sum, columns)).group_by(IntakeCount.device_id)
        ).all()
    return {row[0]: (int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in rows}


def test_ING_16_a_flood_is_rejected_to_the_last_message_and_neighbours_lose_nothing(
    database: sessionmaker[Session], works: Plant, tmp_path: Path
) -> None:
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    pipeline = Pipeline(database, store, terms=DEVICE)
    pipeline.load()
    for second in range(SECONDS):
        now_ms = START_MS + 1000 * second
        flood = [telemetry(0, n, now_ms + n) for n in range(90)] + [("fw/v1/dev-0/telemetry", b"{")] * 10
        healthy = [telemetry(device, second, now_ms) for device in range(1, 5)]
        pipeline.process(Batch.of([*flood[:50], *healthy, *flood[50:]], received_ms=now_ms))
    alarm = {"seq": 1, "code": "E1", "severity": "critical", "state": "raised", "ts": START_MS}
    pipeline.process(Batch.of([("fw/v1/dev-0/alarm", json.dumps(alarm).encode())], received_ms=START_MS + 30_000))
    pipeline.books.close(clock.now())
    store.close()

    counted = ledger(database)
    allowed = 10 + (SECONDS - 1)
    assert counted[works.devices[0].id] == (100 * SECONDS + 1, allowed + 1, 0, 100 * SECONDS - allowed)
    for neighbour in works.devices[1:]:
        assert counted[neighbour.id] == (SECONDS, SECONDS, 0, 0)
    with database() as session:
        kept = session.scalars(select(RejectedMessage)).all()
        assert {row.reason for row in kept} == {"over_limit"}
        assert sum(row.repeats for row in kept) == 100 * SECONDS - allowed
        assert len(kept) <= 2 * fairuse.KEPT_A_MINUTE
        assert session.scalars(select(AlarmReport.seq)).all() == [1]


def test_ING_16_the_devices_of_a_company_share_its_allowance(
    database: sessionmaker[Session], works: Plant, tmp_path: Path
) -> None:
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    pipeline = Pipeline(database, store, terms=fairuse.Terms(company=Rates(points=5, burst_s=2)))
    pipeline.load()
    messages = [telemetry(n % 5, n, START_MS + n) for n in range(15)]
    pipeline.process(Batch.of(messages, received_ms=START_MS))
    pipeline.books.close(clock.now())
    assert [counts[1:] for _, counts in sorted(ledger(database).items())] == [(2, 0, 1)] * len(works.devices)

    # What was kept may be tried again, whatever the limit: a person asked for it.
    with db.transaction(database) as session:
        for row in session.scalars(select(RejectedMessage)):
            rejected.ask(session, row, by="account:1", company_id=works.company.id, now=clock.now())
    pipeline.replaying.try_again()
    with database() as session:
        assert (
            session.scalars(select(RejectedMessage.replayed_at).where(RejectedMessage.replayed_at.is_(None))).all()
            == []
        )
    store.close()


def test_ING_16_over_http_the_sender_is_told_to_come_back(start: Callable[..., Intake]) -> None:
    intake = start(limit_device_messages=0.001, limit_burst_s=3000)
    client = intake.client()
    text = "\n".join(f"t value={n} {START_MS + n}" for n in range(5))
    some = client.post("/lines", params={"precision": "ms"}, content=text)
    assert (some.status_code, some.json()["stored"], some.json()["rejected"]) == (200, 3, 2)
    assert {(one["line"], one["reason"]) for one in some.json()["rejects"]} == {(4, "over_limit"), (5, "over_limit")}
    none = client.post("/telemetry", json={"t": 1})
    assert (none.status_code, none.json()["rejected"]) == (429, 1)
    assert int(none.headers["retry-after"]) > 0
    assert intake.client("dev-2").post("/telemetry", json={"t": 1}).status_code == 200
    assert intake.ingest.over_limit == 3
    assert intake.ledger() == (7, 4, 0, 3)
