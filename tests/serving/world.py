"""A home with models, a record and a stack, and short words for what tests do with them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.serving.models import deploy
from tokka.deployment import stack
from tokka.deployment.record import Record
from tokka.deployment.stack_info import StackInfo, WorkerInfo
from tokka.deployment.state import Revision, State
from tokka.deployment.targets.local import LocalTarget
from tokka.params import Params, parse_params
from tokka.settings import Settings

NAME = "helpdesk"


class World:
    """One endpoint in one home; versions 1, 2, 3 are the models in their order."""

    def __init__(self, home: Path, port: int, models: dict[str, Path], **serving: object) -> None:
        environment = {"TOKKA_HOME": str(home), "TOKKA_PORT": str(port), "TOKKA_ROOT": str(home)}
        self.settings = Settings.from_environment(environment)
        self.params: Params = parse_params({"serving": serving, "registry": {"model": NAME}})
        self.record = Record(self.settings.record_url)
        self.target = LocalTarget(self.settings, self.params)
        self.revisions = {
            str(number): Revision(version=str(number), digest=digest) for number, digest in enumerate(models, start=1)
        }
        for digest, folder in models.items():
            deploy(folder, digest, self.settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def install(self, version: str) -> State:
        """A champion, without a rollout."""
        return self.change(champion=self.revisions[version])

    def change(self, **changes: Any) -> State:
        return self.record.compare_and_set(self.record.read(NAME), **changes)

    def challenge(self, version: str, share: float) -> None:
        """Put a challenger on a share of traffic, and wait until it is."""
        self.change(challenger=self.revisions[version], phase="step", share=share)
        self.wait(lambda: self.target.observe().share == share)

    def retire(self) -> None:
        """Take the challenger away, and wait until it is."""
        if self.record.read(NAME).challenger:
            self.change(challenger=None, phase="idle", share=0.0)
        self.wait(lambda: self.target.observe().challenger is None)

    def up(self, **named: Any) -> StackInfo:
        return stack.ensure_up(self.settings, self.params, **named)

    def info(self) -> StackInfo:
        found = stack.status(self.settings)
        assert found is not None
        return found

    def workers(self, version: str) -> list[WorkerInfo]:
        return [one for one in self.info().workers if one.version == version and one.ready]

    def ask(self, text: str = "where is my card?", **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json={"text": text}, headers=headers, trust_env=False, timeout=10)

    def kill(self, version: str, *, all_of_them: bool = False) -> list[int]:
        """SIGKILL one worker, or every worker, of a revision; returns their pids."""
        workers = self.workers(version)
        found = [one.pid for one in (workers if all_of_them else workers[:1])]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return found

    def wait(self, condition: Callable[[], object], seconds: float = 30.0) -> float:
        """Wait until something holds, and say how long it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {stack.status(self.settings)}"
            time.sleep(0.02)
        return time.monotonic() - began

    def processes(self) -> list[int]:
        """Every live process that was started for this home."""
        mark, found = f"TOKKA_HOME={self.settings.home}", []
        for process in psutil.process_iter():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                alive = process.status() != psutil.STATUS_ZOMBIE
            except (OSError, psutil.Error):
                continue
            if alive and mark.encode() in environment:
                found.append(process.pid)
        return found

    def gateways(self) -> list[int]:
        """The gateway's processes, the one that everybody talks to first, then the one for large bodies."""
        found = {}
        for pid in self.info().processes:
            try:
                found[psutil.Process(pid).cmdline()[-1]] = pid
            except (psutil.Error, IndexError):
                continue
        return [found[name] for name in ("haproxy.cfg", "large.cfg") if name in found]

    def close(self) -> None:
        stack.down(self.settings)
