"""Replayed synthetic messages through the gateway: in one go, or in the background while a rollout works."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokka.data.sample import make_traffic
from tokka.gateway.api_keys import own_headers
from tokka.gateway.replay import replay

# Requests per second: in one go as a busy hour, in the background as much as a laptop that also trains can bear.
RUSH, CALM = 60.0, 20.0
CHUNK = 40


class Background:
    """Labelled messages sent again and again in a thread, until the `with` block ends; `results` has every answer."""

    def __init__(self, endpoint: str, home: Path, seed: int, *, drift: bool) -> None:
        self.endpoint = endpoint
        self.home = home
        self.seed = seed
        self.drift = drift
        self.results: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            messages = make_traffic(CHUNK, seed=self.seed + number, drift=self.drift)
            self.results += send(self.endpoint, self.home, messages, rate=CALM)


def send(endpoint: str, home: Path, messages: Sequence[dict[str, Any]], rate: float = RUSH) -> list[Any]:
    """Send labelled messages through the gateway of a home, each followed by its feedback."""
    rows = [{"text": message["text"], "target": message["label"]} for message in messages]
    return replay(rows, endpoint, rate=rate, feedback=True, headers=own_headers(home))
