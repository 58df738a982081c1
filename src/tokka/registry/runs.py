"""MLflow runs that are found again: a candidate's by its key, a search's and its trials' by their names.

The rules that keep kfp's MLflow runs working stand in this one place. A task's run (MLFLOW_RUN_ID) is resumed, never
started again and never moved to another experiment; a parent (MLFLOW_PARENT_RUN_ID) gets a nested run; without either
the run stands alone.
"""

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from tokka.registry.connection import Foreign, import_mlflow
from tokka.registry.entities import CHAMPION, CONTENT, KEY, LOGGED, SUPERSEDED, Dataset, Figure

SEARCH, TRIAL, PARENT = "tokka.search", "tokka.trial", "mlflow.parentRunId"


class Runs:
    """The runs of an experiment, by its id; `client` is MLflow's own, `name` names new runs."""

    def __init__(self, client: Foreign, experiment: str, name: str) -> None:
        self.client, self.experiment, self.name = client, experiment, name

    def find(self, tag: str, value: str, experiments: Sequence[str] = ()) -> Foreign:
        """The earliest run with this tag, or None."""
        found = self.client.search_runs(sorted({self.experiment, *experiments}), f"tags.`{tag}` = '{value}'")
        return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def write(
        self, run_id: str, tags: Mapping[str, str], params: Mapping[str, str], points: Iterable[tuple[str, int, float]]
    ) -> None:
        """Log tags, params and metrics (name, step, value); MLflow splits them into batches and cuts long texts."""
        kinds, now = import_mlflow().entities, int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            tags=[kinds.RunTag(*tag) for tag in tags.items()],
            params=[kinds.Param(*param) for param in params.items()],
            metrics=[kinds.Metric(name, value, now, step) for name, step, value in points],
        )


class CandidateRuns(Runs):
    """Runs of evaluated candidates, one per key and content."""

    def open(self, key: str, content: str, *, has_version: Callable[[str], object], champion: str = "") -> Foreign:
        """The run of this key and content.

        One that made a version is replaced by other content only when that compares with another `champion`.
        """
        found = self._of_key(key)
        if found and found.data.tags.get(CONTENT) == content:
            return found
        if found and found.data.tags.get(CHAMPION, champion) == champion and has_version(found.info.run_id):
            return found
        if found:
            self.client.set_tag(found.info.run_id, SUPERSEDED, key)
            self.client.delete_tag(found.info.run_id, KEY)
        return self._adopt(key, content) or self._create(key, content)

    def log_metrics(self, run: Foreign, metrics: Mapping[str, Figure]) -> None:
        """Log the metrics that the run lacks, a single value at step 0; those not finite are named in a tag."""
        curves = {
            name: value if isinstance(value, list) else [(0, float(value))]
            for name, value in metrics.items()
            if name not in run.data.metrics
        }
        odd = {name for name, curve in curves.items() if not all(math.isfinite(value) for _, value in curve)}
        tags = {"tokka.metrics_not_finite": ", ".join(sorted(odd))} if odd else {}
        sound = ((name, *point) for name, curve in curves.items() if name not in odd for point in curve)
        self.write(run.info.run_id, tags, {}, sound)

    def finish(self, run: Foreign) -> None:
        """Mark the run as whole; kfp ends its own."""
        self.client.set_tag(run.info.run_id, LOGGED, str(time.time()))
        if run.info.run_id != os.environ.get("MLFLOW_RUN_ID"):
            self.client.set_terminated(run.info.run_id)

    def _of_key(self, key: str) -> Foreign:
        return self.find(KEY, key, [self._task.info.experiment_id] if self._task else [])

    def _adopt(self, key: str, content: str) -> Foreign:
        """The task's own run, unless another candidate was logged into it before."""
        task = self._task
        if not task or task.info.run_id != os.environ.get("MLFLOW_RUN_ID") or CONTENT in task.data.tags:
            return None
        self.write(task.info.run_id, {CONTENT: content, KEY: key}, {}, ())
        return self.client.get_run(task.info.run_id)

    def _create(self, key: str, content: str) -> Foreign:
        """A new run; after a race between machines the earliest one stands and the others are deleted."""
        task = self._task
        parent = {PARENT: task.info.run_id} if task else {}
        created = self.client.create_run(
            task.info.experiment_id if task else self.experiment,
            tags={KEY: key, CONTENT: content, "mlflow.source.name": "tokka", **parent},
            run_name=f"{self.name}-{key[:8]}",
        )
        first = self._of_key(key) or created
        if first.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
        return first

    @functools.cached_property
    def _task(self) -> Foreign:
        run_id = os.environ.get("MLFLOW_RUN_ID") or os.environ.get("MLFLOW_PARENT_RUN_ID")
        return self.client.get_run(run_id) if run_id else None


class SearchRuns(Runs):
    """The runs of one study of `tokka tune`: a parent run, and a child run per trial, each logged once."""

    def trial(
        self,
        number: int,
        *,
        values: Mapping[str, float],
        curves: Sequence[Mapping[str, float]],
        metrics: Mapping[str, float],
        state: str,
    ) -> str:
        """Log a trial, counted from 0, as a child of the study's run and return its id; the same trial is logged once.

        Of `values` it was trained with, `curves` have one entry per epoch, each with `step`; `metrics` came of it.
        `state` is complete, pruned or failed.
        """
        run = self._own(TRIAL, f"{self.name}-{number}", f"trial-{number}", {PARENT: self._study()})
        if run.info.status == "RUNNING":
            points = [(name, int(row["step"]), float(row[name])) for row in curves for name in row if name != "step"]
            points += [(name, 0, float(value)) for name, value in metrics.items()]
            params = {f"finetuning.{name}": f"{value:g}" for name, value in values.items()}
            self.write(run.info.run_id, {"tokka.state": state}, params, points)
            # A pruned trial did what it should: it is no failure.
            self.client.set_terminated(run.info.run_id, "FAILED" if state == "failed" else "FINISHED")
        return str(run.info.run_id)

    def finish(self, facts: Mapping[str, str]) -> str:
        """Tag the study's run with what came of it, and end it."""
        study = self._study()
        self.write(study, facts, {}, ())
        self.client.set_terminated(study)
        return study

    def _study(self) -> str:
        return str(self._own(SEARCH, self.name, f"tune-{self.name[:8]}", {}).info.run_id)

    def _own(self, tag: str, value: str, name: str, more: Mapping[str, str]) -> Foreign:
        if found := self.find(tag, value):
            return found
        tags = {tag: value, "mlflow.source.name": "tokka tune", **more}
        created = self.client.create_run(self.experiment, tags=tags, run_name=name)
        # After a race between workers the earliest one stands.
        first = self.find(tag, value) or created
        if first.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
        return first


def training_input(dataset: Dataset) -> Foreign:
    """The data as MLflow takes it for an input of a run."""
    kinds = import_mlflow().entities
    described = kinds.Dataset(
        name=dataset.name[:500],
        # MLflow keeps 36 characters; the whole digest stands in the source and in the tag.
        digest=dataset.digest[:32],
        source_type="tokka",
        source=json.dumps({"source": dataset.source, "digest": dataset.digest}),
        profile=json.dumps({"test_rows": dataset.test_rows}),
    )
    return kinds.DatasetInput(described, tags=[kinds.InputTag("mlflow.data.context", "training")])
