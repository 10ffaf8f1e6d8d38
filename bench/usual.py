"""The loops most people write, as baselines: paho alone, with one INSERT a message, and with the InfluxDB client.

None of them evaluates a rule, and all acknowledge on receipt, before anything is stored.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import psycopg
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import WriteOptions
from influxdb_client.domain.write_precision import WritePrecision
from paho.mqtt.enums import CallbackAPIVersion

from bench.flood import fill
from tests.waiting import until

Take = Callable[[bytes, str], None]


def paho_per_s(
    port: int, *, messages: int = 20_000, take: Take | None = None, finish: Callable[[], None] = lambda: None
) -> float:
    """Return the messages/s of a paho client; ``take`` is called for each message, ``finish`` before time is taken."""
    fill(port, messages=messages, client_id="usual")
    done = threading.Event()
    count = 0

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        nonlocal count
        if take is not None:
            take(bytes(message.payload), message.topic)
        count += 1
        if count == messages:
            done.set()

    client = paho.Client(CallbackAPIVersion.VERSION2, "usual", clean_session=False)
    client.on_message = on_message
    began = time.perf_counter()
    client.connect("127.0.0.1", port)
    client.loop_start()
    done.wait(120)
    finish()
    elapsed = time.perf_counter() - began
    client.loop_stop()
    return count / elapsed


def insert_per_s(port: int, url: str, *, messages: int = 5_000) -> float:
    """Return the messages/s of a callback with one parse and one durable INSERT a message."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as database:
        database.execute("CREATE TABLE usual (device text, at bigint, metric text, value float8)")

        def take(payload: bytes, topic: str) -> None:
            body = json.loads(payload)
            device = topic.split("/")[2]
            values = [item for name, value in body["values"].items() for item in (device, body["ts"], name, value)]
            database.execute("INSERT INTO usual VALUES (%s,%s,%s,%s), (%s,%s,%s,%s), (%s,%s,%s,%s)", values)

        return paho_per_s(port, messages=messages, take=take)


def influx_per_s(port: int, *, messages: int = 20_000) -> float | None:
    """Return the messages/s of a callback that gives points to the InfluxDB client's batching writer; None without it.

    The options are those of the client's own example. It writes to VictoriaMetrics, which takes the same lines and is
    the faster of the two. Time ends when the writer has sent everything.
    """
    program = shutil.which("victoria-metrics")
    if program is None:
        return None
    with _victoria(program) as address, InfluxDBClient(url=address, token="none", org="none") as client:  # noqa: S106
        options = WriteOptions(batch_size=500, flush_interval=10_000, jitter_interval=2_000, retry_interval=5_000)
        writer = client.write_api(write_options=options)

        def take(payload: bytes, topic: str) -> None:
            body = json.loads(payload)
            point = Point("telemetry")  # type: ignore[no-untyped-call]
            point.tag("device", topic.split("/")[2]).time(body["ts"], WritePrecision.MS)  # type: ignore[no-untyped-call]
            for name, value in body["values"].items():
                point.field(name, float(value))  # type: ignore[no-untyped-call]
            writer.write(bucket="none", record=point)

        return paho_per_s(port, messages=messages, take=take, finish=writer.close)


@contextmanager
def _victoria(program: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bound = "{}:{}".format(*probe.getsockname())
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as folder, (Path(folder) / "log").open("wb") as log:
        arguments = [f"-httpListenAddr={bound}", f"-storageDataPath={folder}/data", "-retentionPeriod=10y"]
        with subprocess.Popen([program, *arguments], stderr=log) as server:
            try:
                until(lambda: _answers(f"http://{bound}/health"), what="VictoriaMetrics answers")
                yield f"http://{bound}"
            finally:
                server.terminate()


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False, timeout=1).status == 200  # noqa: PLR2004 - OK
    except urllib3.exceptions.HTTPError:
        return False
