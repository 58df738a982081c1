"""tune: search the finetuning section on validation rows, and write what is proven better into params.yaml.

outcome = run(params, settings, path=Path("params.yaml"), trials=20)
outcome["diff"], outcome["written"]
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tokka import files, progress
from tokka.errors import UsageError
from tokka.params import Params, parse_params
from tokka.settings import Settings

if TYPE_CHECKING:
    from tokka.registry.mlflow_client import Registry
    from tokka.tuning.search import Search, Trial
    from tokka.tuning.search_space import Values

STEP = "tune"
Outcome = dict[str, Any]


def run(
    params: Params, settings: Settings, path: Path, *, trials: int, timeout: float | None = None,
    overrides: tuple[str, ...] = (), dry_run: bool = False,
) -> Outcome:  # fmt: skip
    """Continue the study of these params and data up to `trials` trials, and edit `path` when that is worth it.

    Returns:
        study, trials (each with number, state, value, values), present, best, improvement, standard_error, verdict,
        diff, written, mlflow_run.

    Raises:
        UsageError: a range or a value that cannot be searched.
        TokkaError: the data cannot be prepared, or the present values cannot be trained.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    from tokka.model.base import resolve_base
    from tokka.registry.mlflow_client import Registry
    from tokka.tuning.search_space import make_space

    space, prepared = make_space(params.finetuning, overrides), _prepare(params, settings)
    with progress.step(STEP):
        from tokka.tuning.search import Search

        search = Search(prepared, params, settings, resolve_base(params.model, settings.home / "base"), space)
        registry = Registry(settings, params.registry.model)
        registry.prepare()
        for trial in search.trials():  # of an interrupted call: the last one may not have been logged
            _log(registry, search, trial, trials)
        search.run(trials, timeout, lambda trial: _log(registry, search, trial, trials))
        outcome = decide(search, path, dry_run)
        with registry.search(search.name) as runs:
            outcome["mlflow_run"] = runs.finish({"tokka.verdict": outcome["verdict"]})
        progress.result(STEP, **{name: value for name, value in outcome.items() if name != "trials"})
        return outcome


def _prepare(params: Params, settings: Settings) -> Path:
    """The same rows as those of `tokka run`, by the same steps, in a folder of the search's own."""
    from tokka.steps import preprocess, validate_data

    place = settings.home / "tune" / "data"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    validate_data.run(params, settings, place / "rows")
    preprocess.run(params, settings, place / "rows", place / "prepared")
    return place / "prepared"


def _log(registry: "Registry", search: "Search", trial: "Trial", trials: int) -> None:
    """A trial as a nested run in MLflow, and as progress."""
    figures, shown = {}, trial.state
    if trial.value is not None:
        figures = {f"validation_{search.metric}": trial.value, "standard_error": trial.standard_error}
        shown = f"{search.metric} {trial.value:.4f}"
    with registry.search(search.name) as runs:
        runs.trial(trial.number, values=trial.values, curves=trial.curves, metrics=figures, state=trial.state)
    progress.report(STEP, f"trial {trial.number}: {shown}", fraction=min(1.0, (trial.number + 1) / trials))


def decide(search: "Search", path: Path, dry_run: bool) -> Outcome:
    """Write the best values when they beat the present ones by more than the validation metric's standard error."""
    best, present = search.best(), search.present()
    outcome: Outcome = {
        "study": search.name,
        "metric": search.metric,
        "trials": [
            {name: value for name, value in vars(trial).items() if name != "curves"} | {"epochs": len(trial.curves)}
            for trial in search.trials()
        ],
        "present": present.value if present else None,
        "best": best.values if best else None,
        "diff": "",
        "written": False,
    }
    if best is None or present is None:
        return {**outcome, "verdict": "no trial has ended: nothing to write"}
    gain, error = search.gain(best, present), present.standard_error
    outcome |= {"improvement": gain, "standard_error": error}
    verdict = f"trial {best.number} is {gain:.4f} better than the present values"
    if gain <= error:
        return {**outcome, "verdict": f"{verdict}, within one standard error ({error:.4f}): nothing to write"}
    return {**outcome, **_write(path, best.values, f"{verdict} (standard error {error:.4f})", dry_run)}


def _write(path: Path, values: "Values", verdict: str, dry_run: bool) -> Outcome:
    """Put the values into the file; one that cannot be edited costs no search: the verdict says what to write."""
    from tokka.tuning.params_file import edited, unified_diff

    before, changed = path.read_text(encoding="utf-8"), values
    try:
        changed = _changes(before, values)
        after = edited(before, {f"finetuning.{name}": value for name, value in changed.items()})
    except UsageError as error:
        lines = ", ".join(f"finetuning.{name}: {value:g}" for name, value in changed.items())
        return {"verdict": f"{verdict}, but {error.message}; write by hand: {lines}"}
    if not dry_run:
        files.write_text(path, after)
    return {"verdict": verdict, "diff": unified_diff(before, after, path.name), "written": not dry_run}


def _changes(text: str, values: "Values") -> "Values":
    """The values that the file itself does not say: what --set laid over it was tried, but stands nowhere.

    Raises:
        UsageError: the section means nothing without --set.
    """
    from tokka.tuning.search_space import present_values

    tree = yaml.safe_load(text) or {}
    present = present_values(parse_params({"finetuning": tree.get("finetuning") or {}}).finetuning)
    return {name: value for name, value in values.items() if value != present[name]}
