"""Workers in a fraction of a second: one process imports the serving stack, and every worker is a fork of it.

    python -m tokka.serving.forkserver          # one JSON request per line on standard input, one answer per line

KServe takes seconds and 130 MB to import; a fork has it at once and shares the memory. Each worker is forked
twice, so that it becomes the child of the supervisor and not of this process: it dies with the supervisor, and
outlives the fork server.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tokka.errors import TokkaError
from tokka.processes import json_log, lifetime, process

logger = logging.getLogger("tokka.serving")


class ForkServer:
    """The handle of whoever starts it, with whom it ends; a fork of that process may use it in its place.

    Args:
        log: file that receives the fork server's own output.
        environment: variables for it and for every worker.
        supervisor: becomes the parent of every worker; an ancestor that has called `process.adopt_orphans`.
    """

    def __init__(self, log: Path, environment: dict[str, str], supervisor: int) -> None:
        self._supervisor, starter = supervisor, os.getpid()
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "tokka.serving.forkserver"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output,
                env={**environment, **process.SINGLE_THREAD},
                preexec_fn=lambda: lifetime.die_with_parent(starter),
            )  # fmt: skip
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)
        self._lines, self._number = b"", 0
        self.pid, self._started = self._child.pid, process.identity(self._child.pid)
        self._greeting, self._ready = "", False

    def alive(self) -> bool:
        """Whether the process lives."""
        return process.is_same(self.pid, self._started)

    def ready(self) -> bool:
        """Whether its imports are done, so that it answers; never waits."""
        if not self._ready:
            with contextlib.suppress(OSError):
                self._greeting = self._greeting or self._send({})
            self._ready = bool(self._greeting) and self._answer(self._greeting, 0.0) is not None
        return self._ready

    def launch(self, arguments: list[str], log: Path) -> int:
        """Fork a worker that runs `tokka.serving.server` with some arguments; returns its pid.

        Raises:
            TokkaError: the fork server has died or does not answer within 5 seconds.
        """
        try:
            number = self._send({"arguments": arguments, "log": str(log), "supervisor": self._supervisor})
        except OSError as error:
            raise TokkaError(f"the fork server is gone: {error}") from None
        answer = self._answer(number, 5.0)
        if answer is None:
            raise TokkaError("the fork server does not answer")
        return int(answer["pid"])

    def _send(self, request: dict[str, Any]) -> str:
        """In one write, which a pipe takes whole or not at all; returns what the answer will be known by."""
        self._number += 1
        number = f"{os.getpid()}.{self._number}"
        assert self._child.stdin is not None
        self._child.stdin.write((json.dumps({"number": number, **request}) + "\n").encode())
        self._child.stdin.flush()
        return number

    def _answer(self, number: str, seconds: float) -> dict[str, Any] | None:
        """Of this request: one that came too late for its own must not be taken for another's."""
        while (answer := self._read_line(seconds)) is not None:
            if answer.get("number") == number:
                return answer
        return None

    def stop(self) -> None:
        """End it; its workers go on."""
        process.send(self.pid, self._started, signal.SIGKILL)
        # Reaps it where it is a child of this process.
        self._child.poll()
        process.wait_gone({self.pid: self._started}, 5.0)
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def _read_line(self, seconds: float) -> dict[str, Any] | None:
        assert self._child.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._lines:
            part = self._child.stdout.read()
            self._lines += part or b""
            if part == b"" or (not part and time.monotonic() >= deadline):
                return None
            if not part:
                time.sleep(0.002)
        line, _, self._lines = self._lines.partition(b"\n")
        return dict(json.loads(line))


def main() -> None:
    """Import once, then fork for every line."""
    lifetime.die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    json_log.start("fork server")
    from tokka.serving import kserve_import, server

    kserve_import.preload()
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if "arguments" not in request:
            _say({"number": request["number"]})
            continue
        pid = _fork_twice(request["supervisor"])
        if pid == 0:
            _become_worker(request, server.main)
        _say({"number": request["number"], "pid": pid})


def _say(answer: dict[str, Any]) -> None:
    os.write(1, (json.dumps(answer) + "\n").encode())


def _fork_twice(supervisor: int) -> int:
    """Fork a grandchild that the supervisor adopts; its pid in this process, 0 in the grandchild."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild:
            os.write(writing, b"%d" % grandchild)
            os._exit(0)
        os.close(reading)
        os.close(writing)
        while os.getppid() != supervisor:
            if not process.identity(supervisor):
                os._exit(1)
            time.sleep(0.001)
        return 0
    os.close(writing)
    os.waitpid(child, 0)
    pid = int(os.read(reading, 32) or b"-1")
    os.close(reading)
    return pid


def _become_worker(request: dict[str, Any], run: Any) -> None:
    lifetime.die_with_parent(request["supervisor"])
    process.rename("tokka-worker")
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = 1
    try:
        code = run(request["arguments"])
    except BaseException:
        logger.critical("a worker broke down", exc_info=True)
    finally:
        sys.stderr.flush()
        # Not sys.exit: what the fork server registered to run at its own end is not this process's to run.
        os._exit(code)


if __name__ == "__main__":
    main()
