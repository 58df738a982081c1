"""Does the evaluation say what its own predictions say? Rules over the evaluation and what was seen beside it.

An evaluation is not believed: every figure that a rule judges is computed again from the predictions and the test rows
that it lists by digest, and what serves is asked of the record. What cannot be computed again, the costs, has to be
possible and must not contradict itself.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tokka.evaluation.gate.schema import Evaluation, ModelScores
from tokka.params import Params

Answer = tuple[bool, str]
# Computed twice from the same scores; another machine may round otherwise.
RELATIVE, ABSOLUTE = 1e-6, 1e-9
# What the folder of a model weighs beside its weights (the tokenizer), and the extremes of bytes per parameter.
BESIDE_MB, LEAST_BYTES, MOST_BYTES = 20.0, 0.05, 64.0
# One text takes at most so many times as long as its processor time, or its share of a full batch.
SLOWEST = 100.0
FILES = ("predictions.parquet", "scores.npz", "training_rows.npz")


@dataclass(frozen=True)
class Seen:
    """What was computed again, or asked, beside the evaluation.

    figures: those of evaluation.json that follow from the files; empty with a `problem`. files: sha256 of each file.
    distinct, truths: how many different test texts and truths there are. champion: version and digest of what serves
    at this moment, None for nothing, empty strings where nobody asked.
    """

    figures: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    distinct: int = 0
    truths: int = 0
    champion: tuple[str, str] | None = ("", "")
    problem: str = ""


def files_are_listed(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """The predictions and test rows are those that the evaluation lists by digest."""
    if seen.problem:
        return False, f"the figures cannot be computed again: {seen.problem}"
    for name in FILES:
        if not evaluation.files.get(name):
            return False, f"the evaluation does not list {name}, from which its figures follow: evaluate again"
        if evaluation.files[name] != seen.files.get(name):
            return False, f"{name} is not the file that the evaluation lists: it was exchanged"
    return True, "predictions and test rows are those that were listed"


def figures_follow(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """Every figure that is judged follows from the predictions."""
    told = evaluation.model_dump(mode="json")
    if not seen.figures:
        return False, "nothing was computed again from the predictions"
    odd = list(_differences(told, seen.figures))
    if odd:
        more = f", and {len(odd) - 3} more" if len(odd) > 3 else ""
        return False, f"the evaluation contradicts its own predictions: {'; '.join(odd[:3])}{more}"
    return True, "every figure follows from the predictions"


def test_set_is_one(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """The test rows are different rows with different truths."""
    least = params.gate.minimum_rows
    if seen.distinct < least:
        rows = evaluation.test.rows
        return (
            False,
            f"{rows} test rows are {seen.distinct} different texts, {least} needed: rows are repeated",
        )
    if seen.truths < 2:
        return False, "every test row has the same truth: whoever always answers that is never wrong"
    return True, f"{seen.distinct} different test texts with {seen.truths} different truths"


def champion_still_serves(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """What serves at this moment is what the candidate was compared with."""
    if seen.champion == ("", ""):
        return True, "nobody asked what serves"
    compared = evaluation.champion and (evaluation.champion.version, evaluation.champion.digest)
    if compared == seen.champion:
        return True, "what serves is what was compared with"
    now = f"version {seen.champion[0]} serves" if seen.champion else "nothing serves"
    then = f"version {compared[0]} ({compared[1][:12] or 'no digest'})" if compared else "no champion"
    return False, f"compared with {then}, now {now}: the champion has moved, evaluate again"


def names_are_right(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """Each model has its own name, labels without repetition in the data's order, and digests that are some."""
    for name in ("candidate", "champion", "general", "linear", "tfidf"):
        model: ModelScores | None = getattr(evaluation, name)
        if model is None:
            continue
        if model.name != name:
            return False, f"the {name} is called {model.name!r}"
        if len(set(model.labels)) != len(model.labels):
            return False, f"the {name} has a label twice"
        common = [label for label in model.labels if label in evaluation.test.labels]
        if common != [label for label in evaluation.test.labels if label in model.labels]:
            return False, f"the {name} has its labels in another order than the data"
    for what, digest in (("data", evaluation.data_digest), ("candidate", evaluation.candidate.digest)):
        if not re.fullmatch(r"[0-9a-f]{32,64}", digest):
            return False, f"the digest of the {what}, {digest[:64]!r}, is none"
    return True, "every model has its name and its labels"


def costs_are_possible(evaluation: Evaluation, params: Params, seen: Seen) -> Answer:
    """Latency, throughput and size do not contradict each other."""
    models = (evaluation.candidate, evaluation.champion, evaluation.general, evaluation.linear, evaluation.tfidf)
    for model in (one for one in models if one is not None):
        if problem := _impossible(model):
            return False, f"the {model.name} {problem}"
    return True, "no cost contradicts another"


def _impossible(model: ModelScores) -> str:
    latency, megabytes = model.latency_ms, model.parameters / 1e6
    if latency.p50 > latency.p99:
        return f"has a median latency of {latency.p50:g} ms above its 99th percentile of {latency.p99:g} ms"
    most = SLOWEST * max(model.cpu_ms, 1e3 / model.throughput)
    if latency.p50 > most:
        return f"takes {latency.p50:g} ms for a text, and {model.cpu_ms:g} ms of processor time"
    if not LEAST_BYTES * megabytes <= model.size_mb <= MOST_BYTES * megabytes + BESIDE_MB:
        return f"weighs {model.size_mb:g} MB with {model.parameters:,} parameters"
    return ""


def _differences(told: object, found: object, path: str = "") -> Iterator[str]:
    """Where `told` lacks what was found, or says otherwise; what it says beyond that is not looked at."""
    if isinstance(found, Mapping) and isinstance(told, Mapping):
        for name, value in found.items():
            yield from _differences(told.get(name), value, f"{path}.{name}".lstrip("."))
    elif isinstance(found, list) and isinstance(told, list) and len(found) == len(told):
        for place, value in enumerate(found):
            yield from _differences(told[place], value, f"{path}[{place}]")
    elif not _same(told, found):
        yield f"{path} is {_shown(told)}, by the predictions {_shown(found)}"


def _same(told: object, found: object) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (told, found))
    if numbers:
        return math.isclose(told, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE)  # type: ignore[arg-type]
    return told == found


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "left out" if value is None else "there" if isinstance(value, Mapping) else repr(value)[:60]


AGREEMENT: dict[str, Callable[[Evaluation, Params, Seen], Answer]] = {
    rule.__name__: rule
    for rule in (
        files_are_listed, figures_follow, test_set_is_one, champion_still_serves, names_are_right, costs_are_possible,
    )
}  # fmt: skip
