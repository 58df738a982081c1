"""Measure candidate, champion and general baseline on the same frozen rows and write the evidence folder.

evaluation = evaluate(prepared, model, Champion("none", "", None, ""), params, out)
out / "report.html", out / "evaluation.json"
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tokka import progress
from tokka.errors import TokkaError
from tokka.params import Params

STEP = "evaluate"


@dataclass(frozen=True)
class Champion:
    """What serves now. "none" means that nothing does; "unreachable" that nobody could tell, or fetch it."""

    status: Literal["none", "present", "unreachable"]
    version: str
    folder: Path | None
    reason: str


def evaluate(
    prepared: Path,
    candidate: Path,
    champion: Champion,
    params: Params,
    out: Path,
    *,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Write evaluation.json, details.json, report.html and the row files into `out`; return the evaluation.

    Args:
        cache: where a base model from the hub is kept; default, the folder of the settings.

    Raises:
        TokkaError: the candidate, the data or the base model cannot be used. A champion that cannot be used does
            not raise: it makes the status "unreachable", which the gate refuses.
    """
    from tokka.data.preparation.prepared import load
    from tokka.evaluation import behaviour, evidence
    from tokka.evaluation.metrics.test_set import open_test
    from tokka.evaluation.models import scoring

    began = time.monotonic()
    behaviour.wanted_behaviour(params)  # a wrong file is said now, not after everything has been measured
    data = load(prepared)
    offered = scoring.open_specialist("candidate", "", candidate)
    champion, serving = _open_champion(champion, data.task)
    models = [offered, *([serving] if serving else [])]
    known = [label for model in models for label in model.predictor.labels]
    test = open_test(data, known, params.evaluation.slices_minimum_rows)
    progress.report(STEP, f"{len(models)} models on {test.rows} test rows", fraction=0.1)
    scored, lost = _score(models, data, test, params, cache)
    if lost:
        champion, models = _unreachable(champion, lost), [offered]
    test = _sliced_by_confidence(test, scored, params)
    progress.report(STEP, f"intervals from {params.evaluation.bootstrap} resamples", fraction=0.7)
    evaluation = _evaluation(data, test, scored, _latencies(models, scored, test), champion, params)
    more: dict[str, Any] = {"decision": _decision(prepared, data, test, evaluation, scored, models, params, cache)}
    more |= _quality(data, test, evaluation, models, params, cache)
    more["training_curves"] = _training_curves(offered, cache)
    evidence.write(out, evaluation, data, test, scored, offered, params, seconds=time.monotonic() - began, more=more)
    return evaluation


def _score(
    models: Sequence[Any], data: Any, test: Any, params: Params, cache: Path | None
) -> tuple[dict[str, Any], str]:
    """Every model's and the general baseline's answers, by subject; and why there are none of the champion's."""
    from tokka.evaluation.models import scoring

    country, lost = params.evaluation.country, ""
    scored = {"candidate": scoring.score(models[0], test, country)}
    for serving in models[1:]:
        try:
            scored["champion"] = scoring.score(serving, test, country)
        except TokkaError as error:
            lost = error.message
    if params.evaluation.general.measure:
        progress.report(STEP, "the general baseline", fraction=0.4)
        scored["general"] = scoring.score_general(test, data, params, cache or _default_cache())
    return scored, lost


def _open_champion(champion: Champion, task: str) -> tuple[Champion, Any]:
    """The champion's model, or a status that says why there is none to compare with."""
    from tokka.evaluation.models.scoring import open_specialist

    if champion.status != "present":
        return champion, None
    if champion.folder is None:
        return _unreachable(champion, "its model folder was not given"), None
    try:
        opened = open_specialist("champion", champion.version, champion.folder)
    except TokkaError as error:
        return _unreachable(champion, error.message), None
    if opened.predictor.task != task:
        return _unreachable(champion, f"it does {opened.predictor.task}, the data is for {task}"), None
    return champion, opened


def _sliced_by_confidence(test: Any, scored: dict[str, Any], params: Params) -> Any:
    """The test with two slices more: where the champion, or the first version itself, is least sure and surest."""
    from tokka.evaluation.metrics.slices import by_confidence

    if not test.classification:
        return test
    whose = "champion" if "champion" in scored else "candidate"
    found = by_confidence(scored[whose].scores, whose, params.evaluation.slices_minimum_rows)
    return replace(test, slices=[*test.slices, *found])


def _quality(
    data: Any, test: Any, evaluation: dict[str, Any], models: Sequence[Any], params: Params, cache: Path | None
) -> dict[str, Any]:
    """What details.behaviour and details.insight hold: they inform, and no rule reads them."""
    from tokka.evaluation.behaviour import evaluate_behaviour
    from tokka.evaluation.label_quality import evaluate_insight

    progress.report(STEP, "behaviour and data insight", fraction=0.9)
    found: dict[str, Any] = {"behaviour": evaluate_behaviour(params, test, models), "insight": None}
    if params.evaluation.insight:
        found["insight"] = evaluate_insight(data, params, evaluation["overlap"], cache or _default_cache())
    return found


def _training_curves(candidate: Any, cache: Path | None) -> list[dict[str, float]]:
    """One entry per epoch; empty when the model was trained elsewhere."""
    from tokka.registry import metrics as run_metrics

    found = run_metrics.find_training((cache or _default_cache()).parent, candidate.predictor.digest) or {}
    return list(found.get("curves") or [])


def _unreachable(champion: Champion, reason: str) -> Champion:
    return Champion("unreachable", champion.version, champion.folder, reason)


def _latencies(models: Sequence[Any], scored: dict[str, Any], test: Any) -> dict[str, Any]:
    """Candidate and champion in turns; the general baseline as its own process measured it."""
    from tokka.evaluation.metrics.cost import latency_in_turns

    found = latency_in_turns({model.name: model.ask for model in models}, test.texts, test.pairs)
    return {name: found.get(name, part.footprint.latency) for name, part in scored.items()}


def _evaluation(
    data: Any, test: Any, scored: dict[str, Any], latencies: dict[str, Any], champion: Champion, params: Params
) -> dict[str, Any]:
    from tokka.evaluation.gate import rules, schema
    from tokka.evaluation.metrics import test_set
    from tokka.evaluation.metrics.metrics import HIGHER_IS_BETTER
    from tokka.evaluation.models import scoring

    metric = rules.gated_metric(params, data.task)
    found: dict[str, Any] = {
        name: scoring.subject(part, test, latencies[name], params) for name, part in scored.items()
    }
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


def _compare(name: str, metric: str, test: Any, scored: dict[str, Any], params: Params) -> dict[str, Any] | None:
    from tokka.evaluation.metrics.comparison import compare

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


def _decision(
    prepared: Path,
    data: Any,
    test: Any,
    evaluation: dict[str, Any],
    scored: dict[str, Any],
    models: Sequence[Any],
    params: Params,
    cache: Path | None,
) -> dict[str, Any]:
    """Specialised or general? What details.decision holds."""
    from tokka.evaluation.alternatives import Bench, weigh

    place = cache or _default_cache()
    bench = Bench(prepared, data, test, params, place, place.parent, evaluation["metric"])
    return weigh(bench, evaluation, scored, {model.name: model for model in models})


def _default_cache() -> Path:
    from tokka.settings import Settings

    return Settings.from_environment().home / "base"
