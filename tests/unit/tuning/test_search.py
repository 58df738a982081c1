"""The study of `tokka tune`: present values first, the same after an interruption, pruned by the validation metric."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.training import MakeParams
from tokka.data.preparation.prepared import load
from tokka.model.base import resolve_base
from tokka.params import Params
from tokka.settings import Settings
from tokka.training import train as training
from tokka.tuning.search import Search, Trial, without_test_targets
from tokka.tuning.search_space import make_space, present_values

SMALL = ["epochs=1:3", "batch_size=16:32", "learning_rate=1e-4:1e-2"]


def make_search(prepared: Path, params: Params, home: Path) -> Search:
    settings = Settings.from_environment({"TOKKA_HOME": str(home)})
    base = resolve_base(params.model, home)
    return Search(prepared, params, settings, base, make_space(params.finetuning, SMALL))


def told(search: Search) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.state, trial.value, trial.values) for trial in search.trials()]


def ignore(trial: Trial) -> None:
    pass


def test_a_study_that_was_interrupted_goes_on_as_if_it_had_not_been(
    prepared: Path, make_params: MakeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = make_params(epochs=1)
    whole = make_search(prepared, params, tmp_path / "whole")
    whole.run(5, None, ignore)
    whole.run(5, None, lambda trial: pytest.fail("a finished study trains nothing"))
    halves = make_search(prepared, params, tmp_path / "halves")
    halves.run(2, None, ignore)
    original = training.train

    def interrupted(*arguments: Any) -> Any:
        original(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_search(prepared, params, tmp_path / "halves").run(5, None, ignore)
    again = make_search(prepared, params, tmp_path / "halves")
    assert len(again.trials()) == 2
    again.study.begin(5, again._sampler)  # as a SIGKILL leaves it: running for ever
    again.run(5, None, ignore)
    assert told(again) == told(whole)
    assert not list(again.place.glob("work-*"))


def test_the_first_trial_is_what_stands_in_the_file(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(epochs=2, learning_rate=0.0123456, weight_decay=0.7)
    search = make_search(prepared, params, tmp_path)
    assert search.present() is None and search.best() is None
    search.run(1, None, ignore)
    (trial,) = search.trials()
    assert trial == search.present() == search.best()
    assert trial.values == present_values(params.finetuning)
    assert trial.values["weight_decay"] == 0.7
    assert [curve["epoch"] for curve in trial.curves] == [1.0, 2.0]


def test_a_hopeless_trial_is_stopped_early(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = make_params(epochs=3, learning_rate=5e-3, early_stopping={"patience": 9})
    search = make_search(prepared, params, tmp_path)
    search.run(3, None, ignore)
    assert {trial.state for trial in search.trials()} == {"complete"}
    # The study is told that its trials were perfect: whatever comes now is worse than their median.
    for trial in search.study.optuna.get_trials(deepcopy=False):
        search.study.optuna.add_trial(_perfect(trial))
    found: list[Trial] = []
    search.run(12, None, found.append)
    pruned = [trial for trial in found if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.curves) == 2 and trial.value is None for trial in pruned)
    assert search.best() not in pruned


def _perfect(trial: Any) -> Any:
    import optuna

    return optuna.trial.create_trial(
        value=1.0,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={1: 1.01, 2: 1.01, 3: 1.01},
    )


def test_shorter_texts_are_another_study(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    standard, edge, shorter = (
        make_search(prepared, make_params(export=export), tmp_path).name
        for export in ({}, {"profile": "edge"}, {"profile": "edge", "edge": {"max_tokens": 8}})
    )
    assert len({standard, edge, shorter}) == 3


def test_test_rows_decide_nothing(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    rows = without_test_targets(load(prepared))
    assert rows.test.column_names == ["text", "target"]
    assert rows.test.column("target").null_count == rows.test.num_rows
    nonsense = tmp_path / "nonsense"
    nonsense.mkdir()
    for path in prepared.iterdir():
        (nonsense / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(prepared / "test.parquet")
    swapped = pa.array(table.column("target").to_pylist()[::-1])
    pq.write_table(table.set_column(table.column_names.index("target"), "target", swapped), nonsense / "test.parquet")
    searches = [
        make_search(folder, make_params(epochs=1), tmp_path / name)
        for folder, name in ((prepared, "a"), (nonsense, "b"))
    ]
    for search in searches:
        search.run(2, None, ignore)
    assert told(searches[0]) == told(searches[1])


def test_time_runs_out_between_trials(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    search = make_search(prepared, make_params(epochs=1), tmp_path)
    search.run(5, 0.0, ignore)
    assert search.trials() == []


def test_regression_minimises_its_error(make_params: MakeParams, tmp_path: Path) -> None:
    from tests.fixtures.prepared_rows import make_prepared

    folder = make_prepared(tmp_path / "rows", task="regression")
    search = make_search(folder, make_params(task={"type": "regression"}, epochs=1), tmp_path)
    search.run(3, None, ignore)
    values = [trial.value for trial in search.trials() if trial.value is not None]
    best, present = search.best(), search.present()
    assert search.metric == "mae"
    assert best is not None and present is not None
    assert best.value == min(values)
    assert search.gain(best, present) == pytest.approx((present.value or 0) - min(values))
