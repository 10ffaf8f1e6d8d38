"""``fixwright ingest`` as a process of its own, killed between what is durable and its answer (ING-11, P2)."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ingest import crash
from ingest.models import AlarmReport
from kernel import clock
from rules.models import Alarm
from telemetry.duckdb import DuckDbStore
from telemetry.models import Series
from tests.intake.conftest import PASSWORD, open_works
from tests.waiting import until

NOW_MS = clock.now_ms() - 600_000
TEXT = "\n".join(f"t value={n} {NOW_MS + n}" for n in range(50))


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[bytes], str]]]:
    """Return a starter of the real command that may crash at a place, with the address it serves."""
    started: list[subprocess.Popen[bytes]] = []

    def start(crash_at: str) -> tuple[subprocess.Popen[bytes], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            bind = f"127.0.0.1:{free.getsockname()[1]}"
        own = {"FIXWRIGHT_DATABASE_URL": database_url, "FIXWRIGHT_DATA_DIR": str(tmp_path / "data"),
               "FIXWRIGHT_INTAKE_BIND": bind, "FIXWRIGHT_MQTT_BIND": "127.0.0.1:0"}  # fmt: skip
        if crash_at:
            own[crash.VARIABLE] = crash_at
        running = subprocess.Popen([sys.executable, "-m", "api.cli", "ingest"], env={**os.environ, **own})
        started.append(running)

        def answers() -> bool:
            assert running.poll() is None
            try:
                return httpx.get(f"http://{bind}/health/ready", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(answers, timeout_s=60, what="it serves")
        return running, f"http://{bind}/api/v1/intake"

    yield start
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize(
    "place",
    [
        "before_ack",
        pytest.param("after_store", marks=pytest.mark.torture),
        pytest.param("before_commit", marks=pytest.mark.torture),
    ],
)
def test_ING_11_no_answer_without_commit_and_the_same_request_again_doubles_nothing(
    place: str,
    database: sessionmaker[Session],
    process: Callable[[str], tuple[subprocess.Popen[bytes], str]],
    tmp_path: Path,
) -> None:
    open_works(database)
    alarm = {"seq": 1, "code": "E1", "severity": "major", "state": "raised", "ts": NOW_MS}
    paths = ("/alarm", "/lines?precision=ms") if place == "before_commit" else ("/lines?precision=ms", "/alarm")

    def post(address: str, path: str) -> httpx.Response:
        body = {"json": alarm} if path == "/alarm" else {"content": TEXT}
        return httpx.post(f"{address}{path}", auth=("dev-0", PASSWORD), timeout=60, **body)  # type: ignore[arg-type]

    running, address = process(place)
    with pytest.raises(httpx.TransportError):
        post(address, paths[0])
    assert running.wait(30) == -9

    running, address = process("")
    answers = {path: post(address, path).json() for path in paths}
    assert all(answer["rejected"] == 0 for answer in answers.values())
    assert answers["/lines?precision=ms"]["stored"] + answers["/lines?precision=ms"]["duplicate"] == 50
    running.terminate()
    assert running.wait(60) == 0
    with database() as session:
        number = session.scalars(select(Series.id).where(Series.metric == "t")).one()
        assert session.scalars(select(AlarmReport.seq)).all() == [1]
        assert len(session.scalars(select(Alarm)).all()) == 1
    store = DuckDbStore(tmp_path / "data" / "telemetry.duckdb")
    try:
        assert store.samples(number, NOW_MS, NOW_MS + 50, limit=100).value.tolist() == [float(n) for n in range(50)]
    finally:
        store.close()
