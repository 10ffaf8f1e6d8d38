"""A real Mosquitto for a test or a benchmark: own folder, own loopback port, ended by its process id."""

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from ingest import mosquitto
from tests.waiting import until

PATH = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


_DEFAULTS = (
    mosquitto.SETTINGS
    + """\
user root
allow_anonymous true
use_username_as_clientid false
sys_interval 1
"""
)


class Mosquitto:
    """One broker, with the settings we recommend, open to everybody. ``lines`` adds settings or replaces them.

    ``listeners`` are further ones, each with its own settings.
    """

    def __init__(self, lines: str = "", *, files: dict[str, str] | None = None, listeners: str = "") -> None:
        if PATH is None:
            raise RuntimeError("mosquitto is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="fixwright-mosquitto-"))
        self.port = free_port()
        for name, text in (files or {}).items():
            (self.folder / name).write_text(text)
        chosen = [line.replace("{folder}", str(self.folder)) for line in lines.splitlines() if line.strip()]
        settings = {line.split()[0]: line for line in (*_DEFAULTS.splitlines(), *chosen) if line[0] != "#"}
        settings["persistence_location"] = f"persistence_location {self.folder}/"
        self._config = self.folder / "mosquitto.conf"
        self._config.write_text("\n".join((f"listener {self.port} 127.0.0.1", *settings.values())) + f"\n{listeners}\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as sink:
            self.process = subprocess.Popen([str(PATH), "-c", self._config], stdout=sink, stderr=sink)
        until(self._accepts, what=f"mosquitto did not start: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """End it in order: it writes its sessions and messages to disk."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None

    def reload(self) -> None:
        """Let it read its password and access files again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accepts(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
