"""What sabotage is done to: a serving champion, a good candidate with its evidence, and all that must not change."""

import json
import shutil
import uuid
from pathlib import Path

from tokka.deployment.record.record import Record
from tokka.gateway.client import predict
from tokka.params import Params
from tokka.registry.mlflow_client import Registry
from tokka.steps import canary, evaluate, finetune, gate, preprocess, register, review, validate_data

QUESTION = "where is my parcel"


class Victim:
    """The steps of a run, one by one, on a world of its own."""

    def __init__(self, world) -> None:
        self.world = world
        self.settings = world.settings
        self.params = world.params("finetuning.seed=1")
        self.folder = world.home / "work"
        first = self.params.model_copy(
            update={"finetuning": self.params.finetuning.model_copy(update={"epochs": 1, "seed": 2})}
        )
        validate_data.run(self.params, self.settings, self.folder / "rows")
        preprocess.run(self.params, self.settings, self.folder / "rows", self.folder / "prepared")
        self.champion_model = self.train(first, "champion")
        run_id = self.evaluate(self.champion_model, params=first)[0]
        found = self.judge(run_id, params=first)
        assert found["verdict"] == "pass", [rule for rule in found["rules"] if rule["verdict"] == "refuse"]
        self.outcome = self.roll_out(register.run(first, self.settings, run_id))
        assert self.outcome["verdict"] == "promoted"
        self.model = self.train(self.params, "candidate")
        self.run_id, self.evaluation = self.evaluate(self.model)

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def evidence(self) -> Path:
        return self.folder / f"evidence-{self.run_id}"

    def train(self, params: Params, name: str, prepared: Path | None = None) -> Path:
        finetune.run(params, self.settings, prepared or self.prepared, self.folder / name)
        return self.folder / name

    def evaluate(self, model: Path, prepared: Path | None = None, params: Params | None = None):
        """Log a run of its own and return its id and evaluation; the evidence is kept under the id."""
        out = self.folder / uuid.uuid4().hex
        run_id, found = evaluate.run(
            params or self.params, self.settings, prepared=prepared or self.prepared, model=model,
            key=uuid.uuid4().hex, snapshot="", out=out,
        )  # fmt: skip
        out.rename(self.folder / f"evidence-{run_id}")
        return run_id, found

    def judge(self, run_id: str, evidence: Path | None = None, params: Params | None = None) -> dict:
        evidence = evidence or self.folder / f"evidence-{run_id}"
        out = self.folder / uuid.uuid4().hex
        return gate.run(params or self.params, self.settings, evaluation=evidence, run_id=run_id, out=out)

    def register(self, run_id: str, override: str = "") -> str:
        return register.run(self.params, self.settings, run_id, override)

    def review(self, version: str, params: Params | None = None) -> str:
        return review.run(params or self.params, self.settings, version)

    def roll_out(self, version: str, params: Params | None = None) -> dict:
        return canary.run(params or self.params, self.settings, version, self.folder / uuid.uuid4().hex)

    def copy(self, folder: Path) -> Path:
        target = self.folder / uuid.uuid4().hex
        shutil.copytree(folder, target)
        return target

    def tampered(self, change) -> Path:
        """The candidate's evidence with evaluation.json changed by a function."""
        folder = self.copy(self.evidence)
        path = folder / "evaluation.json"
        tree = json.loads(path.read_text())
        change(tree)
        path.write_text(json.dumps(tree))
        return folder

    def snapshot(self) -> dict:
        """All that sabotage must leave as it was: registry, record, and who answers."""
        registry = Registry(self.settings, self.params.registry.model)
        state = Record(self.settings.record_url).read(self.params.registry.model)
        (answer,) = predict(f"http://127.0.0.1:{self.settings.port}", [QUESTION])
        return {
            "versions": [version.version for version in registry.versions()],
            "aliases": registry.aliases(),
            "champion": state.champion,
            "challenger": state.challenger,
            "previous": state.previous,
            "share": state.share,
            "answer": (answer["model_version"], answer["label"], answer["canary"]),
        }
