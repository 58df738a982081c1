"""Start one pipeline run on this machine, watch its events, and leave nothing behind.

    events = Launch(settings, "retrain", arguments).run(on_event=print)

The pipeline runs in a child process group of its own, so that Ctrl-C ends every task and only those.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokka import files, pending
from tokka.errors import TokkaError
from tokka.runs import kubeflow, summary
from tokka.settings import Settings

KEPT_RUNS = 5
POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0


class Launch:
    """One run: its folder under `runs/`, its events and its child process."""

    def __init__(
        self, settings: Settings, pipeline: str, arguments: Mapping[str, Any], runner: str = "subprocess"
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.arguments = dict(arguments)
        self.runner = runner
        self.folder = settings.home / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{pipeline}"
        self.events: list[dict[str, Any]] = []
        self._read = 0

    @property
    def temporary(self) -> Path:
        """The temporary folder of every task: kfp's runner leaves a folder for each."""
        return self.folder / pending.TEMPORARY

    @property
    def log(self) -> Path:
        """Everything that the tasks printed."""
        return self.folder / "log.txt"

    def run(self, on_event: Callable[[Mapping[str, Any]], None]) -> list[dict[str, Any]]:
        """Run to the end, handing every event on as it comes, and return them all.

        Raises:
            TokkaError: a step failed; the message is the step's own.
            KeyboardInterrupt: after every task has ended.
        """
        child = self._start()
        try:
            while child.poll() is None:
                self._drain(on_event)
                time.sleep(POLL_SECONDS)
        except BaseException:
            end_group(child)
            raise
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)
        self._drain(on_event)
        if child.returncode != 0:
            raise summary.failure(self.events) or self._died()
        return self.events

    def _start(self) -> subprocess.Popen[bytes]:
        self.temporary.mkdir(parents=True)
        _prune(self.settings, self.folder)
        ir = kubeflow.compile_pipelines(self.settings.root, self.folder / "ir")
        launch = {
            "ir": str(next(path for path in ir if path.stem == self.pipeline)),
            "arguments": self.arguments,
            "runner": self.runner,
            "pipeline_root": str(self.folder / "artifacts"),
        }
        files.write_json(self.folder / "launch.json", launch)
        environment = {
            **os.environ,
            **self.settings.environment(),
            "TOKKA_EVENTS": str(self.folder / "events.jsonl"),
            pending.RUN_FOLDER: str(self.folder),
            "TMPDIR": str(self.temporary),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "tokka.runs.kubeflow", str(self.folder / "launch.json")]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.settings.root, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _drain(self, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        path = self.folder / "events.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            self.events.append(event)
            on_event(event)

    def _died(self) -> TokkaError:
        running = [step["name"] for step in summary.summarise(self.events)["steps"] if step["status"] == "started"]
        what = f"{running[-1]} died without a word" if running else "the pipeline could not start"
        return TokkaError(f"{what}: {_tail(self.log)}", f"read {self.log}; the same command resumes what was done")


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child's whole process group: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _prune(settings: Settings, own: Path) -> None:
    """Keep the last few run folders, each with a copy of a model, and those of evaluations that are to be completed.

    The temporary folder of a run that was killed goes as well.
    """
    waiting = "".join(path.read_text() for path in pending.waiting(settings.home))
    runs = sorted(path for path in own.parent.iterdir() if path.is_dir())
    for folder in runs[:-KEPT_RUNS]:
        if folder.name not in waiting:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in runs:
        if folder != own and not pending.goes_on(folder):
            shutil.rmtree(folder / pending.TEMPORARY, ignore_errors=True)
