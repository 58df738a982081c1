"""A world of its own for one loop: a home, a port, a small corpus, a tiny base model, and the command line."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

from tests.fixtures.ports import free_port
from tokka import pending
from tokka.data.sample import make_sample
from tokka.deployment.record.record import Record
from tokka.params import Params, load_params
from tokka.settings import Settings
from tokka.stack import stack

ROOT = Path(__file__).parents[2]
TIMEOUT = 240


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

    def wait_for_event(self, step: str, event: str, timeout: float = TIMEOUT) -> None:
        """Until the run that was started last has reported this."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for folder in set(self.home.glob("runs/*")) - self.earlier_runs:
                path = folder / "events.jsonl"
                if not path.exists():
                    continue
                events = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
                if any(found["step"] == step and found["event"] == event for found in events):
                    return
            time.sleep(0.05)
        raise AssertionError(f"{step} never said {event}")

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

    def completion(self, timeout: float = 30.0) -> int | None:
        """The process that completes an evaluation, as soon as there is one; None when all are complete before."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and pending.waiting(self.home):
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    if "tokka.steps.complete_evaluation" in process.cmdline():
                        return process.pid
            time.sleep(0.05)
        return None

    def wait_until_completed(self) -> None:
        """Until no evaluation waits to be completed."""
        deadline = time.monotonic() + TIMEOUT
        while waiting := pending.waiting(self.home):
            assert time.monotonic() < deadline, f"{waiting} never completed"
            time.sleep(0.1)

    def wait_until_quiet(self, timeout: float = 15.0) -> list[str]:
        """What is still running after a while; empty when nothing is."""
        deadline = time.monotonic() + timeout
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        return [" ".join(process.cmdline()) for process in self.processes()]

    def close(self) -> None:
        """Stop the stack, and whatever a failed test left."""
        command = [sys.executable, "-m", "tokka.cli.main", "down"]
        subprocess.run(command, env=self.environment, cwd=ROOT, check=False, timeout=TIMEOUT, capture_output=True)
        for process in self.processes():
            process.send_signal(signal.SIGKILL)


# Small enough for seconds, real in everything.
SMALL = {
    "task": {"slices": []},
    "finetuning": {"epochs": 3, "learning_rate": 0.003, "batch_size": 32},
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
