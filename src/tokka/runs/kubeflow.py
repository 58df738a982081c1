"""The only module that talks to Kubeflow Pipelines: compile the IR, and run it on this machine.

    python -m tokka.runs.kubeflow run/launch.json      # the child process that `tokka run` starts

The laptop runs the compiled files, not the Python functions: what is tested here is what the cluster gets.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import TokkaError, UsageError

PIPELINES = ("retrain", "specialise", "rollout")


def compile_pipelines(root: Path, folder: Path) -> list[Path]:
    """Write `<folder>/<pipeline>.yaml` for each pipeline of the project at `root`.

    Raises:
        UsageError: `root` is no Tokka project.
        TokkaError: a pipeline does not compile.
    """
    if not (root / "pipelines" / "compile.py").is_file():
        raise UsageError(f"{root} has no pipelines/compile.py", "run from the project's root, or set TOKKA_ROOT")
    command = [sys.executable, "-m", "pipelines.compile", str(folder)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise TokkaError(f"the pipelines do not compile: {run.stderr.strip().splitlines()[-1]}", " ".join(command))
    return [Path(line) for line in run.stdout.split()]


def run_local(ir: Path, arguments: Mapping[str, Any], *, runner: str, pipeline_root: Path) -> None:
    """Run one compiled pipeline to its end through kfp.local.

    Raises:
        RuntimeError: a task failed; which one and why stands in the run's events.
    """
    from kfp import components, local

    local.init(_runner(runner), pipeline_root=str(pipeline_root), raise_on_error=True)
    components.load_component_from_file(str(ir))(**arguments)


def _runner(name: str) -> Any:
    from kfp import local

    if name == "subprocess":
        return local.SubprocessRunner(use_venv=False)
    kept = {key: value for key, value in os.environ.items() if key.startswith(("TOKKA_", "MLFLOW_", "HF_"))}
    home = os.environ["TOKKA_HOME"]
    return local.DockerRunner(
        user=f"{os.getuid()}:{os.getgid()}",
        environment={"HOME": "/tmp", **kept},
        network_mode="host",
        mounts=[{"Type": "bind", "Source": home, "Target": home}],
    )


def main() -> None:
    """Run what a launch file says: {"ir", "arguments", "runner", "pipeline_root"}."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    launch = files.read_json(Path(sys.argv[1]))
    run_local(
        Path(launch["ir"]),
        launch["arguments"],
        runner=launch["runner"],
        pipeline_root=Path(launch["pipeline_root"]),
    )


def _end_with_parent(parent: int) -> None:
    """A killed `tokka run` must not leave a training behind that nobody waits for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
