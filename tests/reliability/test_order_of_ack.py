"""D04: an alarm is acknowledged to its device after its commit, and never on ground that may lose what it commits."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from kernel import clock, db, postgres
from kernel.errors import Misconfigured
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability.conftest import IngestProcess
from tests.waiting import until

ALARMS = 1000


def test_D04_each_of_a_thousand_alarms_is_acknowledged_after_its_commit(
    engine: Engine,
    database_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    ingests: Callable[[str, str], IngestProcess],
) -> None:
    ingests(database_url, broker.url).start()
    device = Device(broker.port)
    witnessed: list[tuple[int, bool]] = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as witness:

        def see(_client: object, _data: object, message: object) -> None:
            seq = json.loads(message.payload)["seq"]  # type: ignore[attr-defined]
            # Another connection sees only what is committed.
            found = witness.execute(text("SELECT alarm_id FROM alarm_report WHERE seq = :seq"), {"seq": seq}).scalar()
            witnessed.append((seq, found is not None))

        device.client.on_message = see
        device.subscribe("fw/v1/dev-0/alarm/ack")
        for seq in range(ALARMS):
            body = {
                "seq": seq,
                "code": f"E{seq}",
                "severity": "major",
                "state": "raised",
                "ts": clock.now_ms(),
            }
            device.publish("fw/v1/dev-0/alarm", json.dumps(body))
        until(lambda: len(witnessed) >= ALARMS, timeout_s=120, what="all are acknowledged")
    device.leave()
    assert sorted(seq for seq, _ in witnessed) == list(range(ALARMS))
    assert all(was_committed for _, was_committed in witnessed)


@pytest.fixture
def own_server(server_folder: Path) -> Iterator[str]:
    """Run a server that belongs to this test alone."""
    with postgres.running(server_folder) as url:
        yield url


def test_D04_a_server_that_may_lose_commits_is_refused_and_a_lax_session_is_made_strict(
    own_server: str,
) -> None:
    admin = create_engine(own_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("ALTER DATABASE fixwright SET synchronous_commit = off"))
    engine = db.connect(own_server)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    db.require_durable(engine)
    with admin.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))

    def is_refused() -> bool:
        try:
            db.require_durable(engine)
        except Misconfigured as error:
            return "fsync" in str(error)
        return False

    until(is_refused, what="fsync = off is refused")
    engine.dispose()
    admin.dispose()


def test_D04_no_acknowledgement_while_the_database_is_held(
    engine: Engine,
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    works: Plant,  # noqa: ARG001 - the rows the devices stand on
    ingests: Callable[[str, str], IngestProcess],
) -> None:
    process = ingests(database_url, broker.url)
    process.start()
    device = Device(broker.port)
    device.subscribe("fw/v1/dev-0/alarm/ack")
    body = {"seq": 1, "code": "E1", "severity": "major", "state": "raised", "ts": clock.now_ms()}
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE alarm IN ACCESS EXCLUSIVE MODE"))
        device.publish("fw/v1/dev-0/alarm", json.dumps(body))
        with database() as session:
            waiting = text("SELECT count(*) FROM pg_locks WHERE relation = 'alarm'::regclass AND NOT granted")
            until(lambda: session.execute(waiting).scalar_one(), what="ingest waits for the table")
        # It is at the commit's door now; an acknowledgement before it would have come by this time.
        time.sleep(0.5)
        assert device.received == []
        holder.rollback()
    until(lambda: device.received, what="the acknowledgement follows the commit")
    device.leave()
