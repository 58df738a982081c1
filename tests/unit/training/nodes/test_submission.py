"""The step with `finetuning.nodes: 2`: a TrainJob whose pods are processes of this machine, over a fake of the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.kubernetes_api import FakeApi
from tests.fixtures.nodes import Nodes
from tests.fixtures.ports import free_port
from tests.fixtures.training import MakeParams
from tokka import objects
from tokka.kubernetes.api import Kind, Object
from tokka.kubernetes.train_job import TRAIN_JOBS
from tokka.model.base import resolve_base
from tokka.settings import Settings
from tokka.store import StepStore
from tokka.training import trained_weights
from tokka.training.finetuning import finetune_step, training_key
from tokka.training.nodes import submission
from tokka.training.nodes.exchange import Exchange, Request


class Trainer(FakeApi):
    """Starts the nodes of a TrainJob when it is made, and says how they are when it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("trainer.kubeflow.org",))
        self._folder = folder
        self.nodes: Nodes | None = None

    def create(self, kind: Kind, body: Object) -> Object:
        trainer = body["spec"]["trainer"]
        self.nodes = Nodes(trainer["command"][-1], trainer["numNodes"], self._folder, free_port())
        return super().create(kind, body)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        job = super().get(kind, name, namespace)
        if job is not None and kind == TRAIN_JOBS and self.nodes is not None:
            codes = [process.poll() for process in self.nodes.processes]
            ended = "Complete" if codes == [0, 0] else "Failed" if any(codes) else ""
            job["status"] = {"conditions": [{"type": ended, "status": "True", "message": self.nodes.log(0)}]}
        return job


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    api = Trainer(tmp_path / "nodes")
    monkeypatch.setattr(submission, "_connected", lambda: api)
    yield api
    if api.nodes is not None:
        with api.nodes:
            pass


def settings(home: Path, bucket: str) -> Settings:
    return Settings.from_environment({"TOKKA_HOME": str(home), "TOKKA_ARCHIVE": f"{bucket}/archive"})


def test_the_step_exports_what_its_nodes_have_trained(
    prepared: Path, make_params: MakeParams, trainer: Trainer, bucket: str, tmp_path: Path
) -> None:
    params, first = make_params(nodes=2), settings(tmp_path / "one", bucket)
    outcome = finetune_step(prepared, params, first, tmp_path / "model", "d" * 64)
    assert not outcome["reused"] and not outcome["training_reused"]
    assert [curve["epoch"] for curve in outcome["curves"]] == [1.0, 2.0]
    assert trainer.objects[TRAIN_JOBS] == {} and objects.names(f"{bucket}/archive") == []
    # A step that was lost after its nodes had ended: the next one finds what they made.
    key = training_key(params, "d" * 64, outcome["base"]["digest"])
    entry = StepStore(first.home / "store").find(trained_weights.STEP, key)
    assert entry is not None
    exchange = Exchange.of(first, key)
    exchange.offer(Request(key, "d" * 64, params, prepared, resolve_base(params.model, tmp_path), None))
    exchange.give(entry)
    made = trainer.calls.count(("create", f"trainjobs/{submission.name_of(key)}"))
    again = finetune_step(prepared, params, settings(tmp_path / "two", bucket), tmp_path / "again", "d" * 64)
    assert again["digest"] == outcome["digest"]
    assert trainer.calls.count(("create", f"trainjobs/{submission.name_of(key)}")) == made == 1
