"""tokka submit: upload a pipeline as it is here and now, and start a run of it on Kubeflow, once per key."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from tokka import files, provenance
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.leases import Leases
from tokka.deployment.record.record import Record
from tokka.errors import UsageError
from tokka.files import JsonObject, Tree
from tokka.params import Params, form_fields, written
from tokka.runs import ir
from tokka.runs.execute import Request, champion_snapshot
from tokka.runs.kfp_server import Exists, Foreign, KfpServer, equals
from tokka.runs.upload import AS_COMPILED, Build, Upload, upload_pipeline
from tokka.settings import Settings
from tokka.steps import preflight

EXPERIMENT = "tokka"
ENDED_BADLY = ("FAILED", "CANCELED")
OVER = (*ENDED_BADLY, "CANCELING")
# Where the cluster's settings of the steps stand.
CLUSTER_FILE = "infra/kubernetes/pipeline.yaml"
SHOWN_DIGITS = 12


class Submitted(BaseModel):
    """A run on Kubeflow; `created` is False for one that the same key had started before."""

    run_id: str
    name: str
    key: str
    pipeline: str
    version: str
    created: bool
    link: str


def submit(request: Request, settings: Settings, server: KfpServer, build: Build = AS_COMPILED) -> Submitted:
    """Start the run that is asked for, or find the one that the same key has started and that has not failed.

    Of looks at drift and of rollouts the one that is under way. `build`: how the pipeline is compiled.

    TokkaError when the data cannot be read or Kubeflow refuses; UsageError for a source that no pod can read.
    """
    require_reachable(request.params, settings)
    key = submission_key(request, settings)
    name = f"{request.pipeline}-{key[:SHOWN_DIGITS] or 'look'}"
    # Of two submissions at once on this machine the second finds what the first has started.
    with files.locked(settings.home / "locks" / f"submit-{name}.lock"):
        upload = upload_pipeline(request.pipeline, settings, server, build)
        over = OVER if is_settled_by_success(request) else (*OVER, "SUCCEEDED", "SKIPPED")
        run = find_run(server, name, over)
        created = run is None
        if run is None:
            give_back(server, name, settings)
            declared = ir.parameters(upload.document)
            arguments = remote_arguments(request, declared, settings)
            arguments |= submitted(request, declared, settings, key)
            account = service_account(settings.root)
            about = f"tokka submit: key {key or 'none'}, version {upload.version}"
            started = create_run(server, name, upload, arguments, account, about)
            run = find_run(server, name, over) or started
            if run.run_id != started.run_id:
                # Another machine looked at the same time and was earlier.
                terminate = server.service("Run").run_service_terminate_run
                server.call("take back the second run of a key", terminate, started.run_id)
                created = False
    return Submitted(
        run_id=run.run_id,
        name=name,
        key=key,
        pipeline=request.pipeline,
        version=upload.version,
        created=created,
        link=server.link(f"runs/details/{run.run_id}"),
    )


def is_settled_by_success(request: Request) -> bool:
    """Whether a run that succeeded leaves nothing to do: each look is another, a rollout may have met no review yet."""
    return request.pipeline != "rollout" and request.cause != "drift"


def submission_key(request: Request, settings: Settings) -> str:
    """The key of `tokka run` for the same request; of a rollout, what it rolls out; empty for a look at drift.

    The latter decides on its data only inside, so that each look may come to something else.
    """
    if request.cause == "drift":
        return ""
    if request.pipeline == "rollout":
        if not request.run_id:
            raise UsageError("--pipeline rollout needs --run-id", "`tokka review list` shows the runs")
        return files.digest_json([provenance.params_digest(request.params), request.run_id, request.override])[:32]
    if request.pipeline == "tune":
        asked = [preflight.key(request.params, settings), request.trials, request.workers, request.ranges]
        return files.digest_json(asked)[:32]
    return preflight.key(request.params, settings, remote_snapshot(request.params, settings))


def remote_snapshot(params: Params, settings: Settings) -> str:
    """The champion's labelled feedback, by the record that the cluster shares; one of this machine knows another."""
    if settings.record_url.startswith("sqlite"):
        return ""
    return champion_snapshot(params, Record(settings.record_url))


def remote_arguments(request: Request, declared: Tree, settings: Settings) -> JsonObject:
    """What a run on Kubeflow is given: of all that could be said, the parameters that the pipeline declares.

    What the image's own params.yaml says cannot be known here, so that `overrides` stand for themselves: what differs
    from the code's defaults, and the digest of those, by which an image of other code is noticed.
    """
    params = request.params
    said: JsonObject = {
        **form_fields(params),
        "overrides": written(params),
        "cause": request.cause,
        "snapshot": remote_snapshot(params, settings) if request.pipeline == "specialise" else "",
        "run_id": request.run_id,
        "override": request.override,
        "trials": request.trials,
        "workers": list(range(1, request.workers + 1)),
        "ranges": list(request.ranges),
    }
    return {name: value for name, value in said.items() if name in declared}


def submitted(request: Request, declared: Tree, settings: Settings, key: str) -> JsonObject:
    """Commit, key and digest of the rows, as far as they are declared.

    A schedule has none: each of its runs takes the newest version, and decides on its data inside.
    """
    if "commit" not in declared:
        return {}
    found: JsonObject = {"commit": provenance.git_commit(settings.root), "key": key}
    if key:
        snapshot = remote_snapshot(request.params, settings)
        found["data_digest"] = preflight.rows_digest(request.params, settings, snapshot)
    return {name: value for name, value in found.items() if name in declared}


def require_reachable(params: Params, settings: Settings) -> None:
    """UsageError for a source that only this machine can have: an absolute path, or one outside the project."""
    for name, source in {
        "data.source": params.data.source,
        "data.validation": params.data.validation,
        "data.test": params.data.test,
    }.items():
        path = Path(source or "")
        if "://" in str(source) or not source:
            continue
        if path.is_absolute() or not (settings.root / path).resolve().is_relative_to(settings.root):
            hint = "put it where pods can read it (s3://, https://, dvc://, hf://), or into the image below the project"
            raise UsageError(f"{name}={source} is a file of this machine, which no pod can read", hint)


def service_account(root: Path) -> str:
    """The account in Kubernetes that runs have by the project's cluster settings; empty for KFP's default."""
    import yaml

    path = root / CLUSTER_FILE
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(found.get("service_account") or "")


def find_run(server: KfpServer, name: str, over: Sequence[str] = OVER) -> Foreign | None:
    """The earliest run of this name in no state of `over`."""
    live = [run for run in runs_named(server, name) if run.state not in over]
    return min(live, key=lambda run: (run.created_at, run.run_id), default=None)


def runs_named(server: KfpServer, name: str) -> Iterator[Foreign]:
    """All runs of this name: run objects have no labels, so that it holds the key."""
    listing = server.service("Run").run_service_list_runs
    return server.pages("look for the run", listing, "runs", filter=equals("display_name", name), **server.namespace)


def give_back(server: KfpServer, name: str, settings: Settings) -> None:
    """Let the next run have what runs of this name held that Kubeflow says are over.

    One that is terminated between two steps, or whose pod never started, has nobody to do so: its lease would last.
    """
    if settings.record_url.startswith("sqlite"):  # the cluster's is another one
        return
    held = Leases(RecordDatabase(settings.record_url))
    for run in runs_named(server, name):
        if run.state in ENDED_BADLY:
            held.expire(run.run_id)


def create_run(
    server: KfpServer, name: str, upload: Upload, arguments: Tree, account: str = "", about: str = ""
) -> Foreign:
    """Start a run by version; caching is left as it was compiled, since a run's own word overrides every task."""
    run = server.make(
        "Run",
        display_name=name,
        description=about,
        experiment_id=experiment_id(server),
        pipeline_version_reference=server.make(
            "PipelineVersionReference", pipeline_id=upload.pipeline_id, pipeline_version_id=upload.version_id
        ),
        runtime_config=server.make("RuntimeConfig", parameters=arguments),
        service_account=account or None,
    )
    return server.call(f"start {name}", server.service("Run").run_service_create_run, run)


def experiment_id(server: KfpServer) -> str:
    """The experiment that all of Tokka's runs and schedules stand in; it is made when there is none."""
    service = server.service("Experiment")
    wanted = server.make("Experiment", display_name=EXPERIMENT, namespace=server.settings.namespace or None)

    def find() -> str:
        options = {"filter": equals("display_name", EXPERIMENT), **server.namespace}
        found = server.pages(
            "find the experiment", service.experiment_service_list_experiments, "experiments", **options
        )
        return next((str(one.experiment_id) for one in found), "")

    try:
        return find() or str(
            server.call("make the experiment", service.experiment_service_create_experiment, wanted).experiment_id
        )
    except Exists:
        return find()
