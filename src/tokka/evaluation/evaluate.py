"""Measure candidate, champion and general baseline on the same frozen rows and write the evidence folder.

evaluation = evaluate(prepared, model, Champion("none", "", None, ""), params, out)
out / "report.html", out / "evaluation.json"

What the gate judges is measured here; what is nice to know besides, `complete.py` measures once the endpoint answers.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokka import progress
from tokka.data.preparation import prepared as prepared_rows
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation import alternatives, behaviour, complete, evidence
from tokka.evaluation.alternatives import Benchmark
from tokka.evaluation.gate import rules, schema
from tokka.evaluation.gate.schema import Champion
from tokka.evaluation.metrics import test_set
from tokka.evaluation.metrics.comparison import compare
from tokka.evaluation.metrics.cost import Latency, latency_in_turns
from tokka.evaluation.metrics.metrics import HIGHER_IS_BETTER
from tokka.evaluation.metrics.slices import by_confidence
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import scoring
from tokka.evaluation.models.scoring import OpenedModel, Scored
from tokka.params import Params
from tokka.registry import metrics as run_metrics
from tokka.settings import Settings

STEP = "evaluate"


def evaluate(
    prepared: Path,
    candidate: Path,
    champion: Champion,
    params: Params,
    out: Path,
    *,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write the evidence folder `out`, its details still to be completed; return the evaluation.

    Args:
        cache: where a base model from the hub is kept; default, the folder of the settings.

    Raises:
        TokkaError: the candidate, the data or the base model cannot be used. A champion that cannot be used does
            not raise: it makes the status "unreachable", which the gate refuses.
    """
    began, cache = time.monotonic(), cache or default_cache()
    behaviour.wanted_behaviour(params)  # a wrong file is said now, not after everything has been measured
    data = prepared_rows.load(prepared)
    offered = scoring.open_model("candidate", "", candidate)
    champion, serving = _open_champion(champion, data.task)
    models = [offered, *([serving] if serving else [])]
    known = [label for model in models for label in model.predictor.labels]
    test = test_set.open_test(data, known, params.evaluation.slices_minimum_rows)
    general = " and the general baseline" if params.evaluation.general.measure else ""
    progress.report(STEP, f"{len(models)} models{general} on {test.rows} test rows", fraction=0.1)
    scored, lost = _score(models, data, test, params, cache)
    if lost:
        champion, models = _unreachable(champion, lost), [offered]
    test = _sliced_by_confidence(test, scored, params)
    progress.report(STEP, f"intervals from {params.evaluation.bootstrap} resamples", fraction=0.7)
    evaluation = _evaluation(data, test, scored, _latencies(models, scored, test), champion, params)
    benchmark = Benchmark(data, test, params, cache, cache.parent, evaluation["metric"])
    opened = {model.name: model for model in models}
    details = {
        "decision": alternatives.decision(alternatives.known_ways(benchmark, evaluation, scored, opened), benchmark),
        "training_curves": _training_curves(offered, cache),
        "pending": complete.wanted(params),
    }
    evidence.write(out, evaluation, data, test, scored, offered, params, details, seconds=time.monotonic() - began)
    return evaluation


def default_cache() -> Path:
    """Where base models from the hub are kept."""
    return Settings.from_environment().home / "base"


def _score(
    models: Sequence[OpenedModel], data: Prepared, test: TestSet, params: Params, cache: Path
) -> tuple[dict[str, Scored], str]:
    """Every model's and the general baseline's answers, by name; and why there are none of the champion's."""
    country, lost = params.evaluation.country, ""
    with ThreadPoolExecutor(1) as beside:
        # It takes longest, in a process of its own: on the second core meanwhile.
        measure = params.evaluation.general.measure
        general = beside.submit(scoring.score_general, test, data, params, cache) if measure else None
        scored = {"candidate": scoring.score(models[0], test, country)}
        for serving in models[1:]:
            try:
                scored["champion"] = scoring.score(serving, test, country)
            except TokkaError as error:
                lost = error.message
        if general is not None:
            scored["general"] = general.result()
    return scored, lost


def _open_champion(champion: Champion, task: str) -> tuple[Champion, OpenedModel | None]:
    """The champion's model, or a status that says why there is none to compare with."""
    if champion.status != "present":
        return champion, None
    if champion.folder is None:
        return _unreachable(champion, "its model folder was not given"), None
    try:
        opened = scoring.open_model("champion", champion.version, champion.folder)
    except TokkaError as error:
        return _unreachable(champion, error.message), None
    if opened.predictor.task != task:
        return _unreachable(champion, f"it does {opened.predictor.task}, the data is for {task}"), None
    return champion, opened


def _unreachable(champion: Champion, reason: str) -> Champion:
    return replace(champion, status="unreachable", reason=reason)


def _sliced_by_confidence(test: TestSet, scored: Mapping[str, Scored], params: Params) -> TestSet:
    """The test with two slices more: where the champion, or the first version itself, is least sure and surest."""
    if not test.classification:
        return test
    whose = "champion" if "champion" in scored else "candidate"
    found = by_confidence(scored[whose].scores, whose, params.evaluation.slices_minimum_rows)
    return replace(test, slices=[*test.slices, *found])


def _training_curves(candidate: OpenedModel, cache: Path) -> list[dict[str, float]]:
    """One entry per epoch; empty when the model was trained elsewhere."""
    found = run_metrics.find_training(cache.parent, candidate.predictor.digest) or {}
    return list(found.get("curves") or [])


def _latencies(models: Sequence[OpenedModel], scored: Mapping[str, Scored], test: TestSet) -> dict[str, Latency]:
    """Candidate and champion in turns; the general baseline as its own process measured it."""
    found = latency_in_turns({model.name: model.ask for model in models}, test.texts, test.pairs)
    return {name: found.get(name, part.footprint.latency) for name, part in scored.items()}


def _evaluation(
    data: Prepared,
    test: TestSet,
    scored: Mapping[str, Scored],
    latencies: Mapping[str, Latency],
    champion: Champion,
    params: Params,
) -> dict[str, Any]:
    metric = rules.gated_metric(params, data.task)
    found = {name: scoring.summarise(part, test, latencies[name], params) for name, part in scored.items()}
    tree = {
        "format": 1,
        "task": data.task,
        "metric": metric,
        "higher_is_better": HIGHER_IS_BETTER[metric],
        "test": {"rows": test.rows, "digest": test.digest, "labels": list(data.labels), "scale": test.scale},
        "data_digest": data.digest,
        "overlap": test_set.overlap(data),
        **{name: found.get(name) for name in ("candidate", "champion", "general")},
        "champion_status": champion.status,
        "champion_reason": champion.reason,
        "comparison": {name: _compare(name, metric, test, scored, params) for name in ("champion", "general")},
    }
    return schema.dump(schema.Evaluation.model_validate(tree))


def _compare(
    name: str, metric: str, test: TestSet, scored: Mapping[str, Scored], params: Params
) -> dict[str, Any] | None:
    if name not in scored:
        return None
    found = compare(
        metric,
        test.target,
        scored["candidate"].scores,
        scored[name].scores,
        slices=test.slices,
        count=params.evaluation.bootstrap,
        confidence=1.0 - params.gate.alpha,
        seed=params.finetuning.seed,
    )
    return found.as_dict()
