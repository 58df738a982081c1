"""tune: search the finetuning section on validation rows, and write what is proven better into params.yaml."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tokka import files, progress
from tokka.deployment.record.leases import renewed
from tokka.errors import Refused, UsageError
from tokka.files import JsonObject
from tokka.params import Params, parse_params
from tokka.settings import Settings

if TYPE_CHECKING:
    from tokka.registry.mlflow_client import Registry
    from tokka.tuning.search import Search, Trial
    from tokka.tuning.search_space import Values

STEP = "tune"


def run(
    params: Params, settings: Settings, path: Path, *, trials: int, timeout: float | None = None,
    overrides: tuple[str, ...] = (), dry_run: bool = False,
) -> JsonObject:  # fmt: skip
    """Continue the study of these params and data up to `trials` trials, and edit `path` when that is worth it.

    Returns:
        study, trials (each with number, state, value, values), present, best, improvement, standard_error, verdict,
        diff, written, mlflow_run.

    UsageError for a range or a value that cannot be searched, TokkaError when the data cannot be prepared or the
    present values cannot be trained. After Ctrl-C the same call goes on.
    """
    from tokka.tuning.search_space import make_space

    make_space(params.finetuning, overrides)  # refused before the data is prepared
    prepared = _prepare(params, settings)
    with progress.step(STEP):
        return _search(params, settings, prepared, path, trials, timeout, overrides, dry_run)


@progress.step(STEP)
@renewed
def work(
    params: Params, settings: Settings, prepared: Path, *, trials: int, overrides: tuple[str, ...] = ()
) -> JsonObject:
    """One worker of a search on a cluster: as `run`, on rows that are prepared; the diff is of the image's params.yaml.

    Refused where the record is a file, since no other worker would see the study.
    """
    if settings.record_url.startswith("sqlite"):
        raise Refused("workers share their study in the record's database, and this one is a file",
                      "name a PostgreSQL in TOKKA_RECORD_URL, or use `tokka tune` for one worker")  # fmt: skip
    return _search(params, settings, prepared, settings.root / "params.yaml", trials, None, overrides, True)


def _search(
    params: Params, settings: Settings, prepared: Path, path: Path, trials: int, timeout: float | None,
    overrides: tuple[str, ...], dry_run: bool,
) -> JsonObject:  # fmt: skip
    from tokka.model.base import resolve_base
    from tokka.registry.mlflow_client import Registry
    from tokka.tuning.search import Search
    from tokka.tuning.search_space import make_space

    space, base = make_space(params.finetuning, overrides), resolve_base(params.model, settings.home / "base")
    search = Search(prepared, params, settings, base, space)
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    for trial in search.trials():  # of an interrupted call: the last one may not have been logged
        _log(registry, search, trial, trials)
    search.run(trials, timeout, lambda trial: _log(registry, search, trial, trials))
    for trial in search.trials():  # of a worker that was lost before it had logged its last one
        _log(registry, search, trial, trials)
    outcome = decide(search, path, dry_run)
    with registry.search(search.name) as runs:
        outcome["mlflow_run"] = runs.finish({"tokka.verdict": outcome["verdict"]})
    progress.result(STEP, **{name: value for name, value in outcome.items() if name != "trials"})
    return outcome


def _prepare(params: Params, settings: Settings) -> Path:
    """The same rows as those of `tokka run`, by what its steps call, in a folder of the search's own."""
    from tokka.data.preparation.versioning import preprocess
    from tokka.data.validation.validation import validate_source

    place = settings.home / "tune" / "data"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with progress.step("validate_data"):
        validate_source(params, settings, place / "rows")
    with progress.step("preprocess"):
        preprocess(place / "rows", params, settings, place / "prepared")
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


def decide(search: "Search", path: Path, dry_run: bool) -> JsonObject:
    """Write the best values when they beat the present ones by more than the validation metric's standard error."""
    best, present = search.best(), search.present()
    outcome: JsonObject = {
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


def _write(path: Path, values: "Values", verdict: str, dry_run: bool) -> JsonObject:
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

    UsageError when the section means nothing without --set.
    """
    from tokka.tuning.search_space import present_values

    tree = yaml.safe_load(text) or {}
    present = present_values(parse_params({"finetuning": tree.get("finetuning") or {}}).finetuning)
    return {name: value for name, value in values.items() if value != present[name]}
