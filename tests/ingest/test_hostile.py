"""What a hostile device may send to any topic: a reading, an effect or a reject, but never an end to the batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.models import Device
from ingest.batch import Batch
from ingest.models import IntakeCount
from ingest.pipeline import Pipeline
from kernel import clock, db
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.plant import Plant

BITS = (
    b'"a\\u0000b"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u202e=1+1\\u0007"', b'"<script>"',
    b'"' + b"x" * 5000 + b'"', b"1" * 5000, b"1e400", b"9223372036854775808", b"-9223372036854775809",

    b"18446744073709551616", b"NaN", b"null", b"[]", b"[[[[1]]]]",
    b'{"a\\u0000": 1}', b'{"\\ud800": 1}', b'[{"\\u0000": "\\u0000"}]',
    b'{"' + b"k" * 5000 + b'": 1}',
    b"253402300800000", b"-62135596800001",
)  # fmt: skip
FORMS = {
    "telemetry": (b'{"temperature": %b}', b'{"ts": %b, "values": {"temperature": 1}}', b"%b", b"{%b: 1}"),
    "attributes": (b'{"serial": %b}', b"%b", b"{%b: 1}"),
    "alarm": (
        b'{"seq": %b, "code": "E1", "state": "raised", "severity": "major"}',
        b'{"seq": 2, "code": %b, "state": "raised", "severity": "major"}',
        b'{"seq": 3, "code": "E3", "state": %b, "severity": %b}',
        b'{"seq": 5, "code": "E5", "state": "raised", "severity": "major", "message": %b}',
        b'{"seq": 6, "code": "E6", "state": "raised", "severity": "major", "ts": %b}',
        b'{"seq": 7, "code": "E7", "state": "raised", "severity": "major", %b: %b}',
    ),
    "status": (b"%b",),
    "command/c1/reply": (b'{"result": %b}', b'{"error": %b}', b"%b"),
    "gateway/telemetry": (b'{"dev-1": %b}', b'{%b: {"a": 1}}', b'{"dev-1": [{"ts": %b, "values": {"t": 1}}]}'),
    "command/a\0b/reply": (b"1",),
    "\ud7ff\U0010ffff": (b"1",),
    "x" * 3000: (b"1",),
}


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        made = plant.build(session, machines=3)
        made.devices[1].gateway_id = made.devices[0].id
        session.merge(made.devices[1])
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    opened = DuckDbStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.mark.parametrize("subtopic", FORMS)
def test_ING_1_whatever_is_sent_to_whichever_topic_harms_no_neighbour_and_is_in_the_books(
    database: sessionmaker[Session], store: DuckDbStore, works: Plant, subtopic: str
) -> None:
    pipeline = Pipeline(database, store)
    pipeline.load()
    now_ms, count = clock.now_ms(), 0
    for form in FORMS[subtopic]:
        messages = []
        for bit in BITS:
            count += 1
            good = b'{"ts": %d, "values": {"temperature": %d}}' % (now_ms - 10_000 + count, count)
            messages.append((f"fw/v1/dev-0/{subtopic}", form.replace(b"%b", bit)))
            messages.append(("fw/v1/dev-2/telemetry", good))
        pipeline.process(Batch.of(messages, received_ms=now_ms + count))
    pipeline.books.close(clock.now())
    with database() as session:
        neighbour = session.scalars(select(Series.id).where(Series.device_id == works.devices[2].id)).one()
        sums = (
            func.sum(IntakeCount.received),
            func.sum(IntakeCount.stored + IntakeCount.duplicate + IntakeCount.rejected),
        )
        received, accounted = session.execute(select(*sums)).one()
        assert session.scalar(select(func.count()).select_from(Device)) == 3
    assert len(store.samples(neighbour, now_ms - 20_000, now_ms + 20_000, limit=10_000)) == count
    assert received == accounted == 2 * count
