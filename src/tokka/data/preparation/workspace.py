"""One DVC workspace per run, without git: a stage, its lock, and a remote that receives the data.

Two runs never share one (a concurrent `dvc repro` fails on its lock), and the cache is the workspace's own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tokka import files, settings
from tokka.data.preparation.stage import PREPARED, REFUSAL, VALIDATED
from tokka.errors import Refused, TokkaError
from tokka.params import Params
from tokka.settings import Settings

TIMEOUT_SECONDS = 3600
COMMAND = "python -m tokka.data.preparation.stage"
# What the stage reads from params.yaml, and so what makes DVC run it again.
SECTIONS = ("task", "preprocessing")


class Workspace:
    """A folder that DVC works in."""

    def __init__(self, folder: Path, where: Settings) -> None:
        self.folder, self.settings = folder, where

    def make(self, validated: Path, params: Params, environment: dict[str, str]) -> None:
        """Lay out inputs, params.yaml, dvc.yaml and the configuration."""
        (self.folder / ".dvc").mkdir(parents=True)
        # Write access to DVC's folders allows running code through its disk cache.
        for folder in (self.folder, self.folder / ".dvc"):
            folder.chmod(0o700)
        (self.folder / VALIDATED).mkdir(parents=True)
        for name in ("rows.parquet", "test.parquet"):
            shutil.copyfile(validated / name, self.folder / VALIDATED / name)
        files.write_text(self.folder / ".dvc/config", _config(self.settings.remote))
        files.write_text(self.folder / "params.yaml", yaml.safe_dump(_stage_params(params), sort_keys=True))
        files.write_json(self.folder / "environment.json", environment)
        files.write_text(self.folder / "dvc.yaml", yaml.safe_dump(_stages(), sort_keys=False))

    def fetch_runs(self) -> bool:
        """Ask the remote for runs that were made elsewhere; False when it has none or cannot be read."""
        remote = self.settings.remote
        if "://" not in remote and not Path(remote, "runs").is_dir():
            return False
        return self._dvc("fetch", "--run-cache").returncode == 0

    def reproduce(self, *options: str) -> bool:
        """`dvc repro`; True when the stage was computed here, False when its output came from a cache.

        Raises:
            TokkaError: DVC failed; the message has its last line.
        """
        run = self._dvc("repro", *options, quiet=False)
        if run.returncode != 0:
            self._raise_refusal()
            raise TokkaError(f"dvc repro failed: {_last_line(run)}", f"the workspace is {self.folder}")
        return "Running stage" in run.stdout

    def push(self) -> None:
        """Send data and runs to the remote.

        Raises:
            TokkaError: the remote does not take them.
        """
        run = self._dvc("push", "--run-cache")
        if run.returncode != 0:
            raise TokkaError(
                f"the DVC remote {self.settings.remote} does not take the data: {_last_line(run)}",
                "check TOKKA_REMOTE, its credentials and its free space",
            )

    def forget_cache(self) -> None:
        """Throw away what DVC keeps here, when it does not verify."""
        for path in (self.folder / ".dvc/cache", self.folder / PREPARED):
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / "dvc.lock").unlink(missing_ok=True)

    def lock_text(self) -> str:
        """What `dvc.lock` says."""
        return (self.folder / "dvc.lock").read_text(encoding="utf-8")

    def _dvc(self, *arguments: str, quiet: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", arguments[0], *(["--quiet"] if quiet else []), *arguments[1:]]
        environment = {**os.environ, **self.settings.environment(), **settings.QUIET}
        # The stage names plain `python`, so that its line is the same on every machine: ours must be the first.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        try:
            return subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                text=True,
                capture_output=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TokkaError(
                f"dvc {arguments[0]} took more than {TIMEOUT_SECONDS} s", "is the DVC remote reachable?"
            ) from None

    def _raise_refusal(self) -> None:
        """What the stage refused in its own process is refused here in the same words."""
        path = self.folder / REFUSAL
        if path.is_file():
            found = files.read_json(path)
            kind = Refused if found["exit_code"] == Refused.exit_code else TokkaError
            raise kind(found["error"], found["hint"])


def _config(remote: str) -> str:
    # `verify`: by default DVC does not check what a remote sends. `copy`: no links into the cache.
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    remote = tokka\n"
        "[cache]\n    type = copy\n"
        f"['remote \"tokka\"']\n    url = {remote}\n    verify = true\n"
    )


def _stage_params(params: Params) -> dict[str, object]:
    tree = params.model_dump(mode="json", include=set(SECTIONS))
    # Where the data lay is not what it is: only whether there was an official test file matters to the stage.
    return {
        **tree,
        "data": {"source": VALIDATED.as_posix(), "test": VALIDATED.as_posix() if params.data.test else None},
    }


def _stages() -> dict[str, object]:
    stage = {
        "cmd": COMMAND,
        "deps": [f"{VALIDATED}/rows.parquet", f"{VALIDATED}/test.parquet", "environment.json"],
        "params": ["task", "preprocessing", "data.test"],
        "outs": [PREPARED.as_posix()],
    }
    return {"stages": {"preprocess": stage}}


def _last_line(run: subprocess.CompletedProcess[str]) -> str:
    found = [line.strip() for line in (run.stderr + "\n" + run.stdout).splitlines() if line.strip()]
    errors = [line for line in found if "ERROR" in line or "rror:" in line]
    return (errors or found or [f"exit code {run.returncode}"])[0][:300]
