"""The local stack, from outside: start it, look at it, end it.

    info = ensure_up(settings, params)        # start it, or find that it runs
    info.endpoint                             # http://127.0.0.1:8080
    down(settings)

What runs then is `python -m tokka.stack.daemon`: a supervisor, and the daemon as its child. Two starters make one
stack: both take `start.lock` first, and the supervisor holds `daemon.lock` for its life. The files lie in
TOKKA_HOME/stack, the logs in TOKKA_HOME/logs.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tokka import pending
from tokka.errors import TokkaError
from tokka.gateway.exposure import Exposure, endpoint
from tokka.gateway.gateway import require_free
from tokka.params import Params
from tokka.processes import json_log, process
from tokka.processes.detached import DetachedProcess
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.state_file import StackInfo, held, last_word

STOP_SECONDS = 25.0
# A daemon that has written nothing for so long is stuck.
STUCK_SECONDS = 30.0
# Variables of the run that starts the stack, which the daemon must not inherit.
OF_A_RUN = {
    "TOKKA_EVENTS", pending.RUN_FOLDER, "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_CONTEXT",
}  # fmt: skip


def ensure_up(settings: Settings, params: Params, timeout: float = 120.0) -> StackInfo:
    """Start the stack, or find that it runs with these params; return once it serves what the record wants.

    A stack that runs with another name or other serving params is restarted. A champion that cannot be served does
    not fail this: it is one of `problems`. A port that is taken, and a daemon that does not come up within `timeout`
    seconds, raise TokkaError; the message quotes the end of its log.
    """
    exposure = Exposure.of(settings, params.serving)
    deadline = time.monotonic() + timeout
    with held(settings, "start", timeout):
        info = status(settings)
        wanted = (state_file.configuration(params), endpoint(settings), exposure.authentication)
        if info is None or info.silent_s > STUCK_SECONDS or info.told != wanted:
            _down(settings)
            require_free(settings.port, settings.host)
            require_free(settings.grpc_port, settings.host, "TOKKA_GRPC_PORT")
            _start_daemon(settings, params)
    return _wait_settled(settings, deadline)


def down(settings: Settings) -> bool:
    """End the stack and see that nothing of it is left; False when none ran. Raises TokkaError for what stays."""
    if not state_file.folder(settings).is_dir():
        return False
    with held(settings, "start", 60.0):
        return _down(settings)


def status(settings: Settings) -> StackInfo | None:
    """What the running daemon last said; None when none runs."""
    info = last_word(settings)
    return info if info is not None and process.is_same(info.pid, info.started) else None


def _start_daemon(settings: Settings, params: Params) -> None:
    log = _log(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    state_file.forget(settings)
    belongs = OF_A_RUN | ({"TMPDIR"} if pending.RUN_FOLDER in os.environ else set())
    own = {name: value for name, value in os.environ.items() if name not in belongs}
    environment = {**own, **settings.environment(), "PYTHONUNBUFFERED": "1"}
    state_file.write_params(settings, params)
    command = [sys.executable, "-P", "-m", "tokka.stack.daemon"]
    try:
        with log.open("ab") as output:
            code = subprocess.run(
                command, env=environment, cwd=settings.home, check=False, timeout=60,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        code = 1
    if code != 0:
        raise TokkaError(f"the stack does not start: {_tail(log)}", f"see {log}")
    deadline = time.monotonic() + 10
    while last_word(settings) is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _wait_settled(settings: Settings, deadline: float) -> StackInfo:
    log = _log(settings)
    while True:
        info = status(settings)
        if info is None:
            raise TokkaError(f"the stack has ended: {_tail(log)}", f"see {log}")
        if info.settled:
            return info
        if time.monotonic() > deadline:
            raise TokkaError(f"the stack is not ready in time: {_tail(log)}", f"see {log}")
        time.sleep(0.05)


def _down(settings: Settings) -> bool:
    """End the supervisor and whatever it may have left, known by pid and start; whether there was anything."""
    info = last_word(settings)
    if info is None:
        return False
    runs = process.is_same(info.pid, info.started)
    if runs:
        DetachedProcess(info.pid, info.started).stop(signal.SIGTERM, STOP_SECONDS)
    known = {**info.processes, **(last_word(settings) or info).processes}
    # The kernel kills the children of a killed supervisor, but not in no time.
    left = found = process.wait_gone(known, 1.0)
    for pid, started in left.items():
        process.send(pid, started, signal.SIGKILL)
    if left := process.wait_gone(left, 5.0):
        raise TokkaError(f"processes {sorted(left)} of the stack cannot be ended", "end them by hand")
    state_file.forget(settings)
    return runs or bool(found)


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-4:]
    except OSError:
        return "it has no log"
    return " / ".join(map(json_log.in_words, lines)) or "its log is empty"


def _log(settings: Settings) -> Path:
    return settings.home / "logs" / "stack.log"
