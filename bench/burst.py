"""How long alarms and their orders take while very many come at once, beside devices that send all the time.

A part of the latency benchmark, on its stage. A witness looks at the outbox every few milliseconds: an alarm is there
when others see that it was raised, an order when they see that somebody has it.
"""

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import mqtt5
import psycopg
from mqtt5 import QoS
from sqlalchemy.orm import Session

from bench.flood import connected
from kernel import clock, events
from tests import factories
from tests.factories import Company

CODES = 5
"""Alarms of one machine; from eleven within ten minutes on they would count as one."""
SPEAKERS = 100
_IN_FLIGHT = 3_000
"""Events that are looked at again: transactions that began before others may end after them."""
_LONGEST_S = 120
_WARM_UP_S = 2.0
_SEEN = f"""
    SELECT id, kind, subject FROM event
    WHERE id > %s - {_IN_FLIGHT} AND kind IN ('AlarmRaised', 'OrderAssigned')
"""  # noqa: S608 - a number of ours


@dataclass(slots=True)
class Seen:
    """When the witness first saw what, on the clock of the benchmark."""

    alarms: dict[int, float] = field(default_factory=dict)
    orders: dict[int, float] = field(default_factory=dict)


def seed(session: Session, company: Company, alarms: int) -> list[str]:
    """Write the machines that will cry, and those that speak all the time; return the device keys of the first."""
    for number in range(SPEAKERS):
        factories.device(session, company, "harbour", on=factories.asset(session, company), key=f"bench-{number:06d}")
    machines = [factories.asset(session, company, "harbour") for _ in range(-(-alarms // CODES))]
    return [factories.device(session, company, "harbour", on=machine).key for machine in machines]


def measure(url: str, port: int, keys: Sequence[str], *, alarms: int, seconds: float, rate: int) -> dict[str, float]:
    """Raise ``alarms`` evenly within ``seconds`` beside ``rate`` messages a second; return their percentiles in ms."""
    seen, done = Seen(), threading.Event()
    witness = threading.Thread(target=_watch, args=(url, seen, alarms, done))
    with _crowd(port, rate, seconds):
        witness.start()
        sent = _cry(port, keys, alarms, seconds)
        done.wait(_LONGEST_S)
        done.set()
        witness.join()
    return _figures(url, sent, seen)


@contextmanager
def _crowd(port: int, rate: int, seconds: float) -> Iterator[None]:
    command = ["-m", "bench.crowd", "devices", str(port), str(SPEAKERS), str(rate), str(seconds + 2 * _WARM_UP_S)]
    started = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    try:
        time.sleep(_WARM_UP_S)
        yield
    finally:
        started.terminate()
        started.wait(60)


def _cry(port: int, keys: Sequence[str], alarms: int, seconds: float) -> dict[tuple[str, str], float]:
    """Publish the alarms on an even beat; return when each was sent, by device key and code."""
    sent = {}
    with connected(port, mqtt5.ConnectPacket("fixwright-burst", clean_start=True)) as stream:
        began = time.perf_counter()
        for number in range(alarms):
            ahead = number * seconds / alarms - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)
            code, place = divmod(number, len(keys))
            sent[keys[place], f"E{code}"] = time.perf_counter()
            stream.sendall(_alarm(keys[place], f"E{code}", seq=code + 1, packet_id=number % 60_000 + 1))
            # What the broker answers is taken off the line; nobody waits for it.
            with suppress(BlockingIOError):
                stream.recv(65_536, socket.MSG_DONTWAIT)
    return sent


def _alarm(key: str, code: str, *, seq: int, packet_id: int) -> bytes:
    said = {"seq": seq, "code": code, "severity": "critical", "state": "raised", "ts": clock.now_ms()}
    topic, payload = f"fw/v1/{key}/alarm", json.dumps(said).encode()
    return mqtt5.PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id).write()


def _watch(url: str, seen: Seen, alarms: int, done: threading.Event) -> None:
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as witness:
        witness.execute(f"LISTEN {events.CHANNEL}".encode())
        last = _last(witness)
        known = {row[0] for row in witness.execute(_SEEN.encode(), (last,))}
        while not done.is_set():
            rows = witness.execute(_SEEN.encode(), (last,)).fetchall()
            now = time.perf_counter()
            for event_id, kind, subject in rows:
                if event_id not in known:
                    known.add(event_id)
                    last = max(last, event_id)
                    which = seen.alarms if kind == "AlarmRaised" else seen.orders
                    which.setdefault(int(subject.partition(":")[2]), now)
            if len(seen.orders) >= alarms:
                done.set()
            for _ in witness.notifies(timeout=0.01, stop_after=1):
                pass


def _last(witness: psycopg.Connection[tuple[int]]) -> int:
    row = witness.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
    return int(row[0]) if row else 0


def _figures(url: str, sent: dict[tuple[str, str], float], seen: Seen) -> dict[str, float]:
    with psycopg.connect(url.replace("+psycopg", "", 1)) as connection:
        rows = connection.execute(
            "SELECT alarm.id, work_order.id, device.key, alarm.type_key FROM alarm"
            " JOIN device ON device.id = alarm.device_id LEFT JOIN work_order ON work_order.alarm_id = alarm.id"
        ).fetchall()
    late = time.perf_counter()
    by_fault = {(key, code): (alarm_id, order_id) for alarm_id, order_id, key, code in rows}
    alarm, order = [], []
    for fault, at in sent.items():
        alarm_id, order_id = by_fault.get(fault, (0, 0))
        # What never came took as long as was waited for it: it must not make the figure better.
        alarm.append(1000 * (seen.alarms.get(alarm_id, late) - at))
        order.append(1000 * (seen.orders.get(order_id, late) - at))
    came = sum(by_fault.get(fault, (0, 0))[1] in seen.orders for fault in sent)
    return {
        "burst.alarms": float(len(sent)),
        "burst.orders": float(came),
        "burst.alarm_p99_ms": _percentile(alarm, 99),
        "burst.order_p99_ms": _percentile(order, 99),
    }


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
