"""Which MLflow run a candidate is logged into: found again by its key, nested where kfp has a run of its own.

The rules that keep kfp's MLflow runs working stand in this one place. A task's run (MLFLOW_RUN_ID) is resumed, never
started again and never moved to another experiment; a parent (MLFLOW_PARENT_RUN_ID) gets a nested run; without either
the run stands alone.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from tokka.registry.entities import CONTENT, KEY, LOGGED, SUPERSEDED, Dataset, Figure

BATCH = 100


class Runs:
    """Runs by key.

    Args:
        client: MLflow's own client.
        kinds: MLflow's module of entities (Metric, Param, …), handed in since one module alone imports MLflow.
        model: names the runs.
        experiment: where a run goes that has neither a task's run nor a parent.
    """

    def __init__(self, client: Any, kinds: Any, model: str, experiment: str) -> None:
        self.client = client
        self.kinds = kinds
        self.model = model
        self.experiment = experiment

    def find(self, key: str) -> Any:
        """The earliest run of a key, or None."""
        task = self._task()
        experiments = {self.experiment, *([task.info.experiment_id] if task else [])}
        found = self.client.search_runs(sorted(experiments), f"tags.`{KEY}` = '{key}'")
        return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def open(self, key: str, content: str, *, has_version: Callable[[str], object]) -> Any:
        """The run of this key and content; one that made a version is never replaced by other content."""
        found = self.find(key)
        if found and (found.data.tags.get(CONTENT) == content or has_version(found.info.run_id)):
            return found
        if found:
            self.client.set_tag(found.info.run_id, SUPERSEDED, key)
            self.client.delete_tag(found.info.run_id, KEY)
        return self._adopt(key, content) or self._create(key, content)

    def log(
        self,
        run: Any,
        *,
        params: Mapping[str, Any],
        metrics: Mapping[str, Figure],
        tags: Mapping[str, str],
        dataset: Dataset,
    ) -> None:
        """Log what is missing: params are write-once in MLflow, and a run cut short has some of them already."""
        run_id, now = run.info.run_id, int(time.time() * 1000)
        texts = {name: str(value)[:6000] for name, value in params.items() if name not in run.data.params}
        missing = {name: value for name, value in metrics.items() if name not in run.data.metrics}
        points = [(name, *point) for name, value in missing.items() for point in as_curve(value)]
        odd = sorted({name for name, _, value in points if not math.isfinite(value)})
        told = {**tags, **({"tokka.metrics_not_finite": ", ".join(odd)} if odd else {})}
        self._batch(run_id, "tags", [self.kinds.RunTag(name, str(text)[:8000]) for name, text in told.items()])
        self._batch(run_id, "params", [self.kinds.Param(name, text) for name, text in texts.items()])
        finite = [self.kinds.Metric(name, value, now, step) for name, step, value in points if name not in odd]
        self._batch(run_id, "metrics", finite)
        self.client.log_inputs(run_id, datasets=[self._input(dataset)])

    def finish(self, run: Any) -> None:
        """Mark the run as whole; kfp ends its own."""
        self.client.set_tag(run.info.run_id, LOGGED, str(time.time()))
        if run.info.run_id != os.environ.get("MLFLOW_RUN_ID"):
            self.client.set_terminated(run.info.run_id)

    def _batch(self, run_id: str, kind: str, items: list[Any]) -> None:
        for start in range(0, len(items), BATCH):
            self.client.log_batch(run_id, **{kind: items[start : start + BATCH]})

    def _input(self, dataset: Dataset) -> Any:
        described = self.kinds.Dataset(
            name=dataset.name[:500],
            # MLflow keeps 36 characters; the whole digest stands in the source and in the tag.
            digest=dataset.digest[:32],
            source_type="tokka",
            source=json.dumps({"source": dataset.source, "digest": dataset.digest}),
            profile=json.dumps({"test_rows": dataset.test_rows}),
        )
        return self.kinds.DatasetInput(described, tags=[self.kinds.InputTag("mlflow.data.context", "training")])

    def _adopt(self, key: str, content: str) -> Any:
        """The task's own run, unless another candidate was logged into it before."""
        task = self._task()
        if not task or task.info.run_id != os.environ.get("MLFLOW_RUN_ID") or CONTENT in task.data.tags:
            return None
        for name, value in {CONTENT: content, KEY: key}.items():
            self.client.set_tag(task.info.run_id, name, value)
        return self.client.get_run(task.info.run_id)

    def _create(self, key: str, content: str) -> Any:
        """A new run; after a race between machines the earliest one stands and the others are deleted."""
        task = self._task()
        parent = {"mlflow.parentRunId": task.info.run_id} if task else {}
        created = self.client.create_run(
            task.info.experiment_id if task else self.experiment,
            tags={KEY: key, CONTENT: content, "mlflow.source.name": "tokka", **parent},
            run_name=f"{self.model}-{key[:8]}",
        )
        first = self.find(key) or created
        if first.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
        return first

    def _task(self) -> Any:
        run_id = os.environ.get("MLFLOW_RUN_ID") or os.environ.get("MLFLOW_PARENT_RUN_ID")
        return self.client.get_run(run_id) if run_id else None


def as_curve(figure: Figure) -> list[tuple[int, float]]:
    """A metric's points as (step, value); a single value stands at step 0."""
    return figure if isinstance(figure, list) else [(0, float(figure))]
