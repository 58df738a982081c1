"""uvicorn that wakes once a second, for the header `date`, where its own looks ten times whether it is to end.

python -m tokka.processes.web_server 127.0.0.1 8090 mlflow.server.fastapi_app:app [PASSWORD_FILE]
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.importer import import_from_string

from tokka.processes.page_password import Guarded


class WebServer(uvicorn.Server):
    """One ASGI application; `end` is heard at once, a signal that uvicorn itself handles within a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Take no more requests, answer those that run, and return from `serve`."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Until it is to end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1.0)


def bare(application: ASGIApp, *, drain: int | None = None, keep_alive: int = 5) -> WebServer:
    """A server without logs, start-up events and websockets; `drain` and `keep_alive` are in seconds."""
    return WebServer(uvicorn.Config(
        application, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
        timeout_graceful_shutdown=drain, timeout_keep_alive=keep_alive,
    ))  # fmt: skip


if __name__ == "__main__":
    host, port, name, *password = sys.argv[1:]
    application: ASGIApp = import_from_string(name)
    if password:
        application = Guarded(application, Path(password[0]).read_text(encoding="ascii").strip())
    WebServer(uvicorn.Config(application, host=host, port=int(port), log_level="warning")).run()
