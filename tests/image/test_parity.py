"""The same run as processes and as containers: the same data, split, decisions and, on one machine, the same model.

The key may differ, since it holds the version of Python. The model would where OPENBLAS_CORETYPE or the like chooses
other kernels: what says so is passed on. Pods are compared in tests/cluster.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tests.loop.world import World


def run(world: World, runner: str, tag: str) -> dict:
    told = subprocess.run(
        [sys.executable, "-m", "tokka.cli.main", "run", "--json", "--runner", runner, "--params", world.params_file],
        env={**world.environment, "TOKKA_IMAGE": f"tokka/pipeline:{tag}"}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.timeout(1800)
def test_processes_and_containers_make_the_same(tag: str, tmp_path: Path) -> None:
    base, made = make_tiny_base(tmp_path / "base"), {}
    for runner in ("subprocess", "docker"):
        world = World(tmp_path / runner, base, finetuning={"precision": "32"})
        try:
            made[runner] = run(world, runner, tag)
        finally:
            world.close()
    for name in ("data_digest", "model_digest", "version", "review"):
        print(name, *(f"{runner}: {found[name]}" for runner, found in made.items()))
        assert made["subprocess"][name] == made["docker"][name], name
    verdicts = [(found["gate"]["verdict"], found["canary"]["verdict"]) for found in made.values()]
    print("verdicts", verdicts)
    assert verdicts[0] == verdicts[1] == ("pass", "promoted")
    figures = [found["metrics"]["candidate"]["accuracy"] for found in made.values()]
    assert figures[0] == figures[1]
