"""The product as people start it: ``fixwright up --demo`` in a process of its own, on free ports, in a new folder.

    product = Product(folder)
    product.start()                  # returns when it is ready
    product.interrupt()              # Ctrl-C in its terminal; fails when a process is left

Processes are ended by their group or by the ids that were recorded while they lived, never by name.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.waiting import until

COMMAND = Path(sys.executable).with_name("fixwright")
READY_S = 180
END_S = 60


class Product:
    """One installation: its folder, its two addresses, and the process that runs it, if any."""

    def __init__(self, folder: Path, *arguments: str, web_port: int = 0, mqtt_port: int = 0) -> None:
        taken = free_ports(2)
        self.folder = folder
        self.web_port, self.mqtt_port = web_port or taken[0], mqtt_port or taken[1]
        self.address = f"http://127.0.0.1:{self.web_port}"
        self.log = folder.with_name(f"{folder.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_after_s = 0.0
        """How long the last start took."""
        self.first_started_at = 0.0
        """When it was started first, in seconds since 1970."""
        self._arguments = arguments or ("--demo",)
        self._tokens: dict[str, str] = {}
        self._seen: dict[int, psutil.Process] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What decides where it runs; no other setting of this machine gets through."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FIXWRIGHT_")}
        return {
            **kept,
            "FIXWRIGHT_DATA_DIR": str(self.folder),
            "FIXWRIGHT_HTTP_BIND": f"127.0.0.1:{self.web_port}",
            "FIXWRIGHT_MQTT_BIND": f"127.0.0.1:{self.mqtt_port}",
        }

    def start(self) -> None:
        """Start it, unless it runs, and return when it says that it is ready."""
        if self.process is not None:
            return
        began = time.monotonic()
        self.first_started_at = self.first_started_at or time.time()
        with self.log.open("ab") as sink:
            # A session of its own, as a terminal gives it, so that Ctrl-C can reach all of it and nothing else.
            self.process = subprocess.Popen(
                [COMMAND, "up", *self._arguments],
                env=self.environment,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        until(self._is_ready, timeout_s=READY_S, every_s=0.1, what="the product is ready")
        self.ready_after_s = time.monotonic() - began
        self.remember()

    def remember(self) -> None:
        """Note every process that belongs to it now: its children, and the database server, which is nobody's child."""
        assert self.process is not None
        for root in (psutil.Process(self.process.pid), *self._server()):
            for one in (root, *root.children(recursive=True)):
                self._seen[one.pid] = one

    def _server(self) -> list[psutil.Process]:
        """Return the database server, where its lock names one that lives."""
        lock = self.folder / "postgres" / "postmaster.pid"
        try:
            return [psutil.Process(int(lock.read_text().split("\n", 1)[0]))]
        except (FileNotFoundError, psutil.NoSuchProcess):
            return []

    def living(self) -> list[str]:
        """Return what still runs of everything that was ever noted, as command lines."""
        left = []
        for one in self._seen.values():
            try:
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{one.pid} {' '.join(one.cmdline())}")
            except psutil.NoSuchProcess:
                continue
        return left

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit code when everything has ended, within a generous deadline."""
        # A terminal sends the signal to the whole foreground group, not to the first process of it alone.
        return self._stop(lambda group: os.killpg(group, signal.SIGINT))

    def terminate(self, *, times: int = 1) -> int:
        """Ask it to end as a service manager does, more than once if need be; return the exit code."""
        return self._stop(lambda pid: [os.kill(pid, signal.SIGTERM) for _ in range(times)])

    def _stop(self, ask: Callable[[int], object]) -> int:
        assert self.process is not None
        self.remember()
        ask(self.process.pid)
        code = self.process.wait(END_S)
        self.process = None
        until(lambda: not self.living(), timeout_s=END_S, what=f"no process is left of {self.folder}")
        return code

    def kill(self) -> None:
        """End the process as an out-of-memory killer would; what it had started lives on."""
        assert self.process is not None
        self.remember()
        self.process.kill()
        self.process.wait(END_S)
        self.process = None

    def remove(self) -> None:
        """Stop whatever is left and delete the folder; for the end of a test, also of one that failed."""
        if self.process is not None:
            self.remember()
            self.process.kill()
            self.process.wait(END_S)
        for pid, one in self._seen.items():
            # The handle knows the moment the process began, so a number that was given again is not hit.
            if one.is_running() and pid != os.getpid():
                one.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.log.unlink(missing_ok=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the command line on the same installation."""
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=READY_S, check=False
        )

    def token(self, user: str = "admin") -> str:
        """Return a bearer token of an account, made on the command line once."""
        if user not in self._tokens:
            made = self.run("token", "create", "--user", user)
            assert made.returncode == 0, made.stderr
            self._tokens[user] = made.stdout.strip()
        return self._tokens[user]

    def api(self, user: str = "admin") -> httpx.Client:
        """Return a client of the JSON interface that acts for an account; close it."""
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.Client(base_url=f"{self.address}/api/v1", headers=headers, timeout=30)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended by itself:\n{self.log.read_text()[-4000:]}"
        try:
            return httpx.get(f"{self.address}/health/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def free_ports(number: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def installed(*arguments: str, **ports: int) -> Iterator[Product]:
    """Give a product in a new folder, not yet started, and clear everything away afterwards."""
    above = Path(tempfile.mkdtemp(prefix="fixwright-running-"))
    product = Product(above / "var", *arguments, **ports)
    try:
        yield product
    finally:
        product.remove()
        shutil.rmtree(above, ignore_errors=True)


def pages_of(client: httpx.Client, path: str, **asked: Any) -> list[dict[str, Any]]:
    """Return every item of a list of the JSON interface, page by page."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = client.get(path, params={**asked, "limit": 200, **({"cursor": cursor} if cursor else {})})
        page.raise_for_status()
        items += page.json()["items"]
        cursor = page.json()["next"]
        if cursor is None:
            return items
