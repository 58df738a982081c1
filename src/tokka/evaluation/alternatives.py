"""Every way to do the task, measured on the same test rows: what "specialised or general?" is decided from.

| Way                       | Its scores                                                           | Measured      |
|---------------------------|----------------------------------------------------------------------|---------------|
| specialist, served form   | the candidate's                                                      | for the gate  |
| specialist, its other form| the same weights as fp32 instead of int8, or the other way round     | with details  |
| champion                  | its own                                                              | for the gate  |
| linear head, TF-IDF       | fitted on the training rows; the head over the un-tuned encoder      | with details* |
| zero-shot / neighbours    | the general baseline's                                               | for the gate  |
| prompted language model   | only with evaluation.general.endpoint, on a sample of the test rows  | with details  |

* for the gate, where gate.must_beat is simple. A candidate that is a linear head itself has no row beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from tokka import progress
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.evaluation.gate import prices, recommendation
from tokka.evaluation.gate.recommendation import Kind, Row, Rule
from tokka.evaluation.metrics import cost
from tokka.evaluation.metrics.comparison import compare_on
from tokka.evaluation.metrics.metrics import HIGHER_IS_BETTER, Floats, Integers
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.models import learning_curve, prompted_sample, scoring, simple, tfidf
from tokka.evaluation.models.prompted_sample import Sampled
from tokka.evaluation.models.scoring import OpenedModel, Scored
from tokka.files import JsonObject, Tree
from tokka.model.folder import FORM_FILES, Form
from tokka.model.profile import budgets
from tokka.params import Params

BEING_MEASURED = "is being measured: this page is completed after the endpoint answers"
SERVED = "one process with the ONNX runtime for each task; train anew when the world drifts"
TORCH = "one process with torch for each task; train anew when the world drifts"
OPERATIONS = {
    "linear": "one process with the ONNX runtime; fitted in seconds, and one encoder can carry the heads of many tasks",
    "tfidf": "one process with scikit-learn, which Tokka does not serve; fitted in seconds",
    "general": "one process with torch; nothing to train, label names (or neighbours) to keep",
}


@dataclass(frozen=True)
class Benchmark:
    """What every measurement needs. `home` holds the store of trainings, `cache` base models from the hub."""

    data: Prepared
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
    scores: Floats | None = None
    sample: Integers | None = None


def known_ways(
    benchmark: Benchmark,
    evaluation: Tree,
    scored: Mapping[str, Scored],
    models: Mapping[str, OpenedModel],
) -> list[Way]:
    """The rows of what was measured for the gate, and one that says so for each way that has yet to be measured."""
    general, candidate = benchmark.params.evaluation.general, models["candidate"]
    titles = {"candidate": f"This specialist, {candidate.predictor.form} as served"}
    titles |= {"champion": f"Champion, version {scored['champion'].version}"} if "champion" in scored else {}
    first, *others = [
        _specialist(title, evaluation[name], scored[name], models[name], benchmark) for name, title in titles.items()
    ]
    ways = [first, *(_unmeasured(form, "specialist", f"This specialist, {form}") for form in _other_forms(candidate))]
    ways += others
    ways += [_simple_row(name, scored.get(name), benchmark) for name in simple_names(benchmark.params, candidate)]
    if "general" in scored:
        ways.append(_general(evaluation["general"], scored["general"], benchmark))
    if general.measure and general.endpoint:
        ways.append(_unmeasured("prompted", "general", f"General: prompted {general.model or 'language model'}"))
    return ways


def simple_names(params: Params, candidate: OpenedModel) -> list[simple.Simple]:
    """The simple ways that the candidate is compared with: TF-IDF alone for one that is a linear head itself."""
    if not params.evaluation.general.linear and params.gate.must_beat == "none":
        return []
    return [name for name in simple.SIMPLE if name == "tfidf" or candidate.predictor.config.strategy != "frozen"]


def measured_ways(
    benchmark: Benchmark, rows: Sequence[Tree], scores: Mapping[str, Floats], candidate: OpenedModel
) -> list[Way]:
    """The ways of an earlier `decision`, with those measured that it says are being measured.

    `rows`: details.decision.rows; `scores`: of the ways that were measured for the gate, by name.
    """
    measure: dict[str, Callable[[], Way]] = {
        **{name: partial(_simple, name, benchmark) for name in simple.SIMPLE},
        "prompted": lambda: _prompted(benchmark, scores["candidate"]),
        "int8": lambda: _form("int8", candidate, benchmark),
        "fp32": lambda: _form("fp32", candidate, benchmark),
    }
    names = [field.name for field in fields(Row)]
    known = [Row(**{name: row[name] for name in names if name in row}) for row in rows]
    return [
        _or_why_not(row, measure[row.name]) if row.problem == BEING_MEASURED else Way(row, scores.get(row.name))
        for row in known
    ]


def decision(ways: Sequence[Way], benchmark: Benchmark) -> JsonObject:
    """details.decision: rows, recommendation, rule, formula and prices."""
    money, rule = benchmark.params.evaluation.prices, benchmark.rule
    ways = [replace(way, row=_against_simple(way, ways, benchmark)) for way in ways]
    leader = recommendation.best([way.row for way in ways], money, rule)
    best = next((way for way in ways if way.row is leader), None)
    rows = [_against(way, best, benchmark) for way in ways]
    return {
        "metric": benchmark.metric,
        "rows": [recommendation.as_dict(row, money) for row in rows],
        "recommendation": asdict(recommendation.recommend(rows, money, rule)),
        "missing": [row.title for row in rows if row.problem == BEING_MEASURED],
        "rule": rule.sentence(),
        "formula": prices.formula(money),
        "prices": money.model_dump(mode="json"),
        "country": benchmark.params.evaluation.country,
        "curve": [],
        "reading": "",
    }


def _specialist(title: str, summary: Tree, found: Scored, model: OpenedModel, benchmark: Benchmark) -> Way:
    labelled = benchmark.data.train.num_rows if model.data_digest == benchmark.data.digest else None
    spent = learning_curve.cpu_seconds(benchmark.home, model.predictor.digest)
    row = Row(model.name, "specialist", title, training_cpu_seconds=spent, labelled_rows=labelled)
    return _measured(row, summary, found, benchmark)


def _general(summary: Tree, found: Scored, benchmark: Benchmark) -> Way:
    used = 0 if benchmark.test.classification else min(benchmark.data.train.num_rows, 4000)
    row = Row("general", "general", f"General: {found.form}", training_cpu_seconds=0.0, labelled_rows=used)
    return _measured(row, summary, found, benchmark)


def _unmeasured(name: str, kind: Kind, title: str) -> Way:
    return Way(Row(name, kind, title, problem=BEING_MEASURED))


def _other_forms(model: OpenedModel) -> list[Form]:
    """int8 where fp32 is served and the other way round; not torch, which nobody would serve for speed."""
    served, present = model.predictor.form, model.predictor.config.files
    forms: tuple[Form, ...] = ("int8", "fp32")
    return [form for form in forms if form != served and FORM_FILES[form] in present][:1]


def _or_why_not(row: Row, measure: Callable[[], Way]) -> Way:
    progress.report("evaluate", f"measuring {row.title}")
    try:
        way = measure()
    except TokkaError as error:
        return Way(replace(row, problem=error.message))
    return replace(way, row=replace(way.row, title=row.title))


def _form(form: Form, model: OpenedModel, benchmark: Benchmark) -> Way:
    opened = scoring.open_model(form, "", model.folder, form)
    found = scoring.score(opened, benchmark.test, benchmark.params.evaluation.country)
    return _specialist("", _summary(found, benchmark), found, opened, benchmark)


def _simple(name: simple.Simple, benchmark: Benchmark) -> Way:
    found = simple.score_simple(name, benchmark.test, benchmark.data, benchmark.params, benchmark.cache)
    return _simple_row(name, found, benchmark)


def _simple_row(name: simple.Simple, found: Scored | None, benchmark: Benchmark) -> Way:
    if found is None:
        return _unmeasured(name, "simple", simple.TITLES[name])
    used, spent = benchmark.data.train.num_rows, found.footprint.fit_cpu_seconds
    used = min(used, tfidf.MAXIMUM_ROWS) if name == "tfidf" else used
    row = Row(name, "simple", simple.TITLES[name], training_cpu_seconds=spent, labelled_rows=used)
    return _measured(row, _summary(found, benchmark), found, benchmark)


def _summary(found: Scored, benchmark: Benchmark) -> JsonObject:
    return scoring.summarise(found, benchmark.test, found.footprint.latency, benchmark.params)


def _prompted(benchmark: Benchmark, candidate: Floats) -> Way:
    asked = prompted_sample.ask_sample(benchmark.data, benchmark.test, benchmark.params)
    part = benchmark.test.take(asked.rows)
    own, same = (
        scoring.measure(part, scores, benchmark.params).get(benchmark.metric, {})
        for scores in (asked.scores, candidate[asked.rows])
    )
    row = _prompted_row(asked, benchmark)
    row = replace(row, quality=own.get("value"), low=own.get("low"), high=own.get("high"), same_rows=same)
    return Way(row, asked.scores, asked.rows)


def _prompted_row(asked: Sampled, benchmark: Benchmark) -> Row:
    general, price, answers = benchmark.params.evaluation.general, None, asked.answers
    if answers.input_tokens is not None and answers.output_tokens is not None:
        price = prices.token_price(answers.input_tokens, answers.output_tokens, general)
    note = f"{asked.unreadable} of {len(asked.rows)} answers were no label and count as wrong"
    if answers.failed:
        note += f", {answers.failed} of them for want of any answer"
    if price is None:
        note += "; the server tells no token usage, so there is no price"
    elif price == 0:
        note += "; no price per token is set: evaluation.general.input_price and output_price"
    latency = cost.summarise(answers.milliseconds)
    return Row(
        name="prompted",
        kind="general",
        title="",
        rows=len(asked.rows),
        p50_ms=latency.p50,
        p99_ms=latency.p99,
        token_price=price or None,
        training_cpu_seconds=0.0,
        labelled_rows=asked.examples,
        energy={"wh": None, "g_co2": None, "reason": "runs on a machine of others"},
        operations="nothing to run; a contract, a key, and texts that leave the machine",
        note=note,
    )


def _measured(row: Row, summary: Tree, found: Scored, benchmark: Benchmark) -> Way:
    """The row with what a model's summary in evaluation.json says of it."""
    quality, latency = summary["metrics"].get(benchmark.metric, {}), summary["latency_ms"]
    figures = {name: summary[name] for name in ("rows", "size_mb", "cpu_ms", "memory_mb")}
    figures |= {"quality": quality.get("value"), "low": quality.get("low"), "high": quality.get("high")}
    figures |= {"p50_ms": latency["p50"], "p99_ms": latency["p99"], "energy": asdict(found.footprint.energy)}
    operations = OPERATIONS.get(row.name, TORCH if found.form == "torch" else SERVED)
    return Way(replace(row, operations=operations, **figures), found.scores)


def _against_simple(way: Way, ways: Sequence[Way], benchmark: Benchmark) -> Row:
    """A specialist's row with the simple ways that it does not beat beyond chance, of those that could take its place.

    Its paired interval on the same rows must lie above nought; a linear head has only TF-IDF to beat.
    """
    able = partial(recommendation.able, prices=benchmark.params.evaluation.prices, rule=benchmark.rule)
    others = [other for other in ways if other.row.kind == "simple" and able(other.row) and other.scores is not None]
    if way.row.kind != "specialist" or way.scores is None:
        return way.row
    test, params = replace(benchmark.test, slices=[]), benchmark.params
    found = {
        other.row.title: compare_on(test, benchmark.metric, (way.scores, other.scores), params)
        for other in others
        if other.scores is not None
    }
    return replace(way.row, unbeaten=[title for title, one in found.items() if not one.low > 0])


def _against(way: Way, leader: Way | None, benchmark: Benchmark) -> Row:
    """The row with its paired difference to the best one, on the rows that both answered."""
    if leader is None or way is leader or way.scores is None or leader.scores is None:
        return replace(way.row, gap_low=None)
    shared = way.sample if way.sample is not None else leader.sample
    pair = (_on(shared, way, way.scores), _on(shared, leader, leader.scores))
    found = compare_on(replace(benchmark.test, slices=[]), benchmark.metric, pair, benchmark.params, shared)
    return replace(way.row, gap_low=found.low)


def _on(rows: Integers | None, way: Way, scores: Floats) -> Floats:
    return scores if rows is None or way.sample is not None else scores[rows]
