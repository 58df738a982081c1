"""The search behind `tokka tune`: an Optuna study over the finetuning section, steered by validation rows alone.

The study lies in SQLite in its folder. The n-th trial's values depend on the seed, n and the trials before, so that a
study that is interrupted and continued is the one that was never interrupted.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tokka import files, progress, provenance
from tokka.data.preparation.prepared import Prepared, load
from tokka.data.preparation.unlabelled import unlabelled_digest, unlabelled_file
from tokka.errors import TokkaError
from tokka.model.base import BaseModelFolder
from tokka.model.profile import max_tokens
from tokka.params import Params
from tokka.settings import Settings
from tokka.training.fit.validation import STEERING
from tokka.tuning.search_space import Range, Values, present_values, with_values

if TYPE_CHECKING:
    import optuna

STEP = "tune"
# So many trials run to their end before a worse one may be stopped, and none before its second epoch.
UNPRUNED_TRIALS, UNPRUNED_EPOCHS = 3, 2
# MLflow and SQLite know them as attributes of a trial.
PRESENT, VALUES, CURVES, ERROR, STANDARD_ERROR = "present", "values", "curves", "error", "standard_error"


@dataclass(frozen=True)
class Trial:
    """One training of the study; `state` is complete, pruned or failed, `value` the steering metric on validation."""

    number: int
    state: str
    value: float | None
    standard_error: float
    values: Values
    curves: list[dict[str, float]]
    present: bool
    error: str = ""


class Search:
    """A study and how its trials are trained.

    Args:
        folder: the prepared rows.
        params: params.yaml; its values are the first trial.
        settings: TOKKA_HOME keeps the study.
        base: the general model.
        space: what may change, and how far.
    """

    def __init__(
        self, folder: Path, params: Params, settings: Settings, base: BaseModelFolder, space: dict[str, Range]
    ) -> None:
        self.prepared = without_test_targets(load(folder))
        self.params, self.base, self.space = params, base, space
        self.unlabelled = unlabelled_file(params, settings)
        described = files.digest_json({name: asdict(one) for name, one in space.items()})
        practice, tokens = unlabelled_digest(params, settings), str(max_tokens(params))
        inputs = self.prepared.digest, base.digest, practice, described, tokens
        self.name = provenance.step_key("training", params, *inputs)[:16]
        self.place = settings.home / "tune" / self.name
        self.place.mkdir(parents=True, exist_ok=True)
        self.metric, self.higher = STEERING[self.prepared.task]
        self.study = self._open()

    def run(self, trials: int, timeout: float | None, on_trial: Callable[[Trial], None]) -> None:
        """Train until the study has so many trials, or `timeout` seconds have passed; the running one is finished.

        Raises:
            KeyboardInterrupt: Ctrl-C; what is finished stays, and the same call goes on.
            TokkaError: the present values cannot be trained.
        """
        from optuna.trial import TrialState

        began = time.monotonic()
        with files.locked(self.place / ".lock"):
            # A trial that a kill left running is not one; its number is given again.
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self.study.tell(trial.number, state=TrialState.FAIL)
            while (number := len(self.trials())) < trials:
                if timeout is not None and time.monotonic() - began >= timeout:
                    return
                self._one(number)
                on_trial(self.trials()[-1])

    def trials(self) -> list[Trial]:
        """Every trial that was completed, pruned, or failed by itself (not by an interruption), in their order."""
        found = self.study.get_trials(deepcopy=False)
        ended = [one for one in found if one.state.name in ("COMPLETE", "PRUNED") or ERROR in one.user_attrs]
        return [_read(trial, number) for number, trial in enumerate(ended)]

    def present(self) -> Trial | None:
        """The trial of the values that stand in params.yaml, once it is complete."""
        return next((trial for trial in self.trials() if trial.present and trial.value is not None), None)

    def best(self) -> Trial | None:
        """The complete trial with the best value; of equals the earliest."""
        found = [trial for trial in self.trials() if trial.value is not None]
        return max(found, key=lambda trial: self.gain(trial, found[0]), default=None)

    def gain(self, trial: Trial, over: Trial) -> float:
        """How much better a complete trial is than another, in units of the metric."""
        assert trial.value is not None and over.value is not None
        return (trial.value - over.value) * (1 if self.higher else -1)

    def _open(self) -> "optuna.Study":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(
            storage=f"sqlite:///{self.place / 'study.db'}",
            study_name=self.name,
            direction="maximize" if self.higher else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EPOCHS),
            load_if_exists=True,
        )

    def _one(self, number: int) -> None:
        """One trial, with a sampler of its own seed; the first one has the present values."""
        import optuna

        seed = int(np.random.SeedSequence([self.params.finetuning.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=UNPRUNED_TRIALS + 1)
        if number == 0:
            self.study.enqueue_trial(present_values(self.params.finetuning), user_attrs={PRESENT: True})
        # What does not train as it stands is to be mended, not tuned.
        catch = (TokkaError,) if number else ()
        self.study.optimize(lambda trial: self._objective(trial, number), n_trials=1, catch=catch)

    def _objective(self, trial: "optuna.Trial", number: int) -> float:
        """The steering metric of a training with the trial's values; pruned when it is worse than the median."""
        values = {name: one.suggest(trial, name) for name, one in self.space.items()}
        if number == 0:
            values = present_values(self.params.finetuning)
        trial.set_user_attr(VALUES, values)
        progress.report(STEP, f"trial {number}: {describe(values)}")
        try:
            found = self._train(trial, values, number)
        except TokkaError as failure:
            trial.set_user_attr(ERROR, failure.message)
            raise
        trial.set_user_attr(STANDARD_ERROR, found[STANDARD_ERROR])
        return found[self.metric]

    def _train(self, trial: "optuna.Trial", values: Values, number: int) -> dict[str, float]:
        """The validation figures of a training with these values; nothing is exported."""
        import optuna

        from tokka.training.fit.validation import validation_metrics
        from tokka.training.setup.training_setup import own_randomness_and_threads, prepare_training
        from tokka.training.train import train

        curves: list[dict[str, float]] = []

        def on_epoch(curve: dict[str, float]) -> None:
            curves.append(curve)
            trial.set_user_attr(CURVES, curves)
            trial.report(curve[f"validation_{self.metric}"], int(curve["epoch"]))
            if number > 0 and trial.should_prune():
                raise optuna.TrialPruned

        work, params = self.place / f"work-{number}", with_values(self.params, values)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with own_randomness_and_threads(params):
                setup = prepare_training(self.prepared, params, self.base, self.unlabelled)
                trained = train(setup, work, on_epoch)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return validation_metrics(self.prepared.task, trained.outputs, setup.validation.targets)


def without_test_targets(prepared: Prepared) -> Prepared:
    """Prepared rows whose test split has no targets, so that nothing can be chosen by them."""
    blank = prepared.test.select([name for name in prepared.test.column_names if name in {"text", "text_pair"}])
    nulls = pa.nulls(blank.num_rows, prepared.train.schema.field("target").type)
    return replace(prepared, test=blank.append_column("target", nulls))


def describe(values: Values) -> str:
    """Values in one line."""
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _read(trial: "optuna.trial.FrozenTrial", number: int) -> Trial:
    told, state = trial.user_attrs, {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    return Trial(
        number=number,
        state=state,
        value=trial.value if state == "complete" else None,
        standard_error=told.get(STANDARD_ERROR, 0.0),
        values=told.get(VALUES, {}),
        curves=told.get(CURVES, []),
        present=told.get(PRESENT, False),
        error=told.get(ERROR, ""),
    )
