"""What devices may send, where people say otherwise than the settings (ING-16)."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from assets.models import AssetType, Device
from ingest import limits
from ingest.allowance import Rates
from ingest.batch import Batch
from ingest.fairuse import Terms
from ingest.limits import Limit
from ingest.models import IntakeCount, RejectedMessage
from ingest.pipeline import Pipeline
from kernel import clock, db
from kernel.errors import Invalid
from kernel.models import AuditEntry
from telemetry.duckdb import DuckDbStore
from tests import plant
from tests.plant import Plant

USUAL = Terms(device=Rates(messages=100, points=0, burst_s=10))


@pytest.fixture
def works(database: sessionmaker[Session]) -> Plant:
    with db.transaction(database) as session:
        return plant.build(session, machines=2)


@pytest.fixture
def path(database: sessionmaker[Session], works: Plant, tmp_path: Path) -> Iterator[Pipeline]:  # noqa: ARG001
    store = DuckDbStore(tmp_path / "telemetry.duckdb")
    pipeline = Pipeline(database, store, terms=USUAL)
    pipeline.load()
    yield pipeline
    store.close()


def flood(path: Pipeline, key: str, messages: int, *, since_ms: int) -> None:
    """Send messages of one device, its own and one of its neighbour's between every hundred of them."""
    rows = []
    for number in range(messages):
        rows.append((f"fw/v1/{key}/telemetry", _said(since_ms + number)))
        if number % 100 == 0:
            rows.append(("fw/v1/dev-1/telemetry", _said(since_ms + number)))
    path.process(Batch.of(rows, received_ms=since_ms + messages))
    path.books.close(clock.now())


def _said(ts_ms: int) -> bytes:
    return msgspec.json.encode({"ts": ts_ms, "values": {"temperature": 20.5}})


def counted(database: sessionmaker[Session], key: str) -> tuple[int, int, int]:
    """Return what was received of a device, stored and rejected."""
    with database() as session:
        device = session.scalars(select(Device.id).where(Device.key == key)).one()
        sums = [
            func.coalesce(func.sum(one), 0) for one in (IntakeCount.received, IntakeCount.stored, IntakeCount.rejected)
        ]
        received, stored, rejected = session.execute(select(*sums).where(IntakeCount.device_id == device)).one()
        return int(received), int(stored), int(rejected)


def test_ING_16_a_device_at_a_hundred_times_its_rate_loses_what_is_over_it_and_its_neighbour_nothing(
    path: Pipeline, database: sessionmaker[Session]
) -> None:
    say(database, path, "dev-0", Limit(messages=5, points=0))
    flood(path, "dev-0", 5000, since_ms=clock.now_ms() - 60_000)
    assert counted(database, "dev-0") == (5000, 50, 4950), "a burst of ten seconds passes, and no more"
    assert counted(database, "dev-1") == (50, 50, 0)
    with database() as session:
        told = session.scalars(select(func.sum(RejectedMessage.repeats)).where(RejectedMessage.device_key == "dev-0"))
        assert told.one() == 4950, "every one of them is told of"


def test_ING_16_the_limit_of_a_type_holds_for_those_that_inherit_it_and_a_device_s_own_goes_first(
    path: Pipeline, database: sessionmaker[Session], works: Plant
) -> None:
    with db.transaction(database) as session:
        kind = session.get_one(AssetType, works.type.id)
        above = AssetType(company_id=kind.company_id, key="rotating", name="Rotating")
        session.add(above)
        session.flush()
        kind.parent_id = above.id
        limits.set_type(session, above, Limit(2, 0), actor="account:1", now=clock.now())
    say(database, path, "dev-1", Limit(messages=0, points=0))
    since_ms = clock.now_ms() - 60_000
    flood(path, "dev-0", 1000, since_ms=since_ms)
    assert counted(database, "dev-0") == (1000, 20, 980)
    flood(path, "dev-1", 3000, since_ms=since_ms + 5000)
    assert counted(database, "dev-1")[2] == 0, "its own word says that it has none"


def test_ING_16_a_limit_that_is_lifted_holds_no_more_and_both_are_in_the_audit_trail(
    path: Pipeline, database: sessionmaker[Session]
) -> None:
    say(database, path, "dev-0", Limit(messages=1, points=0))
    say(database, path, "dev-0", None)
    flood(path, "dev-0", 500, since_ms=clock.now_ms() - 60_000)
    assert counted(database, "dev-0") == (500, 500, 0)
    with database() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "intake.limit")).all()
        assert [(one.before, one.after) for one in entries] == [
            (None, {"messages": 1.0, "points": 0.0}),
            ({"messages": 1.0, "points": 0.0}, None),
        ]


def test_ING_16_a_rate_below_nothing_is_refused(session: Session) -> None:
    plant.build(session, machines=1)
    device = session.scalars(select(Device).where(Device.key == "dev-0")).one()
    with pytest.raises(Invalid):
        limits.set_device(session, device, Limit(-1, 0), actor="account:1", now=clock.now())


def say(database: sessionmaker[Session], path: Pipeline, key: str, wanted: Limit | None) -> None:
    """State the limit of a device, and let ingest look at what changed."""
    with db.transaction(database) as session:
        device = session.scalars(select(Device).where(Device.key == key)).one()
        limits.set_device(session, device, wanted, actor="account:1", now=clock.now())
    path.follow_changes(clock.now())
