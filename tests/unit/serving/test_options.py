"""What a worker is told: everything in one argument, and nothing that it does not know."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tokka.deployment.kserve import target
from tokka.errors import UsageError
from tokka.sections_serving import Serving
from tokka.serving.options import MODULE, TOLD, WorkerOptions, command, in_pod


def test_a_worker_is_told_everything_in_one_argument():
    options = WorkerOptions(model_dir=Path("a b"), ready_file=Path("ready.json"), version="3", max_rows=4, jobs=True)
    *program, told = command(options)
    assert program[-2:] == ["-m", MODULE]
    assert WorkerOptions.model_validate_json(told) == options
    assert set(json.loads(told)) == {"model_dir", "ready_file", "version", "max_rows", "jobs"}


def test_what_a_worker_does_not_know_is_refused():
    with pytest.raises(ValidationError, match="max_row"):
        WorkerOptions.model_validate_json('{"model_dir": "a", "ready_file": "b", "max_row": 3}')


def test_in_a_pod_kserve_says_which_model_it_is():
    options = WorkerOptions(model_dir=Path("/mnt/models"))
    assert in_pod(options, {}) == options
    told = in_pod(options, {"TOKKA_MODEL_URI": f"tokka://helpdesk/3/{'a' * 64}"})
    assert (told.name, told.version, told.digest) == ("helpdesk", "3", "a" * 64)
    assert told.signed and told.metrics
    with pytest.raises(UsageError, match="no address"):
        in_pod(options, {"TOKKA_MODEL_URI": "s3://somewhere"})


def test_in_a_pod_the_reconciler_says_what_params_say_of_serving():
    options, uri = WorkerOptions(model_dir=Path("/mnt/models"), drain_s=65), f"tokka://helpdesk/3/{'a' * 64}"
    environment = {"TOKKA_MODEL_URI": uri, TOLD: json.dumps({**Serving(threshold=0.6).to_workers, "store_text": True})}
    told = in_pod(options, environment)
    assert (told.threshold, told.store_text, told.batch, told.drain_s) == (0.6, True, 16, 65)
    with pytest.raises(UsageError, match="TOKKA_SERVING: treshold"):
        in_pod(options, {**environment, TOLD: '{"treshold": 0.6}'})
    with pytest.raises(UsageError, match="TOKKA_SERVING"):
        in_pod(options, {**environment, TOLD: "threshold"})


def test_both_sides_call_it_the_same():
    assert target.TOLD == TOLD
