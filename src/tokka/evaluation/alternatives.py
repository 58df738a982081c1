"""Every way to do the task, measured on the same test rows: what "specialised or general?" is decided from.

| Way                       | Its scores                                                           |
|---------------------------|----------------------------------------------------------------------|
| specialist, served form   | measured already: the candidate                                      |
| specialist, its other form| the same weights as fp32 instead of int8, or the other way round     |
| champion                  | measured already                                                     |
| linear head               | fitted on the training rows, over the un-tuned encoder               |
| zero-shot / neighbours    | measured already: the general baseline                               |
| prompted language model   | only with evaluation.general.endpoint, on a sample of the test rows  |
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tokka import progress
from tokka.errors import TokkaError
from tokka.evaluation.gate import recommendation
from tokka.evaluation.gate.recommendation import Row, Rule
from tokka.evaluation.metrics import prices, training_spent
from tokka.evaluation.metrics.metrics import HIGHER_IS_BETTER
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import linear_probe, prompted_sample, scoring
from tokka.evaluation.models.learning_curve import learning_curve, reading
from tokka.evaluation.models.prompted_sample import Sampled
from tokka.evaluation.models.scoring import Scored, Specialist
from tokka.model.profile import budgets
from tokka.params import Params

STEP = "evaluate"
SERVED = "one process with the ONNX runtime for each task; train anew when the world drifts"
TORCH = "one process with torch for each task; train anew when the world drifts"
OPERATIONS = {
    "linear": "one process with torch and scikit-learn; an encoder can carry the heads of many tasks",
    "general": "one process with torch; nothing to train, label names (or neighbours) to keep",
}


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    prepared: Path
    data: Any
    test: TestSet
    params: Params
    cache: Path
    home: Path
    metric: str

    @property
    def rule(self) -> Rule:
        """The rule of the recommendation, from the gate's margin and the latency budget."""
        margin = self.params.gate.noninferiority_margin * self.test.scale
        return Rule(margin, budgets(self.params).latency_ms, HIGHER_IS_BETTER[self.metric])


@dataclass(frozen=True, eq=False)
class Way:
    """A row with the scores behind it; `sample` are the test rows that they belong to, None for all."""

    row: Row
    scores: Any = None
    sample: Any = None


def weigh(
    bench: Bench, evaluation: Mapping[str, Any], scored: Mapping[str, Scored], models: Mapping[str, Specialist]
) -> dict[str, Any]:
    """Measure what was not measured yet and recommend; a way that cannot be measured is a row that says so.

    Args:
        evaluation: evaluation.json.
        scored: candidate, champion and general, as far as they were measured.
        models: the opened candidate and champion.

    Returns:
        details.decision: rows, recommendation, rule, formula, prices and the learning curve.
    """
    money, rule = bench.params.evaluation.prices, bench.rule
    ways = list(_ways(bench, evaluation, scored, models))
    leader = recommendation.best([way.row for way in ways], money, rule)
    rows = [_against(way, next((it for it in ways if it.row is leader), None), bench) for way in ways]
    curve = _curve(bench, rows[0])
    return {
        "metric": bench.metric,
        "rows": [recommendation.as_dict(row, money) for row in rows],
        "recommendation": recommendation.recommend(rows, money, rule).as_dict(),
        "rule": rule.sentence(),
        "formula": prices.formula(money),
        "prices": money.model_dump(mode="json"),
        "country": bench.params.evaluation.country,
        "curve": curve,
        "reading": reading(curve, rule.margin, higher=rule.higher),
    }


def _ways(
    bench: Bench, evaluation: Mapping[str, Any], scored: Mapping[str, Scored], models: Mapping[str, Specialist]
) -> Iterator[Way]:
    candidate, test = scored["candidate"], bench.test
    yield _specialist("candidate", f"This specialist, {candidate.form} as served", evaluation, scored, models, bench)
    yield from _other_form(models["candidate"], bench)
    if "champion" in scored:
        title = f"Champion, version {models['champion'].version}"
        yield _specialist("champion", title, evaluation, scored, models, bench)
    if not bench.params.evaluation.general.measure:
        return
    if bench.params.evaluation.general.linear:
        progress.report(STEP, "a linear head on the un-tuned encoder", fraction=0.75)
        yield _linear(bench)
    if "general" in scored:
        used = 0 if test.classification else min(bench.data.train.num_rows, 4000)
        row = _row("general", "general", f"General: {scored['general'].form}", scored["general"], bench)
        row = _with_subject(row, evaluation["general"], bench.metric)
        yield Way(replace(row, training_cpu_seconds=0.0, labelled_rows=used), scored["general"].scores)
    if bench.params.evaluation.general.endpoint:
        yield _prompted(bench, candidate)


def _specialist(
    name: str,
    title: str,
    evaluation: Mapping[str, Any],
    scored: Mapping[str, Scored],
    models: Mapping[str, Specialist],
    bench: Bench,
) -> Way:
    row = _with_subject(_row(name, "specialist", title, scored[name], bench), evaluation[name], bench.metric)
    spent = training_spent.cpu_seconds(bench.home, models[name].predictor.digest)
    same_data = models[name].data_digest == bench.data.digest
    labelled = bench.data.train.num_rows if same_data else None
    return Way(replace(row, training_cpu_seconds=spent, labelled_rows=labelled), scored[name].scores)


def _other_form(model: Specialist, bench: Bench) -> Iterator[Way]:
    """int8 where fp32 is served and the other way round; not torch, which nobody would serve for speed."""
    served, present = model.predictor.form, model.predictor.config.files
    from tokka.model.folder import FORM_FILES

    others = [form for form in ("int8", "fp32") if form != served and FORM_FILES[form] in present]
    if not others:
        return
    name, title = others[0], f"This specialist, {others[0]}"
    progress.report(STEP, f"the candidate as {name}", fraction=0.72)
    try:
        opened = scoring.open_specialist("candidate", "", model.folder, name)
        found = scoring.score(opened, bench.test, bench.params.evaluation.country)
    except TokkaError as error:
        yield Way(Row(name, "specialist", title, problem=error.message))
        return
    spent = training_spent.cpu_seconds(bench.home, model.predictor.digest)
    row = _measured(_row(name, "specialist", title, found, bench), found.scores, bench.test, bench)
    yield Way(replace(row, training_cpu_seconds=spent, labelled_rows=bench.data.train.num_rows), found.scores)


def _linear(bench: Bench) -> Way:
    title = "General: linear head on the un-tuned encoder"
    try:
        found = scoring.score_linear(bench.test, bench.data, bench.params, bench.cache)
    except TokkaError as error:
        return Way(Row("linear", "general", title, problem=error.message))
    row = _measured(_row("linear", "general", title, found, bench), found.scores, bench.test, bench)
    used = min(bench.data.train.num_rows, linear_probe.MAXIMUM_ROWS)
    row = replace(row, training_cpu_seconds=found.footprint.fit_cpu_seconds, labelled_rows=used)
    return Way(row, found.scores)


def _prompted(bench: Bench, candidate: Scored) -> Way:
    general = bench.params.evaluation.general
    title = f"General: prompted {general.model or 'language model'}"
    progress.report(STEP, f"{general.rows} test rows to {general.endpoint}", fraction=0.77)
    try:
        asked = prompted_sample.ask_sample(bench.data, bench.test, bench.params)
    except TokkaError as error:
        return Way(Row("prompted", "general", title, problem=error.message))
    part = _part(bench.test, asked.rows)
    row = _measured(_prompted_row(title, asked, bench), asked.scores, part, bench)
    same = scoring.measure(part, candidate.scores[asked.rows], bench.params).get(bench.metric, {})
    return Way(replace(row, same_rows=same), asked.scores, asked.rows)


def _prompted_row(title: str, asked: Sampled, bench: Bench) -> Row:
    general, price = bench.params.evaluation.general, None
    if asked.input_tokens is not None and asked.output_tokens is not None:
        price = prices.token_price(asked.input_tokens, asked.output_tokens, general)
    note = f"{asked.unreadable} of {len(asked.rows)} answers were no label and count as wrong"
    if asked.failed:
        note += f", {asked.failed} of them for want of any answer"
    if price is None:
        note += "; the server tells no token usage, so there is no price"
    elif price == 0:
        note += "; no price per token is set: evaluation.general.input_price and output_price"
    return Row(
        name="prompted",
        kind="general",
        title=title,
        rows=len(asked.rows),
        p50_ms=asked.latency.p50 if asked.latency else None,
        p99_ms=asked.latency.p99 if asked.latency else None,
        token_price=price or None,
        training_cpu_seconds=0.0,
        labelled_rows=asked.examples,
        energy={"wh": None, "g_co2": None, "reason": "runs on a machine of others"},
        operations="nothing to run; a contract, a key, and texts that leave the machine",
        note=note,
    )


def _row(name: str, kind: Any, title: str, found: Scored, bench: Bench) -> Row:
    """What a process alone told of a model."""
    footprint = found.footprint
    operations = OPERATIONS.get(name, TORCH if found.form == "torch" else SERVED)
    return Row(
        name=name,
        kind=kind,
        title=title,
        rows=len(found.scores),
        p50_ms=footprint.latency.p50,
        p99_ms=footprint.latency.p99,
        size_mb=found.size_mb,
        cpu_ms=footprint.cpu_ms,
        memory_mb=footprint.memory_mb,
        energy=asdict(footprint.energy),
        operations=operations,
    )


def _with_subject(row: Row, subject: Mapping[str, Any], metric: str) -> Row:
    """What evaluation.json says already is said once: quality, and latencies that were measured in turns."""
    found, latency = subject["metrics"].get(metric, {}), subject["latency_ms"]
    return replace(_with_quality(row, found), p50_ms=latency["p50"], p99_ms=latency["p99"])


def _measured(row: Row, scores: Any, test: TestSet, bench: Bench) -> Row:
    return _with_quality(row, scoring.measure(test, scores, bench.params).get(bench.metric, {}))


def _with_quality(row: Row, found: Mapping[str, float]) -> Row:
    return replace(row, quality=found.get("value"), low=found.get("low"), high=found.get("high"))


def _against(way: Way, leader: Way | None, bench: Bench) -> Row:
    """The row with its paired difference to the best one, on the rows that both answered."""
    from tokka.evaluation.metrics.comparison import compare

    if leader is None or way is leader or way.scores is None:
        return way.row
    shared = way.sample if way.sample is not None else leader.sample
    target = bench.test.target if shared is None else bench.test.target[shared]
    scores = [it.scores if shared is None or it.sample is not None else it.scores[shared] for it in (way, leader)]
    found = compare(
        bench.metric,
        target,
        *scores,
        count=bench.params.evaluation.bootstrap,
        confidence=1.0 - bench.params.gate.alpha,
        seed=bench.params.finetuning.seed,
    )
    return replace(way.row, gap_low=found.low)


def _part(test: TestSet, rows: Any) -> TestSet:
    seconds = [test.pairs[row] for row in rows] if test.pairs is not None else None
    texts = [test.texts[row] for row in rows]
    return replace(test, table=test.table.take(rows), texts=texts, pairs=seconds, target=test.target[rows], slices=[])


def _curve(bench: Bench, candidate: Row) -> list[dict[str, Any]]:
    """The shares, and the candidate as the whole; empty when no share is asked for."""
    if not bench.params.evaluation.learning_curve:
        return []
    points = learning_curve(bench.prepared, bench.test, bench.metric, bench.params, bench.home)
    whole = {"share": 1.0, "rows": bench.data.train.num_rows, "seconds": None, "problem": ""}
    whole |= {"value": candidate.quality, "low": candidate.low, "high": candidate.high}
    return [*points, {**whole, "cpu_seconds": candidate.training_cpu_seconds}]
