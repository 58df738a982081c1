"""A world of its own for one loop: a home, a port, a small corpus, a tiny base model, and the command line."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import yaml

from tests.fixtures.ports import free_port
from tests.fixtures.waiting import wait_for
from tokka import pending
from tokka.data.sample import make_sample
from tokka.deployment.record.record import Record
from tokka.params import Params, load_params
from tokka.settings import Settings
from tokka.stack import stack

ROOT = Path(__file__).parents[2]
# Of one command: a whole run beside other work, on two cores.
TIMEOUT = 1200


class World:
    """Everything that one loop needs; `close` takes the stack down."""

    def __init__(self, folder: Path, base: Path, rows: int = 1500, **sections: dict) -> None:
        self.home = folder / "home"
        self.data = folder / "sample.csv"
        self.params_file = folder / "params.yaml"
        make_sample(self.data, rows=rows, seed=3)
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["data"]["source"] = str(self.data)
        tree["model"]["base"] = str(base)
        for section, values in {**SMALL, **sections}.items():
            tree[section] |= {**SMALL.get(section, {}), **values}
        self.params_file.write_text(yaml.safe_dump(tree))
        self.environment = {
            **os.environ,
            "TOKKA_ROOT": str(ROOT),
            "TOKKA_HOME": str(self.home),
            "TOKKA_PORT": str(free_port()),
            "HF_HUB_OFFLINE": "1",
        }

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def params(self, *overrides: str) -> Params:
        return load_params(self.params_file, overrides)

    def start(self, *arguments: str) -> subprocess.Popen:
        """A `tokka` command in the background, in a process group of its own."""
        self.earlier_runs = set(self.home.glob("runs/*"))
        params = [] if arguments[0] == "down" else ["--params", str(self.params_file)]
        command = [sys.executable, "-m", "tokka.cli.main", *arguments, *params]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def tokka(self, *arguments: str, code: int = 0) -> dict:
        """A `tokka … --json` command to its end; its last line as an object."""
        return self.finish(self.start(*arguments, "--json"), code)

    def finish(self, child: subprocess.Popen, code: int = 0) -> dict:
        """Wait for a command and read its object; the exit code must be `code`."""
        out, error = child.communicate(timeout=TIMEOUT)
        assert child.returncode == code, f"exit {child.returncode}\n{out[-2000:]}\n{error[-4000:]}"
        assert "Traceback" not in error
        return json.loads(out.splitlines()[-1])

    def wait_for_event(self, step: str, event: str) -> None:
        """Until the run that was started last has reported this."""
        wait_for(lambda: (step, event) in self._events(), TIMEOUT, f"{event} of {step}")

    def _events(self) -> set[tuple[str, str]]:
        paths = [folder / "events.jsonl" for folder in set(self.home.glob("runs/*")) - self.earlier_runs]
        lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
        return {(found["step"], found["event"]) for found in map(json.loads, filter(_is_whole, lines))}

    def state(self):
        """The deployment record of the endpoint."""
        return Record(self.settings.record_url).read(self.params().registry.model)

    def processes(self) -> list[psutil.Process]:
        """Every process that works on this world's home."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("TOKKA_HOME") == str(self.home) and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def processes_of_runs(self) -> list[psutil.Process]:
        """Those that are not the stack's, which may be starting its helpers."""
        info = stack.status(self.settings)
        supervisor = [psutil.Process(info.pid)] if info else []
        stacks = {process.pid for one in supervisor for process in (one, *one.children(recursive=True))}
        return [process for process in self.processes() if process.pid not in stacks]

    def evidence(self) -> Path:
        """The evidence folder of the run that was made last."""
        return max(self.home.glob("runs/*/artifacts/*/evaluate/evidence"), key=lambda path: path.stat().st_mtime)

    def completion(self) -> int | None:
        """The process that completes an evaluation, as soon as there is one; None when all are complete before."""

        def found() -> int | str | None:
            if not pending.waiting(self.home):
                return "complete"
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    if "tokka.steps.complete_evaluation" in process.cmdline():
                        return process.pid
            return None

        pid = wait_for(found)
        return pid if isinstance(pid, int) else None

    def wait_until_completed(self) -> None:
        """Until no evaluation waits to be completed."""
        wait_for(lambda: not pending.waiting(self.home), TIMEOUT, lambda: pending.waiting(self.home))

    def wait_until_quiet(self) -> None:
        """Until none of this world's processes runs."""
        wait_for(lambda: not self.processes(), what=self.processes)

    def close(self) -> None:
        """Stop the stack, and whatever a failed test left."""
        command = [sys.executable, "-m", "tokka.cli.main", "down"]
        subprocess.run(command, env=self.environment, cwd=ROOT, check=False, timeout=TIMEOUT, capture_output=True)
        for process in self.processes():
            process.send_signal(signal.SIGKILL)


def _is_whole(line: str) -> bool:
    return line.endswith("}")


# Small enough for seconds, real in everything.
SMALL = {
    "task": {"slices": []},
    "finetuning": {"strategy": "full", "epochs": 3, "learning_rate": 0.003, "batch_size": 32},
    # The linear head and the insight have tests of their own, and take half a minute of every run here.
    "evaluation": {"bootstrap": 300, "learning_curve": [], "insight": False, "general": {"linear": False}},
    "gate": {"minimum": 0.05, "beat_general": True, "slice_margin": 0.5, "noninferiority_margin": 0.2},
    "canary": {
        "shadow_rows": 100,
        "steps": [0.5],
        "step_requests": 20,
        "minimum_wait_s": 0.0,
        "maximum_wait_s": 90.0,
        "watch_s": 0.0,
        "quality_margin": 0.3,
        # A margin of 1 leaves these two proofs to the tests of the judge: they take minutes of traffic.
        "error_margin": 1.0,
        "slow_margin": 1.0,
    },
}
