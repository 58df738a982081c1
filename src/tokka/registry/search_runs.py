"""A search in MLflow: one parent run per study, one child run per trial, each logged once."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

SEARCH, TRIAL = "tokka.search", "tokka.trial"


class SearchRuns:
    """The runs of one study.

    Args:
        client: MLflow's own client.
        kinds: MLflow's module of entities, handed in since one module alone imports MLflow.
        experiment: where the runs go.
        study: names the study.
    """

    def __init__(self, client: Any, kinds: Any, experiment: str, study: str) -> None:
        self.client, self.kinds, self.experiment, self.study = client, kinds, experiment, study

    def parent(self) -> str:
        """The id of the study's run, made when there is none."""
        return self._own({SEARCH: self.study}, f"tune-{self.study[:8]}")

    def trial(
        self,
        number: int,
        *,
        values: Mapping[str, float],
        curves: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        state: str,
    ) -> str:
        """Log one trial as a child of the study's run and return its id; the same trial is logged once.

        Args:
            number: of the trial, from 0.
            values: what it was trained with.
            curves: one entry per epoch, each with `step`.
            metrics: what came of it.
            state: complete, pruned or failed.
        """
        parent = self.parent()
        told = {TRIAL: f"{self.study}-{number}", "mlflow.parentRunId": parent}
        run_id = self._own(told, f"trial-{number}")
        if self.client.get_run(run_id).info.status != "RUNNING":
            return run_id
        now = int(time.time() * 1000)
        points = [
            self.kinds.Metric(name, float(value), now, int(curve["step"]))
            for curve in curves
            for name, value in curve.items()
            if name != "step"
        ]
        points += [self.kinds.Metric(name, float(value), now, 0) for name, value in metrics.items()]
        for start in range(0, len(points), 500):
            self.client.log_batch(run_id, metrics=points[start : start + 500])
        named = [self.kinds.Param(f"finetuning.{name}", f"{value:g}") for name, value in values.items()]
        self.client.log_batch(run_id, params=named, tags=[self.kinds.RunTag("tokka.state", state)])
        # A pruned trial did what it should: it is no failure.
        self.client.set_terminated(run_id, "FAILED" if state == "failed" else "FINISHED")
        return run_id

    def finish(self, facts: Mapping[str, str]) -> str:
        """Tag the study's run with what came of it, and end it."""
        parent = self.parent()
        for name, value in facts.items():
            self.client.set_tag(parent, name, str(value)[:5000])
        self.client.set_terminated(parent)
        return parent

    def _own(self, tags: dict[str, str], name: str) -> str:
        key = TRIAL if TRIAL in tags else SEARCH
        found = self.client.search_runs([self.experiment], f"tags.`{key}` = '{tags[key]}'")
        if found:
            return str(min(found, key=lambda run: (run.info.start_time, run.info.run_id)).info.run_id)
        own = {**tags, "mlflow.source.name": "tokka tune"}
        return str(self.client.create_run(self.experiment, tags=own, run_name=name).info.run_id)
