"""What is nice to know of an evaluation and no rule reads: measured part by part, once the endpoint answers.

details.json says in `pending` which parts are still to come, so that a completion that was killed goes on with the
next part; a part that is there is not measured again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tokka import files, progress
from tokka.data.preparation import prepared as prepared_rows
from tokka.errors import TokkaError
from tokka.evaluation import alternatives, evidence
from tokka.evaluation.alternatives import Benchmark
from tokka.evaluation.behaviour import evaluate_behaviour
from tokka.evaluation.gate.gate import decide
from tokka.evaluation.label_quality import evaluate_insight
from tokka.evaluation.metrics import test_set
from tokka.evaluation.metrics.metrics import Floats
from tokka.evaluation.models import forms, scoring
from tokka.evaluation.models.learning_curve import learning_curve, reading
from tokka.evaluation.models.scoring import OpenedModel
from tokka.evaluation.recompute import look
from tokka.files import JsonObject, Tree
from tokka.params import Params


def wanted(params: Params) -> list[str]:
    """The parts that params.yaml asks for, in the order in which they are measured: the quickest first."""
    asked = {
        "behaviour": params.evaluation.behaviour is not None,
        "alternatives": True,
        "insight": params.evaluation.insight,
        "learning_curve": bool(params.evaluation.learning_curve),
    }
    return [name for name, is_asked in asked.items() if is_asked]


def merge(details: Tree, part: str, extra: Tree) -> JsonObject:
    """The details with what one part has measured. Pure; the same part twice is the same as once.

    An object is joined with the one that is there, any other value replaces it.
    """
    joined = {name: _joined(details.get(name), value) for name, value in extra.items()}
    return {**details, **joined, "pending": [name for name in details.get("pending", []) if name != part]}


def _joined(old: object, new: object) -> object:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


def complete(
    folder: Path,
    prepared: Path,
    candidate: Path,
    champion: Path | None,
    params: Params,
    cache: Path,
    publish: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Measure every part that `folder` (an evidence folder) still lacks, and bring its details and report up to date.

    `champion`: the model folder of the champion that was compared with, for its behaviour; None without one; `cache`:
    where base models are kept, in the home that holds the store of trainings; `publish`: called with the folder after
    each part. TokkaError when the rows or the candidate are not those that were evaluated. A part that cannot be
    measured does not raise: the details say why in `problems`.
    """
    details, evaluation = (files.read_json(folder / f"{name}.json") for name in ("details", "evaluation"))
    decision = details.get("gate") or decide(evaluation, params, look(folder, evaluation, params)).as_dict()
    evidence.write_page(folder, evaluation, details, decision)
    measurements = Measurements(folder, prepared, candidate, champion, params, cache)
    for part in list(details.get("pending", [])):
        progress.report("evaluate", f"completing the report: {part.replace('_', ' ')}")
        try:
            extra = getattr(measurements, part)(details)
        except TokkaError as error:
            extra = {"problems": {part: error.message}}
        details = merge(details, part, extra)
        evidence.write_page(folder, evaluation, details, decision)
        publish(folder)


@dataclass(frozen=True)
class Measurements:
    """One method for each part: from the details so far to what it adds to them. Opens what it needs, once."""

    folder: Path
    prepared: Path
    candidate_folder: Path
    champion_folder: Path | None
    params: Params
    cache: Path

    def behaviour(self, details: Tree) -> JsonObject:
        """The tests of the behaviour file on candidate and champion."""
        models = [self.candidate, *([self.champion] if self.champion else [])]
        return {"behaviour": evaluate_behaviour(self.params, self.benchmark.test, models)}

    def alternatives(self, details: Tree) -> JsonObject:
        """The ways that the gate does not judge, the recommendation over all of them, and the forms side by side."""
        benchmark, old = self.benchmark, details["decision"]
        ways = alternatives.measured_ways(benchmark, old["rows"], self.scores, self.candidate)
        found = alternatives.decision(ways, benchmark) | {name: old[name] for name in ("curve", "reading")}
        known = {way.row.name: way.scores for way in ways if way.scores is not None}
        known[self.candidate.predictor.form] = self.scores["candidate"]
        return {"decision": found, "forms": forms.compare_forms(self.candidate, benchmark.test, known, self.params)}

    def insight(self, details: Tree) -> JsonObject:
        """Doubtful labels and near-duplicates of the training rows."""
        return {"insight": evaluate_insight(self.benchmark.data, self.params, self.evaluation["overlap"], self.cache)}

    def learning_curve(self, details: Tree) -> JsonObject:
        """The recipe on shares of the training rows, and the candidate as the whole."""
        benchmark, candidate = self.benchmark, details["decision"]["rows"][0]
        points = learning_curve(self.prepared, benchmark.test, benchmark.metric, self.params, benchmark.home)
        whole = {name: candidate[name] for name in ("low", "high")} | {"value": candidate["quality"], "problem": ""}
        whole |= {"share": 1.0, "rows": benchmark.data.train.num_rows, "seconds": None}
        curve = [*points, {**whole, "cpu_seconds": candidate["training_cpu_seconds"]}]
        rule = benchmark.rule
        return {"decision": {"curve": curve, "reading": reading(curve, rule.margin, higher=rule.higher)}}

    @cached_property
    def evaluation(self) -> JsonObject:
        """evaluation.json."""
        found: JsonObject = files.read_json(self.folder / "evaluation.json")
        return found

    @cached_property
    def scores(self) -> dict[str, Floats]:
        """What each model gave on the test rows, by its name."""
        with np.load(self.folder / evidence.SCORES, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}

    @cached_property
    def candidate(self) -> OpenedModel:
        """The model that was evaluated."""
        return scoring.open_model("candidate", "", self.candidate_folder)

    @cached_property
    def champion(self) -> OpenedModel | None:
        """The champion of that time."""
        if self.evaluation["champion"] is None or self.champion_folder is None:
            return None
        return scoring.open_model("champion", self.evaluation["champion"]["version"], self.champion_folder)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The same test rows and classes as the evaluation's; TokkaError when they are not."""
        data = prepared_rows.load(self.prepared)
        measured = [self.evaluation[name] for name in ("candidate", "champion")]
        known = [label for one in measured if one for label in one["labels"]]
        test = test_set.open_test(data, known, self.params.evaluation.slices_minimum_rows)
        if test.digest != self.evaluation["test"]["digest"]:
            raise TokkaError(f"the rows in {self.prepared} are not those that were evaluated", "evaluate again")
        return Benchmark(data, test, self.params, self.cache, self.cache.parent, self.evaluation["metric"])
