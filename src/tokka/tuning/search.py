"""The search behind `tokka tune`: an Optuna study over the finetuning section, steered by validation rows alone.

The values of trial n depend on the seed, n and the trials that have ended before, so that a study of one worker that is
interrupted and continued is the one that was never interrupted.
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
from tokka.tuning.study import CURVES, ERROR, NUMBER, STANDARD_ERROR, UNPRUNED_TRIALS, VALUES, Lost, Study

if TYPE_CHECKING:
    import optuna

STEP = "tune"
# Between two looks whether another worker has ended, or is missed.
PAUSE_S = 3.0


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
    """A study and how its trials are trained; the first trial has the values of `params`.

    It lies in TOKKA_HOME, or in the record's PostgreSQL, where other workers take part.
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
        self.study = Study(self.name, self.place, settings.record_url, higher=self.higher)

    def run(self, trials: int, timeout: float | None, on_trial: Callable[[Trial], None]) -> None:
        """Train until the study has so many trials, or `timeout` seconds have passed; the running one is finished.

        Of several workers each waits for the others' last trials, and makes up for whoever is lost. `on_trial` is told
        of this worker's own.
        TokkaError when the present values cannot be trained. After Ctrl-C the same call goes on.
        """
        began, waits = time.monotonic(), False
        with self.study.open_for_trials():
            while timeout is None or time.monotonic() - began < timeout:
                self._require_sound_start()
                found = self.study.begin(trials, self._sampler)
                if found == "done":
                    return
                if found == "wait":
                    if not waits:
                        progress.report(STEP, "other workers are at the last trials: waiting for them")
                    waits = True
                    time.sleep(PAUSE_S)
                elif self._one(*found):
                    on_trial(next(trial for trial in self.trials() if trial.number == found[1]))

    def trials(self) -> list[Trial]:
        """Every trial that was completed, pruned, or failed by itself (not by an interruption), by number."""
        return [_read(trial) for trial in self.study.ended()]

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

    def _require_sound_start(self) -> None:
        """What does not train as it stands is to be mended, not tuned."""
        if failed := next((trial for trial in self.trials() if trial.present and trial.error), None):
            raise TokkaError(f"the present values cannot be trained: {failed.error}", "mend params.yaml, then tune")

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        import optuna

        seed = int(np.random.SeedSequence([self.params.finetuning.seed, number]).generate_state(1)[0])
        drawn = optuna.samplers.TPESampler(
            # Trials that still run count as poor ones, so that workers do not all look at the same place.
            seed=seed, n_startup_trials=UNPRUNED_TRIALS + 1, constant_liar=self.study.is_shared,
        )  # fmt: skip
        fixed = self.study.drawn_before(number) if number else present_values(self.params.finetuning)
        return optuna.samplers.PartialFixedSampler(fixed, drawn) if fixed else drawn

    def _one(self, trial: "optuna.Trial", number: int) -> bool:
        """Train a trial and say what came of it; False when another worker has taken its number over meanwhile."""
        try:
            with self.study.living(trial):
                self.study.tell(trial, *self._outcome(trial, number))
        except Lost:
            progress.report(STEP, f"trial {number} was taken over by another worker, which had not heard of this one")
            return False
        return True

    def _outcome(self, trial: "optuna.Trial", number: int) -> tuple[float | None, str]:
        import optuna

        values = {name: one.suggest(trial, name) for name, one in self.space.items()}
        if number == 0:
            values = present_values(self.params.finetuning)
        trial.set_user_attr(VALUES, values)
        progress.report(STEP, f"trial {number}: {describe(values)}")
        try:
            found = self._train(trial, values, number)
        except optuna.TrialPruned:
            return None, "PRUNED"
        except TokkaError as failure:
            trial.set_user_attr(ERROR, failure.message)
            return None, "FAIL"
        trial.set_user_attr(STANDARD_ERROR, found[STANDARD_ERROR])
        return found[self.metric], "COMPLETE"

    def _train(self, trial: "optuna.Trial", values: Values, number: int) -> dict[str, float]:
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

        # Whoever has lost its number may still be at work on it beside this process.
        own = trial.number if self.study.is_shared else number
        work, params = self.place / f"work-{own}", provenance.on_one_machine(with_values(self.params, values))
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with own_randomness_and_threads(params):
                setup = prepare_training(self.prepared, params, self.base, self.unlabelled)
                setup.competes = False  # what is looked for is the better fine-tuning
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


def _read(trial: "optuna.trial.FrozenTrial") -> Trial:
    told, state = trial.user_attrs, {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
    return Trial(
        number=told[NUMBER],
        state=state,
        value=trial.value if state == "complete" else None,
        standard_error=told.get(STANDARD_ERROR, 0.0),
        values=told.get(VALUES, {}),
        curves=told.get(CURVES, []),
        present=told[NUMBER] == 0,
        error=told.get(ERROR, ""),
    )
