"""The gate's rules: each a pure function of a well-formed evaluation and the params, answering (holds, reason).

Figures are judged by the pessimistic end of their interval, never by the point. Margins are in units of the metric for
classification, and in standard deviations of the test target for regression, so that one default suits both.
"""

from collections.abc import Callable

from tokka.evaluation.gate.schema import Comparison, Evaluation, ModelScores
from tokka.model.profile import budgets
from tokka.params import GATED, Params

Answer = tuple[bool, str]

REQUIRED = {
    "classification": (
        "accuracy",
        *(f"{name}_{mean}" for mean in ("macro", "weighted") for name in ("precision", "recall", "f1")),
        *("roc_auc", "log_loss", "ece"),
    ),
    "regression": ("mae", "rmse", "r2"),
}
MAIN = {"classification": "accuracy", "regression": "mae"}


def gated_metric(params: Params, task: str) -> str:
    """The metric that candidate and champion are compared by."""
    return MAIN[task] if params.gate.metric == "auto" else params.gate.metric


def metric_is_the_asked_one(evaluation: Evaluation, params: Params) -> Answer:
    """The comparison was made on the metric that params.yaml names, for the task that it names."""
    asked = gated_metric(params, params.task.type)
    known = GATED[params.task.type]
    if asked not in known:
        return False, f"gate.metric {asked!r} is none of {', '.join(known)}"
    if evaluation.task != params.task.type or evaluation.metric != asked:
        return False, f"evaluated {evaluation.task} by {evaluation.metric}, asked for {params.task.type} by {asked}"
    if evaluation.higher_is_better != known[asked]:
        return False, f"the evaluation has the direction of {asked} wrong"
    return True, f"judged by {asked}"


def metrics_complete(evaluation: Evaluation, params: Params) -> Answer:
    """Every metric of the task is there for every model that was evaluated."""
    for model in _models(evaluation):
        missing = [name for name in REQUIRED[evaluation.task] if name not in model.metrics]
        if missing:
            return False, f"the {model.name} has no {', '.join(missing)}"
    return True, "every metric of the task was measured"


def enough_rows(evaluation: Evaluation, params: Params) -> Answer:
    """The test set is large enough for an interval to mean something."""
    rows, least = evaluation.test.rows, params.gate.minimum_rows
    return rows >= least, f"{rows} test rows, at least {least} needed"


def same_rows(evaluation: Evaluation, params: Params) -> Answer:
    """Every model and every comparison saw the same frozen test rows."""
    test = evaluation.test
    for model in _models(evaluation):
        if model.rows != test.rows or model.test_digest != test.digest:
            return False, f"the {model.name} was measured on other rows than the test set"
    compared = evaluation.comparison
    for comparison in (compared.champion, compared.general, compared.linear, compared.tfidf):
        with_new = comparison is compared.champion and _unknown_to_champion(evaluation)
        rows_fit = comparison and (comparison.rows == test.rows or (with_new and comparison.rows < test.rows))
        if comparison and not (rows_fit and comparison.metric == evaluation.metric):
            return False, "a comparison was made on other rows, or by another metric, than the evaluation"
    return True, f"every model saw the same {test.rows} rows"


def no_leak(evaluation: Evaluation, params: Params) -> Answer:
    """No test row was trained on."""
    found = max(evaluation.overlap.row_ids, evaluation.overlap.texts)
    if found:
        return False, f"{found} test rows stand in the training data too: the figures flatter the candidate"
    return True, "no test row stands in the training data"


def trained_on_this_data(evaluation: Evaluation, params: Params) -> Answer:
    """The candidate says that it was trained on the data set whose test rows judge it."""
    told, wanted = evaluation.candidate.data_digest, evaluation.data_digest
    if told != wanted:
        return False, f"the candidate was trained on data {told[:12] or '(unknown)'}, judged on data {wanted[:12]}"
    return True, f"trained and judged on data {wanted[:12]}"


def labels_complete(evaluation: Evaluation, params: Params) -> Answer:
    """The candidate can answer every class of the data, and every class that the champion serves."""
    if evaluation.task == "regression":
        return True, "no classes in a regression"
    known = set(evaluation.candidate.labels)
    lost = sorted(set(evaluation.test.labels) - known)
    if lost or not known:
        return False, f"the candidate cannot answer {_some(lost) or 'any class'}, which the data holds"
    retired = {name for name, now in params.data.labels.items() if not now}
    if evaluation.champion and (gone := sorted(set(evaluation.champion.labels) - known - retired)):
        return False, f"the candidate lost {_some(gone)}, which the champion serves; data.labels can retire or rename"
    return True, f"the candidate answers all {len(known)} classes"


def absolute_minimum(evaluation: Evaluation, params: Params) -> Answer:
    """The pessimistic end of the metric reaches gate.minimum; for regression, that of R² reaches gate.minimum_r2."""
    if evaluation.task == "regression":
        name, least = "r2", params.gate.minimum_r2
    else:
        name, least = evaluation.metric, params.gate.minimum
    found = evaluation.candidate.metrics[name]
    return found.low >= least, f"{name} {found.value:.4f}, low end {found.low:.4f}; the low end must reach {least:.4f}"


def beats_general(evaluation: Evaluation, params: Params) -> Answer:
    """The specialist is better than the model that it was made from, beyond chance."""
    if not params.gate.beat_general:
        return True, "gate.beat_general is off: no comparison with the general baseline"
    if evaluation.general is None or evaluation.comparison.general is None:
        return False, "the general baseline was not measured, and gate.beat_general asks for it"
    found = evaluation.comparison.general
    return found.low > 0, f"against the general baseline {_gain(found)}; the low end must be above 0"


def beats_simple(evaluation: Evaluation, params: Params) -> Answer:
    """The specialist is better than a linear head and than TF-IDF, beyond chance; a linear head than TF-IDF."""
    if params.gate.must_beat == "none":
        return True, "gate.must_beat is none: linear head and TF-IDF stand in the report and decide nothing here"
    asked = {"the linear head": evaluation.comparison.linear, "TF-IDF": evaluation.comparison.tfidf}
    if evaluation.candidate.strategy == "frozen":
        del asked["the linear head"]
    if missing := [name for name, found in asked.items() if found is None]:
        return False, f"{' and '.join(missing)} were not measured, and gate.must_beat = simple asks for it"
    known = {name: found for name, found in asked.items() if found is not None}
    reason = "; ".join(f"against {name} {_gain(found)}" for name, found in known.items())
    return all(found.low > 0 for found in known.values()), f"{reason}; the low end must be above 0"


def latency_budget(evaluation: Evaluation, params: Params) -> Answer:
    """One text at a time stays within the profile's latency budget, 99 times of 100."""
    found, held = evaluation.candidate.latency_ms.p99, budgets(params)
    return found <= held.latency_ms, f"p99 latency {found:.1f} ms, at most {held.latency_ms:.1f} ms ({held.source})"


def size_budget(evaluation: Evaluation, params: Params) -> Answer:
    """The served form stays within the profile's size budget."""
    found, held = evaluation.candidate.size_mb, budgets(params)
    return found <= held.size_mb, f"{found:.1f} MB, at most {held.size_mb:.1f} MB ({held.source})"


def champion_known(evaluation: Evaluation, params: Params) -> Answer:
    """Either there is no champion yet, or it was there to be compared with. Not knowing is a refusal."""
    status, compared = evaluation.champion_status, evaluation.comparison.champion
    if status == "none":
        if evaluation.champion is not None or compared is not None:
            return False, "a champion was measured, yet the evaluation says that there is none"
        return True, "no champion yet: absolute rules alone"
    if status != "present":
        return False, f"the champion could not be reached: {evaluation.champion_reason or 'no reason given'}"
    if evaluation.champion is None or compared is None:
        return False, "a champion serves, but the evaluation does not compare with it"
    return True, f"compared with version {evaluation.champion.version or '(unnamed)'}"


def not_inferior(evaluation: Evaluation, params: Params) -> Answer:
    """The low end of candidate minus champion is above minus the margin."""
    found = evaluation.comparison.champion
    if found is None:
        return evaluation.champion_status == "none", "no champion to compare with"
    margin = params.gate.noninferiority_margin * evaluation.test.scale
    if found.rows < params.gate.minimum_rows and found.rows < evaluation.test.rows:
        least = params.gate.minimum_rows
        return False, f"only {found.rows} test rows are of classes that the champion knows, {least} are needed"
    words = f"against the champion {_gain(found)}; the low end must be above {-margin:.4f}{_left_out(evaluation)}"
    return found.low > -margin, words


def no_slice_worse(evaluation: Evaluation, params: Params) -> Answer:
    """No slice lost more than the margin and more than chance explains, over all slices at once."""
    found = evaluation.comparison.champion
    if found is None:
        return evaluation.champion_status == "none", "no champion to compare slices with"
    measured = {(part.slice, part.value) for part in evaluation.candidate.slices}
    compared = {(part.slice, part.value) for part in found.slices}
    if measured != compared and not (_unknown_to_champion(evaluation) and compared <= measured):
        return False, "the slices that were compared are not the slices that were measured"
    margin = params.gate.slice_margin * evaluation.test.scale
    worse = [part for part in found.slices if part.difference < -margin and part.high < 0]
    if worse:
        named = "; ".join(
            f"{part.slice} = {part.value}: {part.difference:+.4f} ({part.rows} rows)" for part in worse[:3]
        )
        return False, f"{len(worse)} of {len(found.slices)} slices lost more than {margin:.4f}: {named}"
    return True, f"none of {len(found.slices)} slices lost more than {margin:.4f} beyond chance"


def not_slower(evaluation: Evaluation, params: Params) -> Answer:
    """Median latency is at most gate.slowdown times the champion's, measured in turns on the same texts."""
    champion = evaluation.champion
    if champion is None:
        return evaluation.champion_status == "none", "no champion to be slower than"
    found, most = evaluation.candidate.latency_ms.p50, params.gate.slowdown * champion.latency_ms.p50
    return (
        found <= most,
        f"median latency {found:.2f} ms, at most {most:.2f} ms ({params.gate.slowdown:g} times the champion's)",
    )


def not_bigger(evaluation: Evaluation, params: Params) -> Answer:
    """The served form is at most gate.growth times as large as the champion's."""
    champion = evaluation.champion
    if champion is None:
        return evaluation.champion_status == "none", "no champion to be bigger than"
    found, most = evaluation.candidate.size_mb, params.gate.growth * champion.size_mb
    return found <= most, f"{found:.1f} MB, at most {most:.1f} MB ({params.gate.growth:g} times the champion's)"


RULES: dict[str, Callable[[Evaluation, Params], Answer]] = {
    rule.__name__: rule
    for rule in (
        metric_is_the_asked_one,
        metrics_complete,
        enough_rows,
        same_rows,
        no_leak,
        trained_on_this_data,
        labels_complete,
        absolute_minimum,
        beats_general,
        beats_simple,
        latency_budget,
        size_budget,
        champion_known,
        not_inferior,
        no_slice_worse,
        not_slower,
        not_bigger,
    )
}


def _models(evaluation: Evaluation) -> list[ModelScores]:
    models = (evaluation.candidate, evaluation.champion, evaluation.general, evaluation.linear, evaluation.tfidf)
    return [model for model in models if model is not None]


def _unknown_to_champion(evaluation: Evaluation) -> list[str]:
    """Classes of the data that the champion is too old to know."""
    known = set(evaluation.champion.labels) if evaluation.champion else set()
    return sorted(set(evaluation.test.labels) - known) if known else []


def _left_out(evaluation: Evaluation) -> str:
    """What the comparison with the champion does not cover, since it does not know it or the data no longer has it."""
    compared, new = evaluation.comparison.champion, _unknown_to_champion(evaluation)
    lost = evaluation.test.rows - compared.rows if compared else 0
    said = f"; left out: {lost} rows of {_some(new)}, which the champion does not know" if new else ""
    old = sorted(set(evaluation.champion.labels) - set(evaluation.test.labels)) if evaluation.champion else []
    return said + (f"; no longer in the data: {_some(old)}" if old else "")


def _gain(found: Comparison) -> str:
    return f"{found.metric} better by {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _some(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
