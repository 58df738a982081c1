"""Behaviour: does a model stay by its answer when it should, move when it should, and know what is obvious?

    found = run_behaviour(wanted, test, {"candidate": predictor}, seed=7)
    found["robustness"]["candidate"], found["tests"][0]["subjects"]["candidate"]["rate"]

After Ribeiro et al. (2020), "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList". It informs: no rule of
the gate reads it. Every model is asked the same changed texts; rates have Wilson's interval.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tokka import files
from tokka.evaluation.behaviour_suite import Behaviour, Case, Directional, Functionality, Invariance, load_behaviour
from tokka.evaluation.metrics.slices import PREFIX
from tokka.evaluation.metrics.test_set import TestSet
from tokka.evaluation.perturbations import change_text
from tokka.params import Params

EXAMPLES = 5
EXAMPLE_CHARACTERS = 240


class Ask(NamedTuple):
    """One question: a text before (if any) and after the change, and what has to come out."""

    before: str | None
    after: str
    pair: str | None
    wanted: Case | None = None


@dataclass(frozen=True)
class Task:
    """What a test may ask for: the classes (none for regression), the columns, the same-value tolerance."""

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    pairs: bool
    tolerance: float


class _Asker:
    """One model, asked one text at a time, each text once.

    In a batch an int8 model's answer depends a little on the batch's other texts, since they share one scale of
    rounding; that would be taken for an effect of the change.
    """

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self._known: dict[tuple[str, str | None], Any] = {}

    def answer(self, text: str, pair: str | None) -> Any:
        """The label, or the value."""
        if (text, pair) not in self._known:
            found = self._predictor.predict([text], None if pair is None else [pair])
            self._known[text, pair] = found.labels[0] if self._predictor.labels else float(found.scores[0, 0])
        return self._known[text, pair]

    def answers(self, asks: Sequence[Ask]) -> tuple[list[Any] | None, list[Any]]:
        """Before (None when there is no before) and after the change."""
        before = [self.answer(ask.before, ask.pair) for ask in asks if ask.before is not None]
        return before or None, [self.answer(ask.after, ask.pair) for ask in asks]


def wanted_behaviour(params: Params) -> Behaviour | None:
    """The tests of the file that evaluation.behaviour names, read from the project's root; None when it names none.

    Raises:
        UsageError: the file is missing or wrong.
    """
    from tokka.settings import Settings

    if params.evaluation.behaviour is None:
        return None
    return load_behaviour(Settings.from_environment().root / params.evaluation.behaviour)


def evaluate_behaviour(params: Params, test: TestSet, models: Sequence[Any]) -> dict[str, Any]:
    """details.behaviour: the file's tests on the candidate and, if there is one, the champion; {} without a file.

    Raises:
        UsageError: as `wanted_behaviour`.
    """
    wanted = wanted_behaviour(params)
    if wanted is None:
        return {}
    predictors = {model.name: model.predictor for model in models}
    found = run_behaviour(wanted, test, predictors, params.finetuning.seed, params.evaluation.confidence)
    return {"file": params.evaluation.behaviour, "rows": wanted.rows, **found}


def run_behaviour(
    wanted: Behaviour, test: TestSet, predictors: Mapping[str, Any], seed: int, confidence: float = 0.95
) -> dict[str, Any]:
    """Run every test on every model.

    Args:
        predictors: by subject; the first is the one whose classes decide which tests apply.

    Returns:
        `tests` (name, kind, minimum, and either `skipped` with the reason or `subjects` with passed, rows, rate, low,
        high, verdict and up to five failing examples) and `robustness`, the mean rate of the invariance tests.
    """
    columns = tuple(name.removeprefix(PREFIX) for name in test.table.column_names if name.startswith(PREFIX))
    labels = tuple(next(iter(predictors.values())).labels)
    task = Task(labels, columns, test.pairs is not None, wanted.tolerance * test.scale)
    askers = {name: _Asker(predictor) for name, predictor in predictors.items()}
    tests = [_run(one, wanted.rows, task, test, askers, seed, confidence) for one in wanted.tests]
    return {"tests": tests, "robustness": {name: robustness(tests, name) for name in predictors}}


def robustness(tests: Sequence[Mapping[str, Any]], subject: str) -> float | None:
    """The mean rate over the invariance tests that were run, in [0, 1]; None when none was."""
    rates = [
        found["subjects"][subject]["rate"] for found in tests if found["kind"] == "invariance" if "subjects" in found
    ]
    return float(np.mean(rates)) if rates else None


def _run(
    one: Any, rows: int, task: Task, test: TestSet, askers: Mapping[str, _Asker], seed: int, confidence: float
) -> dict[str, Any]:
    described = {"name": one.name, "kind": one.kind, "minimum": one.minimum}
    reason, note = _obstacle(one, task)
    asks = [] if reason else _questions(one, rows, task, test, seed)
    if not asks:
        return described | {"skipped": reason or "no test row has what this test changes"}
    subjects = {name: _judge(one, asks, asker.answers(asks), task, confidence) for name, asker in askers.items()}
    return described | {"note": note, "subjects": subjects}


def _obstacle(one: Any, task: Task) -> tuple[str, str]:
    """Why a test cannot be asked of this task ("" if it can), and what is left out of it."""
    if isinstance(one, Invariance):
        unknown = sorted(set(one.where) - set(task.columns))
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
    return ("these cases are for pairs of texts, or for another kind of task than this one"), ""


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


def _questions(one: Any, rows: int, task: Task, test: TestSet, seed: int) -> list[Ask]:
    if isinstance(one, Functionality):
        return [Ask(None, case.text, case.pair, case) for case in _usable(one, task)]
    if isinstance(one, Directional):
        return [Ask(text, changed, None) for text in one.texts if (changed := _moved(one, text)) != text]
    return _changed_rows(one, rows, test, seed)


def _moved(one: Directional, text: str) -> str:
    for old, new in one.replace.items():
        text = text.replace(old, new)
    return f"{text.rstrip()} {one.add.strip()}" if one.add.strip() else text


def _changed_rows(one: Invariance, rows: int, test: TestSet, seed: int) -> list[Ask]:
    """Up to `rows` test rows, drawn and changed by a seed of the test's name: another test changes none of them."""
    number = int(files.digest_json([seed, one.name])[:12], 16)
    asks: list[Ask] = []
    keep = {column: test.table.column(f"{PREFIX}{column}").to_pylist() for column in one.where}
    for row in np.random.default_rng(number).permutation(test.rows):
        text = test.texts[row]
        if any(str(values[row]) != one.where[column] for column, values in keep.items()):
            continue
        changed = change_text(one, text, random.Random(f"{number}-{row}"))
        if changed is not None:
            asks.append(Ask(text, changed, test.pairs[row] if test.pairs else None))
        if len(asks) == rows:
            break
    return asks


def _judge(
    one: Any, asks: Sequence[Ask], answers: tuple[list[Any] | None, list[Any]], task: Task, confidence: float
) -> dict[str, Any]:
    from scipy.stats import binomtest

    before, after = answers
    passed = [
        _holds(one, ask, None if before is None else before[row], after[row], task) for row, ask in enumerate(asks)
    ]
    rate = sum(passed) / len(passed)
    bounds = binomtest(sum(passed), len(passed)).proportion_ci(confidence, method="wilson")
    failed = [row for row, good in enumerate(passed) if not good][:EXAMPLES]
    return {
        "passed": sum(passed),
        "rows": len(passed),
        "rate": rate,
        "low": min(float(bounds.low), rate),
        "high": max(float(bounds.high), rate),
        "verdict": "pass" if rate >= one.minimum else "fail",
        "examples": [_example(one, asks[row], None if before is None else before[row], after[row]) for row in failed],
    }


def _holds(one: Any, ask: Ask, before: Any, after: Any, task: Task) -> bool:
    if isinstance(one, Invariance):
        return bool(after == before) if task.labels else abs(float(after - before)) <= task.tolerance
    if isinstance(one, Directional):
        if one.value is not None:
            return bool(after > before if one.value == "rises" else after < before)
        return bool(after == one.to if one.to is not None else after != one.away_from)
    case = ask.wanted
    assert case is not None
    if case.label is not None:
        return bool(after == case.label)
    low = -np.inf if case.at_least is None else case.at_least
    return bool(low <= after <= (np.inf if case.at_most is None else case.at_most))


def _example(one: Any, ask: Ask, before: Any, after: Any) -> dict[str, Any]:
    case = ask.wanted
    if case is not None:
        expected = case.label or _range(case)
    elif isinstance(one, Directional):
        expected = one.to or (f"not {one.away_from}" if one.away_from else f"a value that {one.value}")
    else:
        expected = _shown(before)
    return {
        "before": (ask.before or "")[:EXAMPLE_CHARACTERS],
        "after": ask.after[:EXAMPLE_CHARACTERS],
        "was": "" if before is None else _shown(before),
        "expected": expected,
        "got": _shown(after),
    }


def _range(case: Case) -> str:
    bounds = {"at least": case.at_least, "at most": case.at_most}
    return ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value is not None)


def _shown(answer: Any) -> str:
    return answer if isinstance(answer, str) else f"{float(answer):.4g}"
