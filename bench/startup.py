"""How long ``fixwright up`` takes to answer, on an empty folder and on its own data, and what it weighs."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from bench.flood import payload
from tests.ingest.edges import Device


def measure() -> dict[str, float]:
    """Return seconds until ready, cold and warm, and memory in MB: Python and the database it started."""
    with tempfile.TemporaryDirectory(prefix="fixwright-bench-") as name:
        cold, _, _ = _run(Path(name), is_loaded=False)
        warm, idle, busy = _run(Path(name), is_loaded=True)
    return {"cold_s": cold, "warm_s": warm, "idle_mb": idle, "busy_mb": busy}


def _run(folder: Path, *, is_loaded: bool) -> tuple[float, float, float]:
    http, mqtt = _free_port(), _free_port()
    environment = {
        **os.environ,
        "FIXWRIGHT_DATA_DIR": str(folder),
        "FIXWRIGHT_HTTP_BIND": f"127.0.0.1:{http}",
        "FIXWRIGHT_MQTT_BIND": f"127.0.0.1:{mqtt}",
        "FIXWRIGHT_LOG_LEVEL": "error",
    }
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "api.cli", "up"], env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{http}/health/ready", process)
        ready = time.perf_counter() - began
        idle = _weight(process.pid)
        busy = _busy(process.pid, mqtt) if is_loaded else idle
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return ready, idle, busy


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    while True:
        if process.poll() is not None:
            raise RuntimeError("fixwright up ended")
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)


def _busy(pid: int, port: int) -> float:
    """Return the weight while strangers knock, which loads broker, log and nothing else."""
    for number in range(50):
        stranger = Device(port, username=f"stranger-{number}", password="wrong")  # noqa: S106 - it is to be refused
        stranger.publish("fw/v1/stranger/telemetry", payload(number, 0, 0))
        stranger.leave()
    return _weight(pid)


def _weight(pid: int) -> float:
    """Return MB of a process and its children, shared pages counted once."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(one.memory_full_info().pss for one in family) / 2**20


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
