"""The study behind a search: Optuna's tables in SQLite for one machine, in PostgreSQL for workers side by side.

Trials are numbered 0, 1, …. A number is one worker's at a time; a worker that gives no sign of life for GRACE_S loses
its number to another one, and what it says afterwards is refused by Optuna, since its trial has ended.
"""

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from tokka import files
from tokka.database import LIBPQ, server_url
from tokka.errors import TokkaError
from tokka.tuning.search_space import Values

if TYPE_CHECKING:
    import optuna

# So many trials run to their end before a worse one may be stopped, and none before its second epoch.
UNPRUNED_TRIALS, UNPRUNED_EPOCHS = 3, 2
# Attributes of a trial.
NUMBER, VALUES, CURVES, ERROR, STANDARD_ERROR = "number", "values", "curves", "error", "standard_error"
# Of its own, so that Optuna's tables, alembic_version among them, are nobody else's.
SCHEMA = "tuning"
BEAT_S, GRACE_S = 10, 60


class Lost(Exception):
    """Another worker has taken this trial's number over."""


class Study:
    """The study of this name: in the record's PostgreSQL, else in a file in `place`.

    TokkaError when the database cannot be used.
    """

    def __init__(self, name: str, place: Path, record_url: str, *, higher: bool) -> None:
        self.name, self.place = name, place
        self.is_shared = not record_url.startswith("sqlite")
        self._engine = _engine(record_url) if self.is_shared else None
        # The tables are those of all studies, so that one process at a time looks whether they are there.
        with _in_words(), self._alone(SCHEMA), _quietly():
            self.storage = _shared(self._engine) if self._engine else _own(place / "study.db")
            self.optuna = _create(self.storage, name, higher=higher)

    @contextmanager
    def open_for_trials(self) -> Iterator[None]:
        """On one machine one process at a time; trials that a kill left running there are none."""
        if self.is_shared:
            with _in_words():
                yield
            return
        with files.locked(self.place / ".lock"):
            for trial in self._in_state("RUNNING"):
                self._fail(trial.number)
            yield

    def begin(
        self, wanted: int, sampler: Callable[[int], "optuna.samplers.BaseSampler"]
    ) -> "tuple[optuna.Trial, int] | Literal['wait', 'done']":
        """A trial of the lowest free number below `wanted`, drawn by `sampler` of that number.

        `wait` while others are at the last ones, `done` when all have ended.
        """
        import optuna

        with self._alone(self.name), _quietly():
            optuna.storages.fail_stale_trials(self.optuna)
            running = {trial.user_attrs[NUMBER] for trial in self._in_state("RUNNING") if NUMBER in trial.user_attrs}
            ended = {trial.user_attrs[NUMBER] for trial in self.ended()}
            free = sorted(set(range(wanted)) - ended - running)
            if not free:
                return "wait" if running & set(range(wanted)) else "done"
            self.optuna.sampler = sampler(free[0])
            trial = self.optuna.ask()
            if self.is_shared:  # it lives before it has its number: one that is killed in between holds none
                self.storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr(NUMBER, free[0])
            return trial, free[0]

    def ended(self) -> "list[optuna.trial.FrozenTrial]":
        """The trials that were completed, pruned, or failed by themselves (not by an interruption), by their number."""
        found = [trial for trial in self.optuna.get_trials(deepcopy=False) if NUMBER in trial.user_attrs]
        kept = [one for one in found if one.state.name in ("COMPLETE", "PRUNED") or ERROR in one.user_attrs]
        return sorted(kept, key=lambda trial: int(trial.user_attrs[NUMBER]))

    def drawn_before(self, number: int) -> Values:
        """The values of an attempt at this number that was interrupted, once all were drawn; else none."""
        found = [one for one in self._in_state("FAIL") if one.user_attrs.get(NUMBER) == number]
        return dict(found[-1].params) if found and VALUES in found[-1].user_attrs else {}

    @contextmanager
    def living(self, trial: "optuna.Trial") -> Iterator[None]:
        """Give signs of life for a trial while the block runs; an interruption gives its number free. Lost."""
        import optuna

        try:
            with self._heartbeat(trial):
                yield
        except optuna.exceptions.UpdateFinishedTrialError:
            raise Lost from None
        except BaseException:
            with suppress(Exception):  # it will be missed in time
                self._fail(trial.number)
            raise

    def tell(self, trial: "optuna.Trial", value: float | None, state: str) -> None:
        """End a trial as COMPLETE, PRUNED or FAIL; Lost when another worker has ended it."""
        import optuna

        with _quietly():
            found = self.optuna.tell(
                trial.number, value, state=optuna.trial.TrialState[state], skip_if_finished=True
            )  # fmt: skip
        if found.state.name != state:
            raise Lost

    def _fail(self, number: int) -> None:
        import optuna

        self.optuna.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _in_state(self, state: str) -> "list[optuna.trial.FrozenTrial]":
        return [trial for trial in self.optuna.get_trials(deepcopy=False) if trial.state.name == state]

    @contextmanager
    def _heartbeat(self, trial: "optuna.Trial") -> Iterator[None]:
        """Optuna's own beats only within `optimize`, which cannot choose a number under a lock."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                with suppress(SQLAlchemyError, RuntimeError):  # a database that is away may come back in time
                    self.storage.record_heartbeat(trial._trial_id)

        thread = threading.Thread(target=beat, name="trial", daemon=True)
        if self.is_shared:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if self.is_shared:
                thread.join()

    def _alone(self, what: str) -> AbstractContextManager[None]:
        """No other process does the same meanwhile; of a file there is a lock already, or one process."""
        return nullcontext() if self._engine is None else _locked(self._engine, what)


def _engine(record_url: str) -> Engine:
    return create_engine(server_url(record_url), poolclass=NullPool, connect_args=LIBPQ)


@contextmanager
def _locked(engine: Engine, what: str) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big", signed=True)
    with engine.connect() as connection, connection.begin():
        # A machine that falls silent while it has the lock keeps nobody waiting for longer.
        connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{GRACE_S}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        yield


def _own(path: Path) -> "optuna.storages.RDBStorage":
    import optuna

    return optuna.storages.RDBStorage(f"sqlite:///{path}")


def _shared(engine: Engine) -> "optuna.storages.RDBStorage":
    import optuna

    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    # In the URL, by which alembic connects as well.
    url = engine.url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    return optuna.storages.RDBStorage(
        url.render_as_string(hide_password=False), {"poolclass": NullPool, "connect_args": LIBPQ},
        heartbeat_interval=BEAT_S, grace_period=GRACE_S,
    )  # fmt: skip


def _create(storage: "optuna.storages.RDBStorage", name: str, *, higher: bool) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if higher else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EPOCHS),
        load_if_exists=True,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Optuna calls heartbeats, which it has had since 2021, experimental, and misses its own `optimize`."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")
        yield


@contextmanager
def _in_words() -> Iterator[None]:
    """A database that does not answer, or refuses, as a sentence."""
    import optuna

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines()
        raise TokkaError(
            f"the study cannot be kept in the record's database: {reason[0] if reason else error!r}",
            f"see that TOKKA_RECORD_URL answers and that its user may make the schema {SCHEMA!r}; then try again",
        ) from None
