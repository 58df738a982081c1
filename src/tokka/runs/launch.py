"""Start one pipeline run on this machine, watch its events, and leave nothing behind.

The pipeline runs in a child process group of its own, so that Ctrl-C ends every task and only those.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

from tokka import files, pending
from tokka.deployment.record import owner
from tokka.errors import TokkaError
from tokka.files import JsonObject, Tree
from tokka.runs import kubeflow, summary
from tokka.settings import Settings

KEPT_RUNS = 5
EVENTS = "events.jsonl"
POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0


class Launch:
    """One run: its folder under `runs/`, its events and its child process.

    `kept`: digests of models; the runs that made them, whose reports tell of what serves, are not tidied away.
    """

    def __init__(
        self, settings: Settings, pipeline: str, arguments: Tree, runner: str = "subprocess",
        kept: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.settings, self._kept = settings, kept
        self.pipeline = pipeline
        self.arguments = dict(arguments)
        self.runner = runner
        self.folder = settings.home / "runs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{pipeline}"
        # The temporary folder of every task, as kfp's runner leaves a folder for each; and what the tasks print.
        self.temporary, self.log = self.folder / pending.TEMPORARY, self.folder / "log.txt"
        # The name by which its steps hold claims and attempts in the record, whichever machine they are of.
        self.job = f"{self.folder.name}-{uuid.uuid4().hex[:8]}"
        self.events: list[JsonObject] = []
        self._read = 0

    def run(self, on_event: Callable[[Tree], None]) -> list[JsonObject]:
        """Run to the end, handing every event on as it comes, and return them all: of a refusal too, which is a result.

        Refused for data that was refused, of which there is nothing to tell.
        TokkaError when a step failed, with the step's own message. Ctrl-C is raised after every task has ended.
        """
        self.temporary.mkdir(parents=True)
        held = pending.hold(self.folder)
        try:
            return self._watch(self._start(held), on_event)
        finally:
            os.close(held)
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _watch(self, child: subprocess.Popen[bytes], on_event: Callable[[Tree], None]) -> list[JsonObject]:
        try:
            while child.poll() is None:
                self._drain(on_event)
                time.sleep(POLL_SECONDS)
        except BaseException:
            end_group(child)
            raise
        self._drain(on_event)
        if child.returncode != 0 and (error := summary.failure(self.events) or self._unrefused()):
            raise error
        return self.events

    def _start(self, held: int) -> subprocess.Popen[bytes]:
        _prune(self.settings, self.folder, self._kept)
        chosen = kubeflow.compile_one(self.pipeline, self.settings.root, self.folder / "ir")
        if self.runner == "docker":
            kubeflow.require_image(kubeflow.image(chosen))
        launch = {
            "ir": str(chosen),
            "arguments": self.arguments,
            "runner": self.runner,
            "pipeline_root": str(self.folder / "artifacts"),
        }
        files.write_json(self.folder / "launch.json", launch)
        environment = {
            **os.environ,
            **self.settings.environment(),
            "TOKKA_EVENTS": str(self.folder / EVENTS),
            pending.RUN_FOLDER: str(self.folder),
            "TOKKA_JOB": self.job,
            "TOKKA_JOB_OWNER": owner.this_process().model_dump_json(),
            "TMPDIR": str(self.temporary),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "tokka.runs.kubeflow", str(self.folder / "launch.json")]
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.settings.root, env=environment, stdout=log, stderr=log, start_new_session=True,
                pass_fds=(held,),
            )  # fmt: skip

    def _drain(self, on_event: Callable[[Tree], None]) -> None:
        path = self.folder / EVENTS
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

    def _unrefused(self) -> TokkaError | None:
        """What a run died of that was not refused."""
        return None if summary.was_refused(self.events) else self._died()

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


def _prune(settings: Settings, own: Path, kept: Collection[str]) -> None:
    """Delete all but the last few run folders, each with a copy of a model; never one that goes on or is referred to.

    The temporary folder of a run that was killed goes as well.
    """
    waiting = "".join(path.read_text() for path in pending.waiting(settings.home))
    runs = sorted(path for path in own.parent.iterdir() if path.is_dir())
    ended = [folder for folder in runs if folder != own and not pending.goes_on(folder)]
    old = set(runs[:-KEPT_RUNS])
    for folder in ended:
        if folder in old and folder.name not in waiting and not _tells_of(folder, kept):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.rmtree(folder / pending.TEMPORARY, ignore_errors=True)


def _tells_of(folder: Path, digests: Collection[str]) -> bool:
    """Whether a run's events name one of some models; of events that cannot be read nobody knows."""
    try:
        said = (folder / EVENTS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return any(digest in said for digest in digests)
