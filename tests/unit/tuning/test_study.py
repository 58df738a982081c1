"""A study that several workers share: each number is one worker's at a time, and ends once, whoever is killed."""

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fixtures.forked import CONTEXT, end
from tests.fixtures.postgres import Postgres
from tests.fixtures.training import MakeParams
from tests.fixtures.waiting import LIMIT_S, wait_for
from tokka.errors import TokkaError
from tokka.model.base import resolve_base
from tokka.params import Params
from tokka.settings import Settings
from tokka.training import train as training
from tokka.tuning import search as searches
from tokka.tuning.search import Search
from tokka.tuning.search_space import make_space
from tokka.tuning.study import CURVES, NUMBER, VALUES, Lost, Study, _quietly

TRIALS = 6
SMALL = ["epochs=1:3", "batch_size=16:32", "learning_rate=1e-4:1e-2"]
AGE = """
UPDATE tuning.trial_heartbeats SET heartbeat = heartbeat - interval '1 hour' WHERE trial_id IN (
  SELECT trial_id FROM tuning.trial_user_attributes JOIN tuning.trials USING (trial_id)
  WHERE key = 'number' AND value_json = %s AND state = 'RUNNING')
"""


def test_of_workers_side_by_side_one_is_killed_and_no_trial_is_lost_nor_made_twice(
    prepared: Path, make_params: MakeParams, tmp_path: Path, postgres: Postgres
) -> None:
    url, params = postgres.database(), make_params(epochs=1)
    others = [start(prepared, params, tmp_path / name, url) for name in ("b", "c")]
    victim = start(prepared, params, tmp_path / "a", url, hangs=tmp_path / "hangs")
    wait_for(lambda: (tmp_path / "hangs").exists())
    assert end(victim, signal.SIGKILL) == -signal.SIGKILL
    number = (tmp_path / "hangs").read_text()
    age(url, number)
    assert [finished(worker) for worker in others] == [0, 0]
    found = search_on(url, prepared, params, tmp_path / "look")
    assert [trial.number for trial in found.trials()] == list(range(TRIALS))
    assert found.trials()[0].present and all(trial.curves for trial in found.trials())
    attempts = found.study.optuna.get_trials()
    ended = Counter(one.user_attrs[NUMBER] for one in attempts if one.state.name in ("COMPLETE", "PRUNED"))
    assert ended == dict.fromkeys(range(TRIALS), 1)
    assert len(attempts) == TRIALS + 1
    lost, again = (one for one in attempts if one.user_attrs[NUMBER] == int(number))
    assert lost.user_attrs[VALUES] == again.user_attrs[VALUES]
    assert CURVES not in lost.user_attrs


def test_a_study_on_a_server_is_gone_on_with_from_another_machine(
    prepared: Path, make_params: MakeParams, tmp_path: Path, postgres: Postgres
) -> None:
    url, params = postgres.database(), make_params(epochs=1)
    search_on(url, prepared, params, tmp_path / "one").run(2, None, lambda trial: None)
    told: list[int] = []
    search_on(url, prepared, params, tmp_path / "two").run(4, None, lambda trial: told.append(trial.number))
    assert told == [2, 3]


def test_who_was_given_up_is_not_heard_any_more(tmp_path: Path, postgres: Postgres) -> None:
    slow, quick = (Study("s", tmp_path, url, higher=True) for url in [postgres.database()] * 2)
    mine = slow.begin(1, sampler)
    assert quick.begin(1, sampler) == "wait"
    age(url_of(slow), "0")
    theirs = quick.begin(1, sampler)
    assert isinstance(mine, tuple) and isinstance(theirs, tuple)
    with pytest.raises(Lost), slow.living(mine[0]):
        mine[0].report(0.5, 1)
    with pytest.raises(Lost), slow.living(mine[0]):
        slow.tell(mine[0], 0.9, "COMPLETE")
    quick.tell(theirs[0], 0.1, "COMPLETE")
    with pytest.raises(Lost), slow.living(mine[0]):
        slow.tell(mine[0], 0.9, "COMPLETE")
    assert [one.value for one in slow.ended()] == [0.1]
    assert slow.begin(1, sampler) == quick.begin(1, sampler) == "done"


def test_an_interruption_gives_a_number_free_at_once(tmp_path: Path, postgres: Postgres) -> None:
    one, other = (Study("s", tmp_path, url, higher=True) for url in [postgres.database()] * 2)
    found = one.begin(1, sampler)
    assert isinstance(found, tuple)
    with pytest.raises(KeyboardInterrupt), one.living(found[0]):
        raise KeyboardInterrupt
    again = other.begin(1, sampler)
    assert isinstance(again, tuple) and again[1] == 0


def test_a_worker_that_died_before_it_had_a_number_holds_none(tmp_path: Path, postgres: Postgres) -> None:
    study = Study("s", tmp_path, postgres.database(), higher=True)
    with _quietly():
        study.optuna.ask()
    found = study.begin(1, sampler)
    assert isinstance(found, tuple) and found[1] == 0


def test_opened_by_many_at_once(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    workers = [CONTEXT.Process(target=open_two, args=(url, tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    assert [finished(worker) for worker in workers] == [0] * 4


def test_a_server_that_is_away_is_named(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database().replace(str(postgres.port), "1")
    with pytest.raises(TokkaError, match="study cannot be kept") as caught:
        Study("s", tmp_path, url, higher=True)
    assert "secret" not in caught.value.message
    assert "TOKKA_RECORD_URL" in caught.value.hint


def sampler(number: int) -> Any:
    import optuna

    return optuna.samplers.RandomSampler(seed=number)


def url_of(study: Study) -> str:
    assert study._engine is not None
    return study._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def age(url: str, number: str) -> None:
    """As if the worker of a number had been silent for an hour."""
    with psycopg.connect(url) as connection:
        assert connection.execute(AGE, (number,)).rowcount == 1


def search_on(url: str, prepared: Path, params: Params, home: Path) -> Search:
    settings = Settings.from_environment({"TOKKA_HOME": str(home), "TOKKA_RECORD_URL": url})
    return Search(prepared, params, settings, resolve_base(params.model, home), make_space(params.finetuning, SMALL))


def start(prepared: Path, params: Params, home: Path, url: str, hangs: Path | None = None) -> Any:
    """A worker in a process of its own; with `hangs` its first training does, once it has written its number there."""
    process = CONTEXT.Process(target=work, args=(prepared, params, home, url, hangs))
    process.start()
    return process


def finished(process: Any) -> int:
    """The exit code of a process that ends by itself."""
    process.join(LIMIT_S)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, "it did not end"
    return int(process.exitcode)


def work(prepared: Path, params: Params, home: Path, url: str, hangs: Path | None) -> None:
    searches.PAUSE_S = 0.2
    search = search_on(url, prepared, params, home)
    if hangs:
        training.train = lambda setup, work, on_epoch: hang(search, work, hangs)  # type: ignore[assignment]
    search.run(TRIALS, None, lambda trial: None)


def hang(search: Search, work: Path, said: Path) -> Any:
    trial = search.study.optuna.get_trials()[int(work.name.removeprefix("work-"))]
    said.with_suffix(".new").write_text(str(trial.user_attrs[NUMBER]))
    said.with_suffix(".new").rename(said)
    while True:
        time.sleep(60)


def open_two(url: str, place: Path, number: int) -> None:
    for name in ("first", "second") if number % 2 else ("second", "first"):
        Study(name, place, url, higher=True)
