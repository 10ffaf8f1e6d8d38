"""The web server of a process: uvicorn, told to end open live streams before it waits for them.

Addresses are claimed before anything slow begins, so that one in use is said at once and not after a migration.
"""

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api import app
from api.runtime import Runtime
from kernel.errors import Misconfigured
from kernel.settings import host_and_port

GRACE_S = 5


class _Server(uvicorn.Server):
    """Closes the streams of open pages as soon as it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        application = self.config.app
        assert isinstance(application, FastAPI)  # noqa: S101 - made below
        application.state.live.close()
        super().handle_exit(sig, frame)


def serve(runtime: Runtime, listening: socket.socket) -> None:
    """Serve the pages and the API on a claimed address until the process is asked to stop."""
    config = uvicorn.Config(
        app.create(runtime),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=False,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn hears them while it serves, and raises them again at its end, when the other parts are still to be
        # stopped: then they have been heard.
        signal.signal(number, signal.SIG_IGN)
    _Server(config).run(sockets=[listening])


@contextmanager
def claimed(bind: str, *, setting: str) -> Iterator[socket.socket]:
    """Hold an address for the length of the block; ``setting`` is where another one can be chosen.

    Raises:
        Misconfigured: the address is in use or not ours.
    """
    host, port = host_and_port(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            # From here on nobody else can have it; who calls meanwhile waits in the queue instead of being refused.
            listening.listen(2048)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Misconfigured(
                    "The address {bind} is in use by another program. Stop that program, or set {setting}.",
                    bind=bind,
                    setting=setting,
                ) from error
            raise Misconfigured(
                "The address {bind} cannot be used: {reason}. Set {setting}.",
                bind=bind,
                reason=error.strerror,
                setting=setting,
            ) from error
        yield listening
