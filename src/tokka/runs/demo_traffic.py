"""Replayed synthetic messages through the gateway: in one go, or in the background while a rollout works."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokka.data.sample import make_traffic
from tokka.gateway.api_keys import own_headers
from tokka.gateway.replay import replay

# Requests per second: in one go, while a version is on trial, and beside a training that has the processor.
BUSY, ON_TRIAL, QUIET = 60.0, 40.0, 5.0
CHUNK = 20


class Background:
    """Labelled messages of the drifted world sent in a thread until the `with` block ends; `results` has every answer.

    Args:
        on_trial: whether a version is on trial now: then there is more traffic.
    """

    def __init__(self, endpoint: str, home: Path, seed: int, on_trial: Callable[[], bool]) -> None:
        self.endpoint = endpoint
        self.home = home
        self.seed = seed
        self.on_trial = on_trial
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
            messages = make_traffic(CHUNK, seed=self.seed + number, drift=True)
            self.results += send(self.endpoint, self.home, messages, rate=ON_TRIAL if self.on_trial() else QUIET)


def send(endpoint: str, home: Path, messages: Sequence[dict[str, Any]], rate: float = BUSY) -> list[Any]:
    """Send labelled messages through the gateway of a home, each followed by its feedback."""
    rows = [{"text": message["text"], "target": message["label"]} for message in messages]
    return replay(rows, endpoint, rate=rate, feedback=True, headers=own_headers(home))
