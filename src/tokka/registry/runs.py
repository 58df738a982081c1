"""MLflow runs that are found again: a candidate's by its key, a search's and its trials' by their names.

The rules that keep kfp's MLflow runs working stand in this one place. A task's run (MLFLOW_RUN_ID) is resumed, never
started again and never moved to another experiment; a parent (MLFLOW_PARENT_RUN_ID) gets a nested run; without either
the run stands alone.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence

from tokka.registry.connection import Foreign, import_mlflow
from tokka.registry.entities import CONTENT, KEY, LOGGED, SUPERSEDED, Dataset, Figure

BATCH = 100
SEARCH, TRIAL, PARENT = "tokka.search", "tokka.trial", "mlflow.parentRunId"


class Runs:
    """The runs of an experiment.

    Args:
        client: MLflow's own client.
        experiment: its id; where a run goes that has neither a task's run nor a parent.
    """

    def __init__(self, client: Foreign, experiment: str) -> None:
        self.client, self.experiment = client, experiment

    def find(self, tag: str, value: str, experiments: Sequence[str] = ()) -> Foreign:
        """The earliest run with this tag, or None."""
        found = self.client.search_runs(sorted({self.experiment, *experiments}), f"tags.`{tag}` = '{value}'")
        return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def write(
        self,
        run_id: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        points: Sequence[tuple[str, int, float]],
    ) -> None:
        """Log tags, params and metrics (name, step, value), in batches that a server takes."""
        kinds, now = import_mlflow().entities, int(time.time() * 1000)
        items = {
            "tags": [kinds.RunTag(name, text[:8000]) for name, text in tags.items()],
            "params": [kinds.Param(name, text[:6000]) for name, text in params.items()],
            "metrics": [kinds.Metric(name, value, now, step) for name, step, value in points],
        }
        for kind, found in items.items():
            for start in range(0, len(found), BATCH):
                self.client.log_batch(run_id, **{kind: found[start : start + BATCH]})


class CandidateRuns(Runs):
    """Runs of evaluated candidates, one per key and content.

    Args:
        client, experiment: as of `Runs`.
        model: names the runs.
    """

    def __init__(self, client: Foreign, experiment: str, model: str) -> None:
        super().__init__(client, experiment)
        self.model = model

    def open(self, key: str, content: str, *, has_version: Callable[[str], object]) -> Foreign:
        """The run of this key and content; one that made a version is never replaced by other content."""
        found = self._of_key(key)
        if found and (found.data.tags.get(CONTENT) == content or has_version(found.info.run_id)):
            return found
        if found:
            self.client.set_tag(found.info.run_id, SUPERSEDED, key)
            self.client.delete_tag(found.info.run_id, KEY)
        return self._adopt(key, content) or self._create(key, content)

    def log(
        self,
        run: Foreign,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, Figure],
        tags: Mapping[str, str],
        dataset: Dataset,
    ) -> None:
        """Log what is missing: params are write-once in MLflow, and a run cut short has some of them already."""
        texts = {name: str(value) for name, value in params.items() if name not in run.data.params}
        self.write(run.info.run_id, tags=tags, params=texts, points=[])
        self.log_metrics(run, metrics)
        self.client.log_inputs(run.info.run_id, datasets=[_input(dataset)])

    def log_metrics(self, run: Foreign, metrics: Mapping[str, Figure]) -> None:
        """Log the metrics that the run lacks; those that are not finite are named in a tag."""
        missing = {name: value for name, value in metrics.items() if name not in run.data.metrics}
        points = [(name, *point) for name, value in missing.items() for point in as_curve(value)]
        odd = sorted({name for name, _, value in points if not math.isfinite(value)})
        tags = {"tokka.metrics_not_finite": ", ".join(odd)} if odd else {}
        self.write(run.info.run_id, tags=tags, params={}, points=[one for one in points if one[0] not in odd])

    def finish(self, run: Foreign) -> None:
        """Mark the run as whole; kfp ends its own."""
        self.client.set_tag(run.info.run_id, LOGGED, str(time.time()))
        if run.info.run_id != os.environ.get("MLFLOW_RUN_ID"):
            self.client.set_terminated(run.info.run_id)

    def _of_key(self, key: str) -> Foreign:
        task = self._task()
        return self.find(KEY, key, [task.info.experiment_id] if task else [])

    def _adopt(self, key: str, content: str) -> Foreign:
        """The task's own run, unless another candidate was logged into it before."""
        task = self._task()
        if not task or task.info.run_id != os.environ.get("MLFLOW_RUN_ID") or CONTENT in task.data.tags:
            return None
        for name, value in {CONTENT: content, KEY: key}.items():
            self.client.set_tag(task.info.run_id, name, value)
        return self.client.get_run(task.info.run_id)

    def _create(self, key: str, content: str) -> Foreign:
        """A new run; after a race between machines the earliest one stands and the others are deleted."""
        task = self._task()
        parent = {PARENT: task.info.run_id} if task else {}
        created = self.client.create_run(
            task.info.experiment_id if task else self.experiment,
            tags={KEY: key, CONTENT: content, "mlflow.source.name": "tokka", **parent},
            run_name=f"{self.model}-{key[:8]}",
        )
        first = self._of_key(key) or created
        if first.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
        return first

    def _task(self) -> Foreign:
        run_id = os.environ.get("MLFLOW_RUN_ID") or os.environ.get("MLFLOW_PARENT_RUN_ID")
        return self.client.get_run(run_id) if run_id else None


class SearchRuns(Runs):
    """The runs of one study of `tokka tune`: a parent run, and a child run per trial, each logged once.

    Args:
        client, experiment: as of `Runs`.
        study: names the study.
    """

    def __init__(self, client: Foreign, experiment: str, study: str) -> None:
        super().__init__(client, experiment)
        self.study = study

    def parent(self) -> str:
        """The id of the study's run, made when there is none."""
        return self._own(SEARCH, self.study, f"tune-{self.study[:8]}")

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
        run_id = self._own(TRIAL, f"{self.study}-{number}", f"trial-{number}", {PARENT: self.parent()})
        if self.client.get_run(run_id).info.status == "RUNNING":
            points = [(name, int(row["step"]), float(row[name])) for row in curves for name in row if name != "step"]
            points += [(name, 0, float(value)) for name, value in metrics.items()]
            params = {f"finetuning.{name}": f"{value:g}" for name, value in values.items()}
            self.write(run_id, tags={"tokka.state": state}, params=params, points=points)
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

    def _own(self, tag: str, value: str, name: str, more: Mapping[str, str] | None = None) -> str:
        run = self.find(tag, value)
        if run is None:
            tags = {tag: value, "mlflow.source.name": "tokka tune", **(more or {})}
            run = self.client.create_run(self.experiment, tags=tags, run_name=name)
        return str(run.info.run_id)


def as_curve(figure: Figure) -> list[tuple[int, float]]:
    """A metric's points as (step, value); a single value stands at step 0."""
    return figure if isinstance(figure, list) else [(0, float(figure))]


def _input(dataset: Dataset) -> Foreign:
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
