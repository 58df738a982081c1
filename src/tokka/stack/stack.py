"""The local stack: one daemon, which starts and ends gateway, workers, MLflow page and request log, and its keeper.

    info = ensure_up(settings, params)        # start it, or find that it runs
    info.endpoint                             # http://127.0.0.1:8080
    down(settings)

    python -m tokka.stack.stack          # what ensure_up starts: the keeper, and the daemon as its child

Two starters make one stack: both take `start.lock` first, and the daemon holds `daemon.lock` for its life. The files
lie in TOKKA_HOME/stack, its logs in TOKKA_HOME/logs.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from tokka import files
from tokka.errors import TokkaError
from tokka.gateway.exposure import Access, reachable
from tokka.gateway.gateway import require_free
from tokka.params import Params
from tokka.processes import json_log, process
from tokka.settings import Settings
from tokka.stack.state_file import StackInfo

logger = logging.getLogger("tokka.deployment")

STOP_SECONDS = 25.0
# A daemon that has written nothing for so long is stuck; it writes twice a second.
STUCK_SECONDS = 30.0
OF_A_RUN = ("TOKKA_EVENTS", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_CONTEXT")


def ensure_up(settings: Settings, params: Params, timeout: float = 120.0) -> StackInfo:
    """Start the stack, or find that it runs with these params; return once it serves what the record wants.

    A stack that runs with another name or other serving params is restarted. A champion that cannot be served does
    not fail this: it is one of `problems`.

    Args:
        timeout: seconds.

    Raises:
        TokkaError: the port is taken, or the daemon does not come up; the message quotes the end of its log.
    """
    access = Access.of(settings, params.serving)
    deadline = time.monotonic() + timeout
    with _alone(settings, "start", timeout):
        info = status(settings)
        wanted = (configuration(params), endpoint(settings), access.authentication)
        stuck = info is not None and silent_s(info) > STUCK_SECONDS
        if info is not None and (stuck or (info.configuration, info.endpoint, info.authentication) != wanted):
            _down(settings)
            info = None
        if info is None:
            _end_leftovers(settings)
            require_free(settings.port, settings.host)
            require_free(settings.grpc_port, settings.host, "TOKKA_GRPC_PORT")
            _spawn(settings, params)
    return _wait_settled(settings, deadline)


def endpoint(settings: Settings) -> str:
    """The gateway's URL, as this machine reaches it."""
    return f"http://{reachable(settings.host)}:{settings.port}"


def down(settings: Settings) -> bool:
    """End the stack and see that nothing of it is left; False when none ran.

    Raises:
        TokkaError: a process of it cannot be ended.
    """
    if not _folder(settings).is_dir():
        return False
    with _alone(settings, "start", 60.0):
        return _down(settings)


def status(settings: Settings) -> StackInfo | None:
    """What the running daemon last said; None when none runs."""
    info = last_word(settings)
    return info if info is not None and process.is_same(info.pid, info.started) else None


def silent_s(info: StackInfo) -> float:
    """For how many seconds the daemon has said nothing."""
    return time.monotonic() - info.moment


def last_word(settings: Settings) -> StackInfo | None:
    """What a daemon of this home said last, whether it lives or not."""
    try:
        return StackInfo.model_validate_json((_folder(settings) / "state.json").read_bytes())
    except (OSError, ValidationError):
        return None


def configuration(params: Params) -> str:
    """A digest of what the daemon needs to know of params: another one means another stack."""
    known = [params.registry.model, params.serving.model_dump(mode="json"), params.monitoring.store_text]
    return files.digest_json(known)[:16]


def read_params(settings: Settings) -> Params:
    """The params that the stack was started with."""
    return Params.model_validate(files.read_json(_folder(settings) / "params.json"))


def publish(settings: Settings, info: StackInfo) -> None:
    """Write state.json at once or not at all; without a sync, since it describes processes that a crash ends too."""
    files.write_bytes(_folder(settings) / "state.json", info.model_dump_json().encode(), sync=False)


def main() -> int:
    """Become the daemon and its keeper; returns to its starter at once."""
    json_log.start("daemon")
    settings = Settings.from_environment()
    params = read_params(settings)
    # Before the keeper forks: so a daemon that takes another one's place is there at once.
    from tokka.gateway.access_log import listen
    from tokka.processes.supervisor import keep
    from tokka.stack.daemon import Daemon

    def daemon(keeper: int) -> int:
        try:
            Daemon(settings, params, keeper, log).run()
        except TokkaError as error:
            logger.error(error.message, extra={"hint": error.hint})
            return error.exit_code
        return 0

    if os.fork():
        os._exit(0)
    os.setsid()
    with _alone(settings, "daemon", 5.0), listen() as log:
        return keep("daemon", daemon)


def _spawn(settings: Settings, params: Params) -> None:
    log = _log(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    (_folder(settings) / "state.json").unlink(missing_ok=True)
    # What belongs to the run that starts it is none of the daemon's.
    own = {name: value for name, value in os.environ.items() if name not in OF_A_RUN}
    environment = {**own, **settings.environment(), "PYTHONUNBUFFERED": "1"}
    files.write_json(_folder(settings) / "params.json", params.model_dump(mode="json"))
    command = [sys.executable, "-P", "-m", "tokka.stack.stack"]
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
    while True:
        info = status(settings)
        if info is None:
            raise TokkaError(f"the stack has ended: {_tail(_log(settings))}", f"see {_log(settings)}")
        if info.settled:
            return info
        if time.monotonic() > deadline:
            raise TokkaError(f"the stack is not ready in time: {_tail(_log(settings))}", f"see {_log(settings)}")
        time.sleep(0.05)


def _down(settings: Settings) -> bool:
    info = status(settings)
    if info is None:
        return _end_leftovers(settings) > 0
    process.send(info.pid, info.started, signal.SIGTERM)
    if process.wait_gone({info.pid: info.started}, STOP_SECONDS):
        # Its children die with it.
        process.send(info.pid, info.started, signal.SIGKILL)
        process.wait_gone({info.pid: info.started}, 5.0)
    _end_leftovers(settings, {**info.processes, info.pid: info.started})
    return True


def _end_leftovers(settings: Settings, more: dict[int, float] | None = None) -> int:
    """End what a killed daemon may have left, by pid and start time, and forget it; returns how many there were."""
    info = last_word(settings)
    known = {**(info.processes if info else {}), **(more or {})}
    # The kernel kills the children of a killed daemon, but not in no time.
    left = found = process.wait_gone(known, 1.0)
    for pid, started in left.items():
        process.send(pid, started, signal.SIGKILL)
    left = process.wait_gone(left, 5.0)
    if left:
        raise TokkaError(f"processes {sorted(left)} of the stack cannot be ended", "end them by hand")
    (_folder(settings) / "state.json").unlink(missing_ok=True)
    return len(found)


def _is_stuck(info: StackInfo) -> bool:
    return silent_s(info) > STUCK_SECONDS


def _alone(settings: Settings, name: str, timeout: float) -> contextlib.AbstractContextManager[None]:
    """One holder at a time: `start` for whoever starts or ends the stack, `daemon` for the daemon itself."""
    return files.locked(_folder(settings) / f"{name}.lock", timeout)


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-4:]
    except OSError:
        return "it has no log"
    return " / ".join(map(json_log.in_words, lines)) or "its log is empty"


def _folder(settings: Settings) -> Path:
    return settings.home / "stack"


def _log(settings: Settings) -> Path:
    return settings.home / "logs" / "stack.log"


if __name__ == "__main__":
    sys.exit(main())
