"""OPS-8, ING-9: workers of a group are killed and stopped at a real broker; edge nodes hear one host, and the truth."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from ingest.models import IngestWorker
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability.conftest import IngestProcess
from tests.telemetry.conftest import victoria_url as victoria_url  # noqa: PLC0414 - a fixture, seen by pytest
from tests.waiting import until


@pytest.mark.torture
def test_OPS_8_one_statement_about_the_host_outlives_whichever_worker_is_killed(
    database: sessionmaker[Session],
    database_url: str,
    victoria_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - there is a plant to look after
    ingests: Callable[..., IngestProcess],
) -> None:
    watcher = Device(broker.port)
    watcher.subscribe("spBv1.0/STATE/fixwright")

    def said() -> list[tuple[bool, int]]:
        return [(one["online"], one["timestamp"]) for one in (json.loads(body) for _, body in watcher.received)]

    def living() -> int:
        with database() as session:
            query = select(func.count()).where(IngestWorker.ended_at.is_(None), IngestWorker.role == "active")
            return session.scalars(query).one()

    group = {"FIXWRIGHT_TELEMETRY_URL": victoria_url, "FIXWRIGHT_INGEST_GROUP": "hall"}
    workers = []
    for name in ("a", "b", "c"):
        worker = ingests(database_url, broker.url, **group, FIXWRIGHT_INGEST_NAME=name)
        worker.start()
        until(lambda name=name: living() == "abc".index(name) + 1, what="it reads")
        workers.append(worker)
    until(lambda: len(said()) == 1, what="the eldest says that the host is there")
    (born,) = said()
    assert born[0]

    first, second, third = workers
    third.kill()
    until(lambda: living() == 2, what="its life is ended")
    assert said() == [born]

    first.kill()
    until(lambda: said()[-1][0] and said()[-1][1] > born[1], what="the next one says that the host is there")
    assert said()[1] == (False, born[1])

    third.start()
    until(lambda: living() == 2, what="it reads again")
    told = len(said())
    second.stop()
    until(lambda: len(said()) == told + 1, what="the next one speaks")
    before, after = said()[-2:]
    assert after[0]
    assert after[1] > before[1]

    third.stop()
    assert said()[-1] == (False, after[1])
    told_last = [at_ms for is_online, at_ms in said() if is_online]
    assert told_last == sorted(told_last)
    watcher.leave()
