"""A worker's start: what it is told, and what it imports."""

import os
import subprocess
import sys

import pytest

from tests.fixtures.models import deploy, make_model
from tokka.serving.options import ENVIRONMENT, WorkerOptions, command
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


@pytest.mark.parametrize(
    ("digest", "signed", "reason"), [("f" * 64, True, "the deployment record says ffff"), ("", False, "signature")]
)
def test_a_pod_whose_model_is_another_or_unsigned_ends_with_the_reason_and_never_listens(
    tmp_path, digest, signed, reason
):
    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)})
    made = make_model(tmp_path / "model", seed=1)
    deployed = deploy(tmp_path / "model", made, settings)
    folder = deployed if signed else tmp_path / "model"
    told = command(WorkerOptions(model_dir=folder, ready_file=tmp_path / "ready.json"))
    environment = {**os.environ, **ENVIRONMENT, **settings.environment()}
    environment["TOKKA_MODEL_URI"] = f"tokka://helpdesk/3/{digest or made}"
    done = subprocess.run(told, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and reason in done.stderr.splitlines()[-1]
    assert '"port"' not in (tmp_path / "ready.json").read_text()
    print(done.stderr.splitlines()[-1])
