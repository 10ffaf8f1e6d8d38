"""D09: a gateway dies and everything behind it cries; a device that cannot decide. One order, one message, all kept."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import aiomqtt
import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from api import access, subscriptions, ticks
from api.app import create
from api.runtime import Runtime
from api.worker import Worker
from assets.models import Device
from kernel import clock, db, events, settings
from kernel.models import Event
from maintenance.orders.models import Order
from people import scope
from rules import alarm_figures
from rules.models import Alarm
from telemetry.store import open_store
from tests import factories, loops, plant
from tests.conftest import SECRET
from tests.mosquitto import Mosquitto
from tests.reliability import delivery
from tests.reliability.conftest import IngestProcess, build_plant
from tests.reliability.fleet import HOT
from tests.serving import served
from tests.waiting import until

MACHINES = 500
CODES = 10
WITHIN_S = 60
HERTZ = 10
WAVERS_S = 600


@pytest.mark.torture
def test_D09_five_thousand_alarms_behind_one_dead_gateway_are_one_order_and_one_message(
    database: sessionmaker[Session],
    engine: Engine,
    database_url: str,
    broker: Mosquitto,
    ingests: Callable[[str, str], IngestProcess],
    tmp_path: Path,
) -> None:
    works = build_plant(database, machines=MACHINES)
    with db.transaction(database) as session:
        gateway_id = plant.device(session, works, "gateway", connection="offline", online_changed_at=clock.now()).id
        behind = update(Device).where(Device.key.startswith("dev-"))
        session.execute(behind.values(gateway_id=gateway_id, connection="unreachable"))
        company = factories.company(session)
        looking = factories.account(session, company, "administrator", "company")
        secret, _ = factories.sign_in(session, looking, now=clock.now())
    process = ingests(database_url, broker.url)
    process.start()
    worker = Worker(database, database_url, subscriptions.TABLE, ticks.TABLE)
    worker.start()
    took: list[float] = []
    try:
        with closing(open_store(None, tmp_path)) as store:
            runtime = Runtime(
                settings=settings.load(data_dir=tmp_path, database_pool=8), engine=engine, sessions=database,
                store=store, secret=SECRET,
            )  # fmt: skip
            with served(create(runtime)) as address, httpx.Client(base_url=address, timeout=20) as client:
                client.cookies.set(access.COOKIE, secret)
                crying = threading.Thread(target=_cry, args=(broker.port,))
                crying.start()
                while crying.is_alive():
                    began = time.monotonic()
                    assert client.get("/alarms").status_code == 200
                    took.append(time.monotonic() - began)
                    crying.join(0.5)
        until(lambda: _recorded(database) == MACHINES * CODES, timeout_s=120, what="every alarm is recorded")
        until(lambda: _is_told(database, gateway_id), timeout_s=120, what="the gateway's alarm has its order")
    finally:
        worker.stop()
        process.stop()
    with database() as session:
        assert session.scalar(select(func.count()).select_from(Order)) == 1
        announced = session.scalars(select(Event.subject).where(Event.kind == "AlarmAnnounced")).all()
        down = session.scalars(select(Alarm.id).where(Alarm.type_key == "gateway_down")).one()
        assert announced == [f"alarm:{down}"]
        held = select(func.count()).where(Alarm.suppressed_by == "gateway", Alarm.type_key.startswith("E"))
        assert session.scalar(held) == MACHINES * CODES
    assert float(np.quantile(took, 0.95)) <= 0.5


@pytest.mark.torture
def test_D09_ALM_8_ten_hertz_for_ten_minutes_is_one_order_and_named_first(
    database: sessionmaker[Session],
    database_url: str,
    broker: Mosquitto,
    ingests: Callable[[str, str], IngestProcess],
    tmp_path: Path,
) -> None:
    """One machine cannot decide; another has a handful of honest alarms, more of them than the first is told of."""
    works = build_plant(database, machines=2)
    process = ingests(database_url, broker.url)
    process.start()
    worker = delivery.WorkerProcess(database_url, tmp_path)
    worker.start()
    try:
        loops.run(_waver(broker.port))
        wavered = works.assets[0].id
        until(
            lambda: _matches(database, wavered) == HERTZ * WAVERS_S // 2,
            what=lambda: f"all of it is counted, and not {_matches(database, wavered)}",
        )
        delivery.every_fault_has_one_order(database)
    finally:
        worker.kill()
        process.stop()
    with database() as session:
        found = session.scalars(select(Alarm).where(Alarm.asset_id == works.assets[0].id).order_by(Alarm.id)).all()
        assert len(found) == 4, "the three pairs that show it, and the one that is held"
        assert (found[-1].is_active, found[-1].is_chattering) == (True, True)
        assert [one.announced_at is None for one in found] == [False, False, False, True]
        flagged = session.scalars(select(Event.subject).where(Event.kind == "AlarmFlagged")).all()
        assert flagged == [f"alarm:{found[-1].id}"]
        week = alarm_figures.measure(session, scope.operator(works.company), *alarm_figures.last(7, clock.now()))
    assert [(one.subject, one.is_chattering) for one in week.top] == [
        (found[0].subject, True),
        (f"asset:{works.assets[1].id}", False),
    ]


async def _waver(port: int) -> None:
    """Toggle ten times a second, on an even beat; the other machine is hot for a second every minute."""
    began, at_ms = time.monotonic(), clock.now_ms()
    async with aiomqtt.Client("127.0.0.1", port, identifier="everybody") as client:
        for number in range(HERTZ * WAVERS_S):
            await _say(client, "dev-0", at_ms + 1000 * number // HERTZ, HOT + 1 - 2 * (number % 2))
            if number % (HERTZ * 30) == 0:
                await _say(client, "dev-1", at_ms + 1000 * number // HERTZ, HOT + 1 - 2 * (number // (HERTZ * 30) % 2))
            ahead = number / HERTZ - (time.monotonic() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)


async def _say(client: aiomqtt.Client, device: str, ts_ms: int, temperature: float) -> None:
    body = {"ts": ts_ms, "values": {"temperature": temperature}}
    await client.publish(f"fw/v1/{device}/telemetry", json.dumps(body), qos=1)


def _matches(database: sessionmaker[Session], asset_id: int) -> int:
    with database() as session:
        return int(session.scalar(select(func.sum(Alarm.count)).where(Alarm.asset_id == asset_id)) or 0)


def _cry(port: int) -> None:
    loops.run(_publish(port))


async def _publish(port: int) -> None:
    """Say 5,000 alarms within a minute, evenly."""
    began = time.monotonic()
    async with aiomqtt.Client("127.0.0.1", port, identifier="everybody") as client:
        for number in range(MACHINES * CODES):
            code, device = divmod(number, MACHINES)
            said = {"seq": code + 1, "code": f"E{code}", "severity": "major", "state": "raised", "message": "Lost"}
            await client.publish(f"fw/v1/dev-{device}/alarm", json.dumps(said), qos=1)
            ahead = number * WITHIN_S / (MACHINES * CODES) - (time.monotonic() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)


def _recorded(database: sessionmaker[Session]) -> int:
    with database() as session:
        return session.scalar(select(func.count()).where(Alarm.type_key.startswith("E"))) or 0


def _is_told(database: sessionmaker[Session], gateway_id: int) -> bool:
    with database() as session:
        down = session.scalars(select(Alarm.id).where(Alarm.subject == f"device:{gateway_id}")).first()
        return down is not None and events.is_idle(session)
