"""uvicorn that wakes once a second, for the header `date`, where its own looks ten times whether it is to end.

python -m tokka.processes.web_server 127.0.0.1 8090 mlflow.server.fastapi_app:app
"""

import asyncio
import contextlib
import sys

import uvicorn


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


if __name__ == "__main__":
    host, port, application = sys.argv[1:]
    WebServer(uvicorn.Config(application, host=host, port=int(port), log_level="warning")).run()
