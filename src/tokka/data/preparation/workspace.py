"""One DVC workspace per run, without git: a stage, its lock, and a remote that receives the data.

Two runs never share one (a concurrent `dvc repro` fails on its lock), and the cache is the workspace's own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tokka import files, settings
from tokka.data.preparation.stage import INPUTS, PREPARED, REFUSAL, VALIDATED
from tokka.data.rows import OFFICIAL
from tokka.errors import Refused, TokkaError
from tokka.params import Params
from tokka.settings import Settings

TIMEOUT_SECONDS = 3600
# What the stage reads from params.yaml, and so what makes DVC run it again.
SECTIONS = ["task", "preprocessing"]
STAGE = {
    "cmd": "python -m tokka.data.preparation.stage",
    "deps": [*(f"{VALIDATED}/{name}" for name in INPUTS), "environment.json"],
    "params": [*SECTIONS, *(f"data.{name}" for name in OFFICIAL)],
    "outs": [PREPARED.as_posix()],
}


class Workspace:
    """A folder that DVC works in."""

    def __init__(self, folder: Path, where: Settings) -> None:
        self.folder, self.settings = folder, where

    def make(self, validated: Path, params: Params, environment: dict[str, str]) -> None:
        """Lay out inputs, params.yaml, dvc.yaml and the configuration."""
        (self.folder / ".dvc").mkdir(parents=True)
        # Write access to DVC's folders allows running code through its disk cache.
        self.folder.chmod(0o700)
        (self.folder / ".dvc").chmod(0o700)
        (self.folder / VALIDATED).mkdir(parents=True)
        for name in INPUTS:
            shutil.copyfile(validated / name, self.folder / VALIDATED / name)
        files.write_text(self.folder / ".dvc/config", _config(self.settings.remote))
        # Where the data lay is not what it is: only whether there were official files matters to the stage.
        place = VALIDATED.as_posix()
        data: dict[str, str | None] = {
            "source": place,
            **{name: place if getattr(params.data, name) else None for name in OFFICIAL},
        }
        tree = {**params.model_dump(mode="json", include=set(SECTIONS)), "data": data}
        files.write_text(self.folder / "params.yaml", json.dumps(tree, sort_keys=True, ensure_ascii=False))
        files.write_json(self.folder / "environment.json", environment)
        files.write_text(self.folder / "dvc.yaml", yaml.safe_dump({"stages": {"preprocess": STAGE}}, sort_keys=False))

    def fetch_runs(self) -> bool:
        """Ask the remote for runs that were made elsewhere; False when it has none or cannot be read."""
        remote = self.settings.remote
        if "://" not in remote and not Path(remote, "runs").is_dir():
            return False
        return self._dvc("fetch", "--run-cache").returncode == 0

    def reproduce(self, *options: str) -> bool:
        """`dvc repro` (TokkaError when it failed); whether the stage was computed here, not taken from a cache."""
        run = self._dvc("repro", *options, quiet=False)
        if run.returncode != 0:
            if (self.folder / REFUSAL).is_file():
                # What the stage refused in its own process is refused here in the same words.
                found = files.read_json(self.folder / REFUSAL)
                kind = Refused if found["exit_code"] == Refused.exit_code else TokkaError
                raise kind(found["error"], found["hint"])
            raise TokkaError(f"dvc repro failed: {_last_line(run)}", f"the workspace is {self.folder}")
        return "Running stage" in run.stdout

    def push(self) -> None:
        """Send data and runs to the remote; TokkaError when it does not take them."""
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

    def _storage(self) -> dict[str, str]:
        """What DVC has to be told of an S3 storage that is not Amazon's, where nobody has said otherwise."""
        if not any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
            return {}
        path = self.folder / ".dvc/aws"
        files.write_text(path, "[default]\ns3 =\n  addressing_style = path\n")
        known = {"AWS_CONFIG_FILE": str(path), "AWS_DEFAULT_REGION": "us-east-1"}
        checks = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
        return known | dict.fromkeys(checks, "when_required")

    def _dvc(self, *arguments: str, quiet: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", arguments[0], *(["--quiet"] if quiet else []), *arguments[1:]]
        environment = {**self._storage(), **os.environ, **self.settings.environment(), **settings.QUIET}
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


def _config(remote: str) -> str:
    # `verify`: by default DVC does not check what a remote sends. `copy`: no links into the cache.
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    remote = tokka\n"
        "[cache]\n    type = copy\n"
        f"['remote \"tokka\"']\n    url = {remote}\n    verify = true\n"
    )


def _last_line(run: subprocess.CompletedProcess[str]) -> str:
    lines = (line.strip() for line in (run.stderr + "\n" + run.stdout).splitlines())
    found = [line for line in lines if line and "dvc.org/support" not in line]
    errors = [line for line in found if "error" in line.lower()]
    return (errors or found or [f"exit code {run.returncode}"])[0][:300]
