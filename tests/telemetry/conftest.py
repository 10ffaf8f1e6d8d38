"""The stores every contract test runs on, real ones, each empty for the test."""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from telemetry.duckdb import DuckDbStore
from telemetry.store import TelemetryStore, open_store
from tests.waiting import until

_thousands = itertools.count(1)


@dataclass(frozen=True)
class Subject:
    """A store under test. Series below ``first`` + 1000 are the test's own; ``settled`` makes writes readable."""

    store: TelemetryStore
    first: int
    settled: Callable[[], object]
    exact: bool

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def victoria_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("victoria-metrics is not installed (Debian: apt install victoria-metrics)")
    address = f"127.0.0.1:{_free_port()}"
    folder = tmp_path_factory.mktemp("victoria")
    arguments = [f"-httpListenAddr={address}", f"-storageDataPath={folder}", "-retentionPeriod=10y"]
    with (folder / "log").open("wb") as log, subprocess.Popen([program, *arguments], stderr=log) as server:
        try:
            until(lambda: _answers(f"http://{address}/health"), what="VictoriaMetrics answers")
            yield f"victoria://{address}"
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False, timeout=1).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def flush(url: str) -> None:
    """Make what a VictoriaMetrics has taken readable at once."""
    urllib3.request("GET", url.replace("victoria", "http") + "/internal/force_flush")


@pytest.fixture(params=["duckdb", "victoria", "influx"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    first = 1000 * next(_thousands)
    if request.param == "duckdb":
        store: TelemetryStore = DuckDbStore(tmp_path / "t.duckdb", hot_rows=100, fan_in=2)
        subject = Subject(store, first, store.compact, exact=True)
    elif request.param == "victoria":
        url = request.getfixturevalue("victoria_url")
        store = open_store(url, tmp_path)
        subject = Subject(store, first, lambda: flush(url), exact=False)
    else:
        url = os.environ.get("FIXWRIGHT_TEST_INFLUX_URL")
        if not url:
            pytest.skip("FIXWRIGHT_TEST_INFLUX_URL names no InfluxDB 2 to test against")
        store = open_store(url, tmp_path)
        store.expire(10**13 // 2)
        subject = Subject(store, first, lambda: None, exact=True)
    yield subject
    store.close()
