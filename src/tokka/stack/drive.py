"""The rest of a watch whose owner has died, and an A/B test: a service of the daemon.

    python -m tokka.stack.drive

It is the rollout itself that goes on, without the registry: what is judged is in the request log, and a version
is taken away in the record alone. Its verdict is shown in the registry by stack/sync_registry.py.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tokka.deployment import loop, rollout_files
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.record import Record
from tokka.deployment.record.target import Target
from tokka.deployment.registry import Registry
from tokka.deployment.rollout import ReadLog, Rollout, RolloutResult
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.registry.entities import VersionInfo
from tokka.settings import Settings
from tokka.stack import state_file
from tokka.stack.local_target import LocalTarget


class _Unasked:
    """In the place of the registry: no rows to replay, no tags, date and aliases, and nothing is shown there."""

    def version(self, version: str) -> VersionInfo:
        return VersionInfo(version)

    def download_evidence(self, version: str, into: Path) -> None:
        return

    def tag_version(self, version: str, tags: Mapping[str, str]) -> None:
        raise TokkaError("stack/sync_registry.py shows it")

    def aliases(self) -> dict[str, str]:
        return {}

    def set_alias(self, alias: str, version: str) -> None:
        return

    def delete_alias(self, alias: str) -> None:
        return


def go_on(
    record: Record, target: Target, params: Params, settings: Settings, registry: Registry | None = None,
    clock: Clock = time, open_log: Callable[[float], ReadLog] | None = None,
) -> RolloutResult | None:  # fmt: skip
    """Drive the watch or the A/B test that is under way to its end; None when there is none.

    What the rollout itself was given goes before the stack's params.
    """
    state = record.read(params.registry.model)
    if state.phase not in ("watch", "ab") or state.on_trial is None:
        return None
    given = rollout_files.read_params(settings.home, state.rollout) or params
    # A watch over values asks the registry: what counts as a wrong one is told by the spread of the test rows.
    if state.phase == "watch" and given.task.type == "regression" and registry is None:
        from tokka.registry.publish import open_registry

        registry = open_registry(given, settings)
    rollout = Rollout(
        version=state.on_trial.version, registry=registry or _Unasked(), record=record, target=target, params=given,
        settings=settings, clock=clock, open_log=open_log,
    )  # fmt: skip
    return loop.go_on(rollout, state)


def main() -> int:
    """Do it for this home's endpoint; the exit code is 0 once nothing is left to drive."""
    settings = Settings.from_environment()
    try:
        params = state_file.read_params(settings)
        go_on(Record(settings.record_url), LocalTarget(settings, params), params, settings)
    except TokkaError as error:
        return error.report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
