"""Behaviour tests: invariance to changes without meaning, expected effects of phrases, cases with a known answer.

After Ribeiro et al. (2020), "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList". No rule of the
gate reads the results. Every model is asked the same changed texts; rates have Wilson's interval.
"""

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np

from tokka import files
from tokka.evaluation.behaviour_suite import (
    Behaviour,
    Case,
    Directional,
    Functionality,
    Invariance,
    Test,
    load_behaviour,
)
from tokka.evaluation.metrics.intervals import share_interval
from tokka.evaluation.metrics.slices import PREFIX
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.perturbations import change_text
from tokka.params import Params
from tokka.settings import Settings

if TYPE_CHECKING:
    from tokka.evaluation.models.scoring import OpenedModel
    from tokka.model.predictor import Predictor

EXAMPLES = 5
EXAMPLE_CHARACTERS = 240

Answer = str | float
Answerer = Callable[[str, str | None], Answer]


class Ask(NamedTuple):
    """One question: the text before (if any) and after the change, and the case that says what has to come out."""

    before: str | None
    after: str
    pair: str | None
    wanted: Case | None = None


class Outcome(TypedDict):
    """One model on one test: `low` and `high` are Wilson's interval of `rate`; `examples` are of failing rows."""

    passed: int
    rows: int
    rate: float
    low: float
    high: float
    verdict: str
    examples: list[dict[str, str]]


class TestResult(TypedDict, total=False):
    """One test: either `skipped` with the reason, or `note` and an outcome for each model in `subjects`."""

    name: str
    kind: str
    minimum: float
    skipped: str
    note: str
    subjects: dict[str, Outcome]


@dataclass(frozen=True)
class Task:
    """What the tests are asked of: the test rows, and the classes of the model (none for regression)."""

    wanted: Behaviour
    test: TestSet
    labels: tuple[str, ...]
    seed: int
    confidence: float

    @property
    def pairs(self) -> bool:
        """Whether a row is two texts."""
        return self.test.pairs is not None


def wanted_behaviour(params: Params) -> Behaviour | None:
    """The tests of the file that evaluation.behaviour names, read from the project's root; None when it names none.

    UsageError when the file is missing or wrong.
    """
    if params.evaluation.behaviour is None:
        return None
    return load_behaviour(Settings.from_environment().root / params.evaluation.behaviour)


def evaluate_behaviour(params: Params, test: TestSet, models: "Sequence[OpenedModel]") -> dict[str, object]:
    """details.behaviour: the file's tests on the candidate and, if there is one, the champion; {} without a file."""
    wanted = wanted_behaviour(params)
    if wanted is None:
        return {}
    predictors = {model.name: model.predictor for model in models}
    found = run_behaviour(wanted, test, predictors, params.finetuning.seed, params.evaluation.confidence)
    return {"file": params.evaluation.behaviour, "rows": wanted.rows, **found}


def run_behaviour(
    wanted: Behaviour, test: TestSet, predictors: "Mapping[str, Predictor]", seed: int, confidence: float = 0.95
) -> dict[str, object]:
    """Run every test on every model.

    `predictors`: by subject; the first is the one whose classes decide which tests apply.

    Returns:
        `tests`, a `TestResult` each, and `robustness`, the mean rate of the invariance tests by subject.
    """
    task = Task(wanted, test, tuple(next(iter(predictors.values())).labels), seed, confidence)
    answerers = {name: _one_by_one(predictor) for name, predictor in predictors.items()}
    tests = [_run(one, task, answerers) for one in wanted.tests]
    return {"tests": tests, "robustness": {name: _robustness(tests, name) for name in predictors}}


def _one_by_one(predictor: "Predictor") -> Answerer:
    """The label or the value of one text at a time, each text once.

    In a batch an int8 model's answer depends a little on the batch's other texts, since they share one scale of
    rounding; that would be taken for an effect of the change.
    """

    @functools.cache
    def answer(text: str, pair: str | None) -> Answer:
        found = predictor.predict([text], None if pair is None else [pair])
        return found.labels[0] if predictor.labels else float(found.scores[0, 0])

    return answer


def _robustness(tests: Sequence[TestResult], subject: str) -> float | None:
    """The mean rate over the invariance tests that were run, in [0, 1]; None when none was."""
    run = [found for found in tests if found["kind"] == "invariance" and "subjects" in found]
    return float(np.mean([found["subjects"][subject]["rate"] for found in run])) if run else None


def _run(one: Test, task: Task, answerers: Mapping[str, Answerer]) -> TestResult:
    described: TestResult = {"name": one.name, "kind": one.kind, "minimum": one.minimum}
    reason, note = _obstacle(one, task)
    asks = [] if reason else _questions(one, task)
    if not asks:
        return {**described, "skipped": reason or "no test row has what this test changes"}
    subjects = {name: _judge(one, asks, answer, task) for name, answer in answerers.items()}
    return {**described, "note": note, "subjects": subjects}


def _obstacle(one: Test, task: Task) -> tuple[str, str]:
    """Why a test cannot be asked of this task ("" if it can), and what is left out of it."""
    if isinstance(one, Invariance):
        unknown = sorted({column for column in one.where if f"{PREFIX}{column}" not in task.test.table.column_names})
        return (f"this task has no slice column {unknown[0]!r}" if unknown else ""), ""
    if isinstance(one, Directional):
        return _directional_obstacle(one, task), ""
    asked = [case.label for case in one.cases]
    strangers = sorted({label for label in asked if label is not None and label not in task.labels})
    left_out = len(one.cases) - len(_usable(one, task))
    if left_out < len(one.cases):
        return "", f"{left_out} cases left out, such as {strangers[0]!r}" if strangers else ""
    if strangers:
        return f"this task has no class {strangers[0]!r}", ""
    return "these cases are for pairs of texts, or for another kind of task than this one", ""


def _directional_obstacle(one: Directional, task: Task) -> str:
    if task.pairs:
        return "this task compares two texts, and the test gives one"
    label = one.to or one.away_from
    if label is not None and label not in task.labels:
        return f"this task has no class {label!r}" if task.labels else "this task predicts values, not classes"
    return "this task predicts classes, not values" if one.value and task.labels else ""


def _usable(one: Functionality, task: Task) -> list[Case]:
    return [
        case
        for case in one.cases
        if (case.pair is not None) == task.pairs and (case.label in task.labels if task.labels else case.label is None)
    ]


def _questions(one: Test, task: Task) -> list[Ask]:
    if isinstance(one, Functionality):
        return [Ask(None, case.text, case.pair, case) for case in _usable(one, task)]
    if isinstance(one, Directional):
        return [Ask(text, changed, None) for text in one.texts if (changed := _moved(one, text)) != text]
    return _changed_rows(one, task)


def _moved(one: Directional, text: str) -> str:
    for old, new in one.replace.items():
        text = text.replace(old, new)
    return f"{text.rstrip()} {one.add.strip()}" if one.add.strip() else text


def _changed_rows(one: Invariance, task: Task) -> list[Ask]:
    """Up to `wanted.rows` test rows, drawn and changed by a seed of the test's name: no other test moves them."""
    number, test = int(files.digest_json([task.seed, one.name])[:12], 16), task.test
    asks: list[Ask] = []
    keep = {column: test.table.column(f"{PREFIX}{column}").to_pylist() for column in one.where}
    for row in np.random.default_rng(number).permutation(test.rows):
        text = test.texts[row]
        if any(str(values[row]) != one.where[column] for column, values in keep.items()):
            continue
        changed = change_text(one, text, random.Random(f"{number}-{row}"))
        if changed is not None:
            asks.append(Ask(text, changed, test.pairs[row] if test.pairs else None))
        if len(asks) == task.wanted.rows:
            break
    return asks


def _judge(one: Test, asks: Sequence[Ask], answer: Answerer, task: Task) -> Outcome:
    before = [None if ask.before is None else answer(ask.before, ask.pair) for ask in asks]
    rows = list(zip(asks, before, [answer(ask.after, ask.pair) for ask in asks], strict=True))
    passed = [_holds(one, *row, task) for row in rows]
    share = share_interval(sum(passed), len(passed), task.confidence)
    failed = [row for row, good in zip(rows, passed, strict=True) if not good]
    return {
        "passed": sum(passed),
        "rows": len(passed),
        "rate": share["value"],
        "low": share["low"],
        "high": share["high"],
        "verdict": "pass" if share["value"] >= one.minimum else "fail",
        "examples": [_example(one, *row) for row in failed[:EXAMPLES]],
    }


def _holds(one: Test, ask: Ask, before: Answer | None, after: Answer, task: Task) -> bool:
    if ask.wanted is not None:
        return _within(ask.wanted, after)
    if isinstance(before, float) and isinstance(after, float):
        if isinstance(one, Directional):
            return after > before if one.value == "rises" else after < before
        return abs(after - before) <= task.wanted.tolerance * task.test.scale
    if isinstance(one, Directional):
        return after == one.to if one.to is not None else after != one.away_from
    return after == before


def _within(case: Case, answer: Answer) -> bool:
    if isinstance(answer, str):
        return answer == case.label
    low, high = case.at_least, case.at_most
    return (low is None or low <= answer) and (high is None or answer <= high)


def _example(one: Test, ask: Ask, before: Answer | None, after: Answer) -> dict[str, str]:
    case, was = ask.wanted, "" if before is None else _shown(before)
    if case is not None:
        expected = case.label or _range(case)
    elif isinstance(one, Directional):
        expected = one.to or (f"not {one.away_from}" if one.away_from else f"a value that {one.value}")
    else:
        expected = was
    return {
        "before": (ask.before or "")[:EXAMPLE_CHARACTERS],
        "after": ask.after[:EXAMPLE_CHARACTERS],
        "was": was,
        "expected": expected,
        "got": _shown(after),
    }


def _range(case: Case) -> str:
    bounds = {"at least": case.at_least, "at most": case.at_most}
    return ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None)


def _shown(answer: Answer) -> str:
    return answer if isinstance(answer, str) else f"{answer:.4g}"
