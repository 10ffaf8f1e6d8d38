"""A crash at each step of the path while an edge node talks: no session moves on too early, none is asked twice."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from ingest.models import RejectedMessage, SparkplugNode
from ingest.sparkplug.scalars import Type
from kernel import clock, db
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests import plant
from tests.ingest.edge_node import EdgeNode, M, Message, temperature
from tests.ingest.edges import Device
from tests.mosquitto import Mosquitto
from tests.plant import Plant
from tests.reliability.conftest import IngestProcess
from tests.waiting import until

EACH = 60
"""Messages before each crash; with those of all places they go round the numbers from 0 to 255 once."""


def test_ING_9_a_crash_at_each_named_step_is_no_gap_for_an_edge_node(
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    works: Plant,
    ingests: Callable[[str, str], IngestProcess],
) -> None:
    with db.transaction(database) as session:
        plant.device(session, works, "edge", asset=plant.asset(session, works, "E-1"))
    node = EdgeNode(at=clock.now_ms())
    speaker = Device(broker.port)
    speaker.subscribe("spBv1.0/+/NCMD/edge")
    speaker.subscribe("spBv1.0/STATE/fixwright")
    sent: list[Message] = []

    def talk(messages: int) -> None:
        for _ in range(messages):
            sent.append(node.data(temperature(float(len(sent)))))
            speaker.say(*sent[-1])

    def is_followed() -> bool:
        with database() as session:
            return session.scalar(select(SparkplugNode.seq)) == node.seq

    process = ingests(database_url, broker.url)
    process.start()
    until(lambda: speaker.received, what="its host is there, and has subscribed")
    speaker.say(*node.birth(M("temperature", None, Type.DOUBLE, 1)))
    until(is_followed, what="its birth is taken")
    process.kill()
    for place in crash.PLACES:
        talk(EACH)
        process.start(**{crash.VARIABLE: f"{place}:1"})
        until(lambda: not process.is_alive, timeout_s=60, what=f"it crashes at {place}")
        process.kill()
    process.start()
    talk(1)
    until(is_followed, timeout_s=60, what="all is taken")
    process.stop()
    speaker.leave()

    assert [topic for topic, _ in speaker.received if "/NCMD/" in topic] == []
    with database() as session:
        assert session.scalars(select(RejectedMessage.reason)).all() == []
        number = session.scalars(select(Series.id).where(Series.metric == "temperature")).one()
    store = DuckDbStore(process.folder / "telemetry.duckdb")
    found = store.samples(number, 0, clock.now_ms() + 10**6, limit=10_000).value.tolist()
    store.close()
    assert found == [float(value) for value in range(len(sent))]
