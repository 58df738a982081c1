"""Somebody who asks all the time, while things happen to those who answer.

with Visitors(world.url) as visitors: ...
assert visitors.failed == []
"""

import threading
import time
from dataclasses import dataclass

import httpx

QUESTION = "where is my card?"


@dataclass(frozen=True)
class Answer:
    """When a request was sent and answered (seconds since 1970), by which version, or what went wrong."""

    sent: float
    came: float
    version: str
    error: str = ""


class Visitors:
    """Somebody who asks twenty times a second, until the end of the block."""

    def __init__(self, url: str) -> None:
        self.answers: list[Answer] = []
        self._url, self._done = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Visitors":
        self._thread.start()
        return self

    @property
    def failed(self) -> list[str]:
        """What was said instead of an answer."""
        return [answer.error for answer in self.answers if answer.error]

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=10) as client:
            while not self._done.wait(0.05):
                sent = time.time()
                try:
                    said = client.post("/predict", json={"text": QUESTION})
                    error = "" if said.status_code == 200 else said.text
                    version = "" if error else str(said.json()["model_version"])
                except httpx.HTTPError as problem:
                    version, error = "", repr(problem)
                self.answers.append(Answer(sent, time.time(), version, error))
