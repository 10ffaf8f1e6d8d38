"""An application on a real socket, so that tests speak HTTP as a browser or a program does."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from tests.waiting import until


class Server(uvicorn.Server):
    """The server the product runs on, which ends as soon as it is told to and nobody is being answered any more.

    Uvicorn looks for either every 0.1 s: nothing for a process that ends once, minutes for hundreds of tests.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def leave(self) -> None:
        """Tell it, from another thread, to end."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        """Serve until told to end; the date that answers carry is renewed every second."""
        self._loop = asyncio.get_running_loop()
        while not self.should_exit:
            await self.on_tick(0)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._told.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let each finish what it is at, and end the application."""
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - they are plain sets
            await asyncio.sleep(0.002)
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of the loopback for the length of the block; yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = Server(uvicorn.Config(app, log_config=None, lifespan="on", ws="none", proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(
                lambda: server.started or not thread.is_alive(),
                timeout_s=60,
                every_s=0.002,
                what="the application starts",
            )
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.leave()
            thread.join(timeout=60)
