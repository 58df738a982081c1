"""Measure candidate, champion and general baseline on the same frozen rows and write the evidence folder.

What the gate judges is measured here; what is nice to know besides, `complete.py` measures once the endpoint answers.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tokka import progress
from tokka.data.preparation import prepared as prepared_rows
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation import alternatives, behaviour, complete, evidence
from tokka.evaluation.alternatives import Benchmark
from tokka.evaluation.gate import rules, schema
from tokka.evaluation.gate.schema import Champion, Latency
from tokka.evaluation.metrics import test_set
from tokka.evaluation.metrics.comparison import compare_on
from tokka.evaluation.metrics.cost import latency_in_turns
from tokka.evaluation.metrics.metrics import HIGHER_IS_BETTER
from tokka.evaluation.metrics.slices import by_confidence
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import scoring, simple
from tokka.evaluation.models.scoring import OpenedModel, Scored
from tokka.files import JsonObject
from tokka.params import Params
from tokka.registry import metrics as run_metrics
from tokka.settings import Settings

OTHERS = ("champion", "general", *simple.SIMPLE)


def evaluate(prepared: Path, candidate: Path, champion: Champion, params: Params, out: Path) -> JsonObject:
    """Write the evidence folder `out`, its details still to be completed; return the evaluation.

    TokkaError when the candidate, the data or the base model cannot be used. A champion that cannot be used does not
    raise: it makes the status "unreachable", which the gate refuses.
    """
    began, cache = time.monotonic(), default_cache()
    behaviour.wanted_behaviour(params)  # a wrong file is said now, not after everything has been measured
    data = prepared_rows.load(prepared)
    offered = scoring.open_model("candidate", "", candidate)
    champion, serving = _open_champion(champion, data, params)
    models = [offered, *([serving] if serving else [])]
    known = [label for model in models for label in model.labels]
    test = test_set.open_test(data, known, params.evaluation.slices_minimum_rows)
    general = " and the general baseline" if params.evaluation.general.measure else ""
    progress.report("evaluate", f"{len(models)} models{general} on {test.rows} test rows", fraction=0.1)
    scored, lost = _score(models, data, test, params, cache)
    if lost:
        champion, models = _unreachable(champion, lost), [offered]
    test = _sliced_by_confidence(test, scored, params)
    progress.report("evaluate", f"intervals from {params.evaluation.bootstrap} resamples", fraction=0.7)
    latencies = {name: part.footprint.latency for name, part in scored.items()}
    latencies |= latency_in_turns({model.name: model.ask for model in models}, test.texts, test.pairs)
    opened = {model.name: model for model in models}
    benchmark = Benchmark(data, test, params, cache, cache.parent, rules.gated_metric(params, data.task))
    listed = evidence.write_rows(out, benchmark, scored)
    evaluation = _evaluation(data, test, scored, latencies, champion, opened, params, listed)
    trained = run_metrics.find_training(cache.parent, offered.predictor.digest) or {}  # empty: elsewhere
    details = {
        "decision": alternatives.decision(alternatives.known_ways(benchmark, evaluation, scored, opened), benchmark),
        "training_curves": trained.get("curves") or [],
        "pending": complete.wanted(params),
        "seconds": round(time.monotonic() - began, 2),
    }
    evidence.write(out, evaluation, benchmark, scored, offered, details)
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
        general = beside.submit(scoring.score_base, "general", test, data, params, cache) if measure else None
        scored = {"candidate": scoring.score(models[0], test, country)}
        for serving in models[1:]:
            try:
                scored["champion"] = scoring.score(serving, test, country)
            except TokkaError as error:
                lost = error.message
        if general is not None:
            scored["general"] = general.result()
        if params.gate.must_beat == "simple":
            names = alternatives.simple_names(params, models[0])
            scored |= {name: simple.score_simple(name, test, data, params, cache) for name in names}
    return scored, lost


def _open_champion(champion: Champion, data: Prepared, params: Params) -> tuple[Champion, OpenedModel | None]:
    """The champion's model, or a status that says why there is none to compare with."""
    if champion.status != "present":
        return champion, None
    try:
        if champion.folder is None:
            raise TokkaError("its model folder was not given")
        opened = scoring.open_model("champion", champion.version, champion.folder)
        opened = replace(opened, renamed=params.data.labels)
        if opened.predictor.task != data.task:
            raise TokkaError(f"it does {opened.predictor.task}, the data is for {data.task}")
        if data.labels and not set(data.labels) & set(opened.labels):
            named = ", ".join(map(repr, opened.labels[:5]))
            raise TokkaError(f"it knows none of the data's classes, but {named}: data.labels says what became of them")
    except TokkaError as error:
        return _unreachable(champion, error.message), None
    return champion, opened


def _unreachable(champion: Champion, reason: str) -> Champion:
    return replace(champion, status="unreachable", reason=reason)


def _sliced_by_confidence(test: TestSet, scored: Mapping[str, Scored], params: Params) -> TestSet:
    """The test with two slices more: where the champion, or the first version itself, is least sure and surest."""
    if not test.classification:
        return test
    whose = "champion" if "champion" in scored else "candidate"
    found = by_confidence(scored[whose].scores, whose, params.evaluation.slices_minimum_rows)
    return test_set.with_slices(test, found)


def _evaluation(
    data: Prepared, test: TestSet, scored: Mapping[str, Scored], latencies: Mapping[str, Latency], champion: Champion,
    models: Mapping[str, OpenedModel], params: Params, listed: Mapping[str, str],
) -> JsonObject:  # fmt: skip
    metric = rules.gated_metric(params, data.task)

    def against(name: str) -> JsonObject:
        return compare_on(test, metric, (scored["candidate"].scores, scored[name].scores), params).model_dump()

    found = {name: scoring.summarise(part, test, latencies[name], params) for name, part in scored.items()}
    for name, summary in found.items():
        summary["digest"] = models[name].predictor.digest if name in models else ""
    tree = {
        "format": 1,
        "task": data.task,
        "metric": metric,
        "higher_is_better": HIGHER_IS_BETTER[metric],
        "test": {"rows": test.rows, "digest": test.digest, "labels": list(data.labels), "scale": test.scale},
        "data_digest": data.digest,
        "overlap": test_set.overlap(data),
        **{name: found.get(name) for name in ("candidate", *OTHERS)},
        "champion_status": champion.status,
        "champion_reason": champion.reason,
        "generation": champion.generation,
        "files": dict(listed),
        "comparison": {name: against(name) if name in scored else None for name in OTHERS},
    }
    return schema.Evaluation.model_validate(tree).model_dump(mode="json")
