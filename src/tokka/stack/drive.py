"""The rest of the watch after a promotion, when whoever drove the rollout has died: a child of the daemon.

    python -m tokka.stack.drive

It is the rollout itself that goes on, without the registry: what is watched is in the request log, and to put the
previous champion back needs nobody else. Its verdict is shown in the registry by the daemon's upkeep.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokka.deployment import rollout_files
from tokka.deployment.collector import ReadLog
from tokka.deployment.judge.decisions import RolloutResult
from tokka.deployment.record.record import Clock, Record
from tokka.deployment.record.target import Target
from tokka.deployment.rollout import run_rollout
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings


class Unasked:
    """In the place of the registry: no rows to replay, and nothing is shown there."""

    def version(self, version: str) -> "Unasked":
        """A version without a date."""
        return self

    def download_evidence(self, version: str, into: Path) -> None:
        """Nothing comes."""

    def tag_version(self, version: str, tags: object) -> None:
        """Left to others."""
        raise TokkaError("the stack's upkeep shows it")


def go_on(
    record: Record, target: Target, params: Params, settings: Settings, registry: Any, clock: Clock = time,
    open_log: Callable[[], ReadLog] | None = None,
) -> RolloutResult | None:  # fmt: skip
    """Watch until the watch's time is over, counted from the promotion; None when nothing is watched.

    Args:
        params: of the stack; what the rollout itself was given goes first.
    """
    state = record.read(params.registry.model)
    if state.phase != "watch" or state.champion is None:
        return None
    return run_rollout(
        version=state.champion.version, registry=registry, record=record, target=target,
        params=rollout_files.read_params(settings.home, state.rollout) or params, settings=settings, clock=clock,
        open_log=open_log,
    )  # fmt: skip


def main() -> int:
    """Watch this home's endpoint; the exit code is 0 once its watch is over."""
    from tokka.stack import stack
    from tokka.stack.local_target import LocalTarget

    settings = Settings.from_environment()
    try:
        params = stack.read_params(settings)
        registry = _registry(params, settings)
        go_on(Record(settings.record_url), LocalTarget(settings, params), params, settings, registry)
    except TokkaError as error:
        return error.report()
    return 0


def _registry(params: Params, settings: Settings) -> Any:
    """The real one only for values: what counts as a wrong one is told by the spread of the test rows."""
    if params.task.type == "classification":
        return Unasked()
    from tokka.registry.publish import open_registry

    return open_registry(params, settings)


if __name__ == "__main__":
    sys.exit(main())
