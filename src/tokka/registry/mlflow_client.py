"""MLflow, the tracking server and model registry: the only way to it (connection.py holds the connection).

Nothing is ever loaded through MLflow: models are downloaded as files, verified, and read by our own code.
Runs are idempotent by key and versions by run, under kill -9 and under two racers: on one machine a file lock
keeps racers apart; across machines both look again after they created, and the later one withdraws.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tokka import failpoints, files
from tokka.errors import TokkaError
from tokka.registry import entities, mlmodel
from tokka.registry.connection import MISSING, Connection, Foreign, import_mlflow, is_of_a_lost_key
from tokka.registry.entities import Dataset, Figure, RunInfo, VersionInfo
from tokka.registry.runs import CandidateRuns, SearchRuns, training_input
from tokka.settings import Settings

PURPOSE = "Tells Tokka's stack that a tag or an alias of a version was set; kept by it."


class Registry:
    """Runs, versions and aliases of the registered model of this name, which is also the experiment's.

    Every method raises TokkaError when MLflow does not answer, or has no such run or version; the same call again
    continues one that was cut short.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self.settings = settings
        self.model = model
        self._connection = Connection(settings)
        self._translated = self._connection.translated

    def prepare(self) -> None:
        """Make the SQLite file (once, whole or not at all) and the experiment, or see that the server answers.

        UsageError when the tracking URI is of no supported kind.
        """
        self._connection.check()
        self._connection.make_sqlite()
        with self._connection.locked("mlflow"), self._translated("prepare the experiment"):
            self._experiment()

    @property
    def _client(self) -> Foreign:
        return self._connection.client

    def _own_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.model)
        if found is None:
            return str(self._client.create_experiment(self.model, self._connection.artifact_root))
        if found.lifecycle_stage != "active":
            raise TokkaError(
                f"MLflow's experiment {self.model!r} was deleted",
                f"restore it with: mlflow experiments restore -x {found.experiment_id}",
            )
        return str(found.experiment_id)

    def _writing(self) -> AbstractContextManager[None]:
        # An upload to a far server takes minutes.
        return self._connection.locked(f"registry-{self.model}", timeout=900.0)

    def log_run(
        self,
        key: str,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, Figure],
        tags: Mapping[str, str],
        folder_evidence: Path,
        folder_model: Path,
        dataset: Dataset,
        folder_page: Path | None = None,
    ) -> str:
        """Log one evaluated candidate and return its run's id; the same key and content give the same run.

        The same key with other content (a second evaluation after a crash) gets a fresh run without a gate verdict,
        unless a version was made of the first run already, with the same champion: then that run stands as it is.
        """
        model = tags.get(entities.MODEL_DIGEST) or files.digest_folder(folder_model)
        content = files.digest_json([files.digest_folder(folder_evidence), model])
        with self._writing(), self._translated(f"log the run of key {key}"):
            runs = self._candidate_runs()
            run = runs.open(
                entities.checked_key(key),
                content,
                has_version=self.version_of,
                champion=tags.get(entities.CHAMPION, ""),
            )
            run_id = str(run.info.run_id)
            if entities.LOGGED not in run.data.tags:
                # Params are write-once in MLflow, and a run cut short has some of them already.
                missing = {name: str(value) for name, value in params.items() if name not in run.data.params}
                runs.write(run_id, tags, missing, ())
                runs.log_metrics(run, metrics)
                self._client.log_inputs(run_id, datasets=[training_input(dataset)])
                self._client.log_artifacts(run_id, str(folder_evidence), entities.EVIDENCE_FOLDER)
                self._client.log_artifacts(run_id, str(folder_model), entities.MODEL_FOLDER)
                if folder_page:
                    self._client.log_artifacts(run_id, str(folder_page))
                runs.finish(run)
        return run_id

    def run(self, run_id: str) -> RunInfo:
        """One run by its id."""
        with self._translated(f"find run {run_id}"):
            run = self._client.get_run(run_id)
        return RunInfo(run_id, run.info.status, dict(run.data.tags), dict(run.data.metrics), dict(run.data.params))

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags on a run."""
        with self._translated(f"tag run {run_id}"):
            for name, value in tags.items():
                self._client.set_tag(run_id, name, value)

    def log_metrics(self, run_id: str, metrics: Mapping[str, Figure]) -> None:
        """Add the metrics to a run that it does not have yet."""
        with self._translated(f"add metrics to run {run_id}"):
            self._candidate_runs().log_metrics(self._client.get_run(run_id), metrics)

    def _candidate_runs(self) -> CandidateRuns:
        return CandidateRuns(self._client, self._experiment(), self.model)

    def _experiment(self) -> str:
        """Kubeflow's own, where it gives one to its tasks: no empty one is made beside it."""
        return os.environ.get("MLFLOW_EXPERIMENT_ID") or self._own_experiment()

    def describe(self, version: str, text: str) -> None:
        """Replace a version's description."""
        with self._translated(f"describe version {version}"):
            self._client.update_model_version(self.model, version, mlmodel.shortened(text))

    def log_artifact(self, run_id: str, path: Path) -> None:
        """Add a file, or every file of a folder, to a run's evidence."""
        with self._translated(f"keep {path.name}"):
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(run_id, str(path), entities.EVIDENCE_FOLDER)

    def add_to_model(self, run_id: str, path: Path) -> None:
        """Add a file to a run's model folder."""
        with self._translated(f"keep {path.name} of run {run_id}"):
            self._client.log_artifact(run_id, str(path), entities.MODEL_FOLDER)

    @contextmanager
    def search(self, study: str) -> Iterator[SearchRuns]:
        """The runs of a study of `tokka tune`, under the registry's lock."""
        with self._writing(), self._translated(f"log the search {study}"):
            yield SearchRuns(self._client, self._own_experiment(), study)

    def register(self, run_id: str, *, description: str, tags: Mapping[str, str]) -> str:
        """Make the version of a run and return its number; a run that has one keeps it.

        Version and tags are created in one transaction, so that no crash leaves a version without its tags. A racer
        on another machine may create a second one: the process that finds a lower number than its own deletes its own.
        """
        run = self.run(run_id)
        if entities.LOGGED not in run.tags:
            raise TokkaError(f"run {run_id} was cut short before its model was stored", "run the evaluation again")
        with self._writing(), self._translated(f"register run {run_id}"):
            existing = self.version_of(run_id)
            if existing:
                return existing
            make = self._client.create_registered_model
            _unless("RESOURCE_ALREADY_EXISTS", lambda: make(self.model, description=mlmodel.MODEL_DESCRIPTION))
            # The run's whole folder: MLflow reads the schema there, beside the folder that holds signed files only.
            uri = self._client.get_run(run_id).info.artifact_uri
            made = self._client.create_model_version(
                self.model,
                uri,
                run_id,
                tags={name: str(value) for name, value in tags.items()},
                description=mlmodel.shortened(description),
                await_creation_for=0,
            )
            first = self.version_of(run_id) or str(made.version)
            if int(first) < int(made.version):
                self._client.delete_model_version(self.model, str(made.version))
            return first

    def version(self, version: str) -> VersionInfo:
        """One version."""
        with self._translated(f"find version {version} of {self.model}"):
            found = self._client.get_model_version(self.model, entities.checked_version(version))
        return VersionInfo.of(found, found.aliases)

    def versions(self) -> list[VersionInfo]:
        """Every version, newest first; none when the model was never registered."""
        with self._translated("list versions"):
            found = self._client.search_model_versions(f"name = '{self.model}'", max_results=1000)
        aliases, newest_first = self.aliases(), sorted(found, key=lambda one: -int(one.version))
        return [
            VersionInfo.of(one, (name for name, held in aliases.items() if held == str(one.version)))
            for one in newest_first
        ]

    def tag_version(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""
        with self._translated(f"tag version {version}"):
            for name, value in tags.items():
                with failpoints.at("tag"):
                    self._client.set_model_version_tag(self.model, version, name, value)

    def version_of(self, run_id: str) -> str | None:
        """The version that was made of a run, if any."""
        found = self._client.search_model_versions(f"name = '{self.model}' and run_id = '{run_id}'")
        return min((str(version.version) for version in found), key=int, default=None)

    def aliases(self) -> dict[str, str]:
        """Alias to version; empty when the model was never registered."""
        with self._translated("read aliases"):
            found = _unless(MISSING, lambda: self._client.get_registered_model(self.model))
        return {str(name): str(version) for name, version in found.aliases.items()} if found else {}

    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version (a blind overwrite: MLflow knows no compare-and-set)."""
        with self._translated(f"set alias {alias}"), failpoints.at("alias"):
            self._client.set_registered_model_alias(self.model, alias, version)

    def delete_alias(self, alias: str) -> None:
        """Remove an alias; one that does not exist is no error."""
        if alias in self.aliases():
            with self._translated(f"delete alias {alias}"), failpoints.at("alias"):
                self._client.delete_registered_model_alias(self.model, alias)

    def has_webhook(self, name: str, url: str, events: Sequence[str]) -> bool:
        """Whether there is exactly one active webhook of this name, with this address and these events."""
        with self._translated("list webhooks"):
            found = self._webhooks(name)
        return len(found) == 1 and (found[0].url, found[0].status.value, sorted(map(str, found[0].events))) == (
            url, "ACTIVE", sorted(events),
        )  # fmt: skip

    def put_webhook(self, name: str, url: str, events: Sequence[str], secret: str) -> None:
        """Leave one such webhook, with this secret."""
        with self._translated(f"keep the webhook {name}"):
            for old in self._webhooks(name):
                self._client.delete_webhook(old.webhook_id)
            self._client.create_webhook(name, url, list(events), description=PURPOSE, secret=secret)

    def _webhooks(self, name: str) -> list[Foreign]:
        """Those of this name. What was encrypted by a key that is lost is deleted: it could sign nothing any more."""
        try:
            found = self._client.list_webhooks(max_results=100)
        except import_mlflow().exceptions.MlflowException as error:
            if not is_of_a_lost_key(error):
                raise
            self._connection.delete_unread(name)
            found = self._client.list_webhooks(max_results=100)
        return [one for one in found if one.name == name]

    def download_evidence(self, version: str, into: Path) -> None:
        """Copy the evidence of a version's evaluation into a folder."""
        self.download_artifacts(self.version(version).run_id, entities.EVIDENCE_FOLDER, into)

    def download_artifacts(self, run_id: str, name: str, into: Path) -> None:
        """Copy one artifact folder or file of a run into `into`."""
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".download-") as staging:
            with self._translated(f"download {name} of run {run_id}"):
                found = Path(self._client.download_artifacts(run_id, name, staging))
            for path in [found] if found.is_file() else found.iterdir():
                shutil.move(path, into / path.name)


def _unless(code: str, call: Callable[[], Foreign]) -> Foreign:
    """What MLflow answers; None when it answers with this error code."""
    try:
        return call()
    except import_mlflow().exceptions.MlflowException as error:
        if error.error_code != code:
            raise
        return None
