"""A worker's start: what it is told, and what it imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.fixtures.models import deploy, make_model
from tokka.serving.options import MODULE, WorkerOptions, command
from tokka.settings import Settings

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "mlflow", "kserve", "fastapi", "sigstore", "sqlalchemy", "httpx")
LOADED = """
import sys
from tokka.serving.options import WorkerOptions
from tokka.serving.server import import_endpoints, make_service
make_service(WorkerOptions.model_validate_json(sys.argv[1]))
import_endpoints()
print([name for name in {heavy!r} if name in sys.modules])
"""


def test_a_worker_loads_a_signed_model_and_imports_nothing_heavy(tmp_path):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)})
    digest = make_model(tmp_path / "model", seed=1)
    folder = deploy(tmp_path / "model", digest, settings)
    options = WorkerOptions(model_dir=folder, ready_file=tmp_path / "ready.json", digest=digest, signed=True)
    program = [sys.executable, "-c", LOADED.format(heavy=HEAVY), options.model_dump_json()]
    done = subprocess.run(program, env=settings.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_worker_is_told_everything_in_one_argument():
    options = WorkerOptions(model_dir=Path("a b"), ready_file=Path("ready.json"), version="3", max_rows=4, jobs=True)
    *program, told = command(options)
    assert program[-2:] == ["-m", MODULE]
    assert WorkerOptions.model_validate_json(told) == options
    assert set(json.loads(told)) == {"model_dir", "ready_file", "version", "max_rows", "jobs"}


def test_what_a_worker_does_not_know_is_refused():
    with pytest.raises(ValidationError, match="max_row"):
        WorkerOptions.model_validate_json('{"model_dir": "a", "ready_file": "b", "max_row": 3}')
