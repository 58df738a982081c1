"""A Kafka for tests: the one that TOKKA_TEST_KAFKA names, or the broker that comes with Confluent's client for tests.

    TOKKA_TEST_KAFKA=kafka://127.0.0.1:9092 python -m pytest tests/jobs/test_kafka.py

The latter speaks Kafka's protocol on a socket, with consumer groups, committed offsets and idempotent producers; it
keeps nothing on a disk, and has no replicas.
"""

import importlib.util
import os
import subprocess
import sys

VARIABLE = "TOKKA_TEST_KAFKA"
AVAILABLE = VARIABLE in os.environ or importlib.util.find_spec("confluent_kafka") is not None
_BROKER = """
import signal
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
print(*(f"{one.host}:{one.port}" for one in producer.list_topics(timeout=120).brokers.values()), flush=True)
signal.pause()
"""


class KafkaBroker:
    """A broker's URL, and the process behind it, if it is ours."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self.url = os.environ.get(VARIABLE, "")
        if not self.url:
            self._child = subprocess.Popen([sys.executable, "-c", _BROKER], stdout=subprocess.PIPE, text=True)
            assert self._child.stdout is not None
            self.url = f"kafka://{self._child.stdout.readline().strip()}"

    def stop(self) -> None:
        """End the process, if it is ours."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
