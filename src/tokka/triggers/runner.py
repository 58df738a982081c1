"""Starting the run of a commit, and following one that is elsewhere.

It is started by the commit's own code: `tokka run` on this machine, or `tokka submit` to Kubeflow.
Both are idempotent by the run's key: whoever starts the same again finds what was started, or made, before.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from tokka.errors import TokkaError
from tokka.files import JsonObject, Tree
from tokka.params import Params
from tokka.settings import Settings
from tokka.triggers.decision import State
from tokka.triggers.queue import Entry

GRACE_S = 30.0
REFUSED, WRONG = 3, 2


class Ran(BaseModel):
    """How a start ended: the command's exit code and the object that it ended with."""

    code: int
    told: JsonObject

    @property
    def error(self) -> str:
        """Why it failed, in its own words."""
        return str(self.told.get("error") or f"it ended with code {self.code} and said nothing")


# Given the work tree, its params, the content key and the commit.
Start = Callable[[Path, Params, str, str], Ran]


class Runner:
    """Starts runs with the parameters of the worker's own project for where things are, and the commit's for the rest.

    `secrets`: names of variables that a run is not given.
    """

    def __init__(self, settings: Settings, params: Params, secrets: tuple[str, ...] = ()) -> None:
        self.settings, self.wanted, self.secrets = settings, params.triggers, secrets
        self._running: subprocess.Popen[bytes] | None = None

    def __call__(self, tree: Path, params: Params, key: str, commit: str) -> Ran:
        """Start the run of a work tree; one on this machine is waited for. Its log is logs/git-KEY.log."""
        bring_data(tree, params)
        own = command(self.wanted.start, self.wanted.pipeline, self.places(tree, params))
        log = self.settings.home / "logs" / f"git-{key[:12]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._running = subprocess.Popen(
                own, cwd=tree, env=self.environment(tree), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
            code = self._running.wait()
        self._running = None
        return Ran(code=code, told=last_object(log.read_text(encoding="utf-8", errors="replace")))

    def end(self) -> None:
        """End the run that is waited for, as Ctrl-C does: the same command goes on where it stopped."""
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(signal.SIGINT)

    def environment(self, tree: Path) -> dict[str, str]:
        """This process's, with the work tree as the project, its code before ours, and none of the secrets."""
        kept = {name: value for name, value in os.environ.items() if name not in self.secrets}
        own = self.settings.model_copy(update={"root": tree, "job": "", "job_owner": ""}).environment()
        found = {**kept, **own}
        code = tree / "src"
        if (code / "tokka").is_dir():
            found["PYTHONPATH"] = os.pathsep.join([str(code), *filter(None, [found.get("PYTHONPATH")])])
        return found

    def places(self, tree: Path, params: Params) -> list[str]:
        """As --set: data in the project's own folder, where the commit names a file that git does not have."""
        if self.wanted.start == "submit":
            return []
        absent = {name: self.settings.root / file for name, file in named(params).items() if not (tree / file).exists()}
        return [f"data.{name}={path}" for name, path in absent.items() if path.is_file()]


def named(params: Params) -> dict[str, str]:
    """The files of data that params name by their path, by the key that names them."""
    tree = {name: getattr(params.data, name) for name in ("source", "validation", "test")}
    return {name: file for name, file in tree.items() if file and "://" not in file}


def command(start: str, pipeline: str, places: Sequence[str] = ()) -> list[str]:
    """The command line of a start."""
    own = [sys.executable, "-m", "tokka.cli.main", start, "--json", "--pipeline", pipeline, "--cause", "git"]
    return [*own, *(word for place in places for word in ("--set", place))]


def bring_data(tree: Path, params: Params) -> None:
    """Pull the data that a commit has as a pointer (FILE.dvc); TokkaError when the DVC remote does not give it."""
    for source in named(params).values():
        pointer = tree / f"{source}.dvc"
        if pointer.is_file() and not (tree / source).exists():
            code, said = _dvc(tree, "pull", "--quiet", str(pointer.relative_to(tree)))
            if code:
                raise TokkaError(f"{source} cannot be pulled by DVC: {said}", "`dvc push` it, or check its remote")


def _dvc(tree: Path, *arguments: str) -> tuple[int, str]:
    """DVC's exit code and the first line of its errors; it leaves folders where temporary ones are made."""
    with tempfile.TemporaryDirectory(prefix="tokka-dvc-") as place:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=tree, env={**os.environ, "TMPDIR": place}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.returncode, (done.stderr.strip().splitlines() or ["it said nothing"])[0]


def last_object(text: str) -> JsonObject:
    """The object that a command with --json has ended its output with; empty when there is none."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return {}


def outcome(ran: Ran, start: str) -> JsonObject:
    """What is kept and told of a start: run, verdict, version, digests, link."""
    told: Tree = ran.told
    if start == "submit" and ran.code == 0:
        return {name: told.get(name) for name in ("run_id", "name", "key", "version", "link")} | {"verdict": "started"}
    gate, canary = (told.get(name) or {} for name in ("gate", "canary"))
    kept = {name: told.get(name) for name in ("key", "version", "run_id", "data_digest", "model_digest", "review")}
    verdict = canary.get("verdict") or gate.get("verdict") or ("made" if told.get("cached") else "failed")
    return kept | {
        "verdict": verdict, "reasons": [*gate.get("reasons", []), *canary.get("reasons", [])],
        "metrics": told.get("metrics"), "link": told.get("mlflow"), "report": told.get("report"),
    }  # fmt: skip


class End(NamedTuple):
    """How a run ended."""

    state: State
    reason: str
    result: JsonObject


def follow(entry: Entry) -> End | None:
    """The end of a push's run, None while it goes on; TokkaError when Kubeflow does not answer."""
    from tokka.runs import remote_run
    from tokka.runs.kfp_server import KfpServer
    from tokka.settings import KubeflowSettings

    server = KfpServer(KubeflowSettings.from_environment())
    run = remote_run.find(server, str(entry.result["run_id"]))
    if str(run.state) not in remote_run.ENDED:
        return None
    final, error = remote_run.follow(server, run.run_id, lambda event: None)
    told = outcome(Ran(code=0, told={**final, "mlflow": final["kubeflow"]}), "run")
    found = {**entry.result, **{name: value for name, value in told.items() if value}}
    if error is None:
        return End("done", entry.reason, {**found, "verdict": _verdict(found, "succeeded")})
    if told["reasons"]:
        return End("done", entry.reason, found)
    state: State = "refused" if error.exit_code == REFUSED else "failed"
    return End(
        state, f"{entry.reason}: {error.message}", {**found, "verdict": "refuse" if state == "refused" else state}
    )


def _verdict(found: JsonObject, otherwise: str) -> object:
    """A run whose logs are gone has said no verdict."""
    return otherwise if found.get("verdict") in ("failed", "started") else found["verdict"]
