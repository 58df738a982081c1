"""What is in the images, what is not, and that any user may run them on a file system that cannot be written."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.models import make_model
from tests.fixtures.waiting import wait_for
from tests.image.conftest import CONFINED, DOCKER, Run

MOST_BYTES = {"server": 500_000_000, "pipeline": 2_200_000_000}
EACH = pytest.mark.parametrize("target", MOST_BYTES)


@EACH
def test_it_is_small_and_says_what_it_is(tag: str, target: str) -> None:
    told = json.loads(subprocess.check_output([DOCKER, "image", "inspect", f"tokka/{target}:{tag}"], text=True))[0]
    assert told["Size"] < MOST_BYTES[target]
    labels = told["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == f"Tokka {target}"
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert told["Config"]["User"] == "10001:10001"
    assert (told["Config"].get("Healthcheck") is not None) == (target == "server")


@EACH
def test_its_user_has_a_name_and_both_pythons_are_there(confined: Run, target: str) -> None:
    assert "tokka:x:10001:10001" in confined(target, "cat", "/etc/passwd")
    told = confined(target, "sh", "-c", "command -v python; command -v python3; python3 -m tokka.cli.main --help")
    assert told.startswith("/opt/venv/bin/python\n/opt/venv/bin/python3\n")


@EACH
@pytest.mark.parametrize("tool", ["gcc", "cc", "make", "pip", "uv"])
def test_nothing_can_be_built_or_installed_in_it(confined: Run, target: str, tool: str) -> None:
    assert confined(target, "sh", "-c", f"command -v {tool} | grep -v ^/usr || true") == ""


@EACH
def test_no_cache_of_an_installer_is_left(confined: Run, target: str) -> None:
    found = confined(target, "sh", "-c", "ls -d /root/.cache/* /tmp/* /wheels /src /opt/uv 2>/dev/null || true")
    assert found == ""


def test_what_trains_is_not_where_it_serves(confined: Run) -> None:
    code = "import importlib.util as u; print([n for n in %r if u.find_spec(n)])"
    absent = ["torch", "lightning", "kfp", "evidently", "transformers", "great_expectations"]
    assert confined("server", "python", "-c", code % absent).strip() == "[]"
    assert confined("pipeline", "python", "-c", code % absent).strip() == str(absent)


def test_every_library_of_a_step_can_be_imported(confined: Run) -> None:
    names = (
        "torch, lightning, transformers, peft, mlflow.server, kfp, kfp.kubernetes, dvc.api, dvc_s3, great_expectations,"
        " evidently.presets, onnx, onnxscript, pyarrow.dataset, sklearn.linear_model, scipy.stats, cleanlab, optuna,"
        " matplotlib.pyplot, plotly.graph_objects, psycopg, boto3, codecarbon, datasketch, model_signing.signing"
    )
    confined("pipeline", "python", "-c", f"import {names}")


def test_the_form_starts_as_it_stands(confined: Run) -> None:
    told = confined("pipeline", "tokka", "doctor", options=("--env", "HF_HUB_OFFLINE=1"))
    assert "✗" not in told
    assert "sample.csv" in told


@pytest.fixture
def served(tag: str, tmp_path: Path) -> Iterator[str]:
    make_model(tmp_path / "model", seed=1)
    (tmp_path / "model").chmod(0o755)
    command = [
        DOCKER,
        "run",
        "--detach",
        *CONFINED,
        "--volume",
        f"{tmp_path}/model:/mnt/models:ro",
        f"tokka/server:{tag}",
    ]
    name = subprocess.check_output(command, text=True).strip()
    yield name
    subprocess.run([DOCKER, "rm", "--force", name], capture_output=True, check=True)


def test_a_model_is_served_and_found_healthy(served: str) -> None:
    def health() -> str:
        return subprocess.check_output([DOCKER, "inspect", "--format", "{{.State.Health.Status}}", served], text=True)

    wait_for(lambda: health().strip() == "healthy", what=lambda: subprocess.getoutput(f"{DOCKER} logs {served}"))
    ask = (
        "import json, urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:8080/predict',"
        " json.dumps({'texts': ['my card is lost']}).encode(), {'content-type': 'application/json'})).read().decode())"
    )
    answer = json.loads(subprocess.check_output([DOCKER, "exec", served, "python", "-c", ask], text=True))
    assert len(answer["predictions"]) == 1
