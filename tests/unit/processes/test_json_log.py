"""What a process of the stack writes: every line an object, nothing of what was sent."""

import json
import subprocess
import sys

import pytest

from tokka.errors import TokkaError
from tokka.processes.json_log import describe, in_words

NOISY = """
import logging, threading, warnings
from tokka.processes import json_log
logging.basicConfig(level=logging.DEBUG)
json_log.start("worker", quoting={quoting}, revision="3@ab")
logger = logging.getLogger("tokka.serving")
logger.info("two\\nlines", extra={{"prediction_id": "p1"}})
logger.debug("too much")
logging.getLogger("uvicorn").warning("not ours: %s", "odd")
warnings.warn("deprecated")
try:
    int("a secret")
except ValueError:
    logger.exception("failed")
thread = threading.Thread(target=lambda: int("a secret"))
thread.start()
thread.join()
int("a secret")
"""


@pytest.mark.parametrize("quoting", [True, False])
def test_every_line_is_an_object_whoever_writes_it(quoting):
    command = [sys.executable, "-c", NOISY.format(quoting=quoting)]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (written.returncode, written.stdout) == (1, "")
    lines = [json.loads(line) for line in written.stderr.splitlines()]
    assert [line["message"].split(":")[0] for line in lines[:2]] == ["two\nlines", "not ours"]
    assert [line["message"] for line in lines[3:]] == ["failed", "an uncaught exception", "an uncaught exception"]
    assert (lines[0]["process"], lines[0]["revision"], lines[0]["prediction_id"]) == ("worker", "3@ab", "p1")
    assert lines[0]["time"].endswith("+00:00")
    assert all(line["exception"]["type"] == "ValueError" and line["exception"]["places"] for line in lines[3:])
    assert ("secret" in written.stderr) is quoting


def test_our_own_errors_are_told_in_full():
    error = TokkaError("the model ab12 is broken", "train it again")
    assert describe(error, quoting=False)["says"] == "the model ab12 is broken"


def test_a_line_is_read_out_to_people():
    assert in_words('{"message": "the port is taken", "hint": "take another"}') == "the port is taken (take another)"
    assert in_words('{"message": "the port is taken"}') == "the port is taken"
    for other in ("Killed", "[1, 2]", '{"text": 1}', "3"):
        assert in_words(other) == other
