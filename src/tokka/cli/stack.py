"""tokka up, down, status, predict and rollback: the local stack and its endpoint; and what serves on a cluster."""

import time
from pathlib import Path
from typing import Annotated

import typer

from tokka.cli.console import Call, command
from tokka.errors import TokkaError, UsageError
from tokka.files import Tree

# A look at a cluster is a request to its server.
REMOTE_SECONDS = 5.0

app = typer.Typer()
deploy = typer.Typer(no_args_is_help=True, help="What serves on a cluster with KServe.")


@command(app)
def up(call: Call) -> None:
    """Start the local stack: gateway, model servers of what the record says, MLflow, request log.

    Example: `TOKKA_PORT=9000 tokka up`
    """
    from tokka.processes.page_password import USER, password_file
    from tokka.stack.stack import ensure_up

    info = ensure_up(call.settings, call.params)
    shown = [f"endpoint {info.endpoint}\ngRPC     {info.grpc_endpoint}\nMLflow   {info.mlflow}"]
    if call.settings.has_own_page:
        shown.append(f"MLflow's page asks: user {USER}, password in {password_file(call.settings.home)}")
    if info.authentication:
        shown.append("clients need an API key: `tokka keys create NAME`")
    call.conclude(info.model_dump(), *shown)


@command(app, without=("params", "overrides"))
def down(call: Call) -> None:
    """Stop the local stack; nothing of it is left running, and nothing that it knows is lost.

    Example: `tokka down`
    """
    from tokka.stack.stack import down as stop

    stopped = stop(call.settings)
    call.conclude({"stopped": stopped}, "the stack is down" if stopped else "no stack was running")


@command(app)
def status(
    call: Call,
    run: Annotated[str, typer.Argument(help="With --remote: one run, by id or name.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="The runs and schedules on Kubeflow.")] = False,
) -> None:
    """What serves, what should serve, how its traffic fares, and how the judge of a rollout stands.

    With `--remote`, Tokka's runs on Kubeflow instead, or the steps of one of them. With `--json`, `--watch` ends each
    look with a line of its own.

    Example: `tokka status --watch`
    """
    from tokka.cli.overview import overview, render
    from tokka.cli.remote import show_remote

    if run and not remote:
        raise UsageError(f"{run!r} is a run on Kubeflow", f"tokka status --remote {run}")
    while True:
        if remote:
            show_remote(call, run)
            if not watch:
                break
            time.sleep(REMOTE_SECONDS)
            continue
        found = overview(call.settings, call.params)
        if watch and not call.as_json:
            call.out.clear()
        call.conclude(found.as_json(), *(() if watch and call.as_json else (render(found),)))
        if not watch:
            break
        time.sleep(1.0)


@command(app)
def predict(call: Call, texts: Annotated[list[str], typer.Argument(help="One or more messages.")]) -> None:
    """Ask the endpoint, and say which version answered.

    Example: `tokka predict "where is my parcel" "cancel my plan"`
    """
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.client import predict as ask
    from tokka.stack.stack import status as stack_status

    if not all(text.strip() for text in texts):
        raise UsageError("an empty message has no answer", 'for example: tokka predict "where is my parcel"')
    # Nothing here reads the params, but a wrong key is refused here too.
    settings, _ = call.settings, call.params
    info = stack_status(settings)
    if info is None:
        raise TokkaError("no stack is running", "`tokka up` starts it; `tokka run` makes a first version")
    answers = ask(info.endpoint, texts, headers=own_headers(settings.home))
    call.conclude({"answers": answers}, *map(describe, answers))


@command(app)
def rollback(
    call: Call, reason: Annotated[str, typer.Option(help="Why; it is written into the record.")] = "asked by hand"
) -> None:
    """Put the previous champion back, at once: one compare-and-set, no rebuild.

    Example: `tokka rollback --reason "complaints about refunds"`
    """
    from tokka.deployment.reconcile import rollback as roll_back
    from tokka.deployment.reconcile import settle
    from tokka.deployment.record.record import Record
    from tokka.stack.local_target import LocalTarget
    from tokka.stack.stack import status as stack_status

    params, settings = call.params, call.settings
    state = roll_back(Record(settings.record_url), params.registry.model, reason)
    champion = state.champion.version if state.champion else "none"
    if stack_status(settings) is None:
        said = "is the champion again; no stack is running, `tokka up` starts it"
    elif settle(LocalTarget(settings, params), state, time):
        said = "serves again"
    else:
        said = "is the champion again, and does not serve yet: see tokka status"
    call.conclude(state.model_dump(), f"version {champion} {said} (generation {state.generation})")


def describe(answer: Tree) -> str:
    """One answer as a line: text, label or value, score, version."""
    said = answer["label"] if answer.get("label") else f"{answer['value']:.4f}"
    score = f" ({answer['score']:.2f})" if answer.get("score") is not None else ""
    canary = ", canary" if answer.get("canary") else ""
    return f"{answer['text']!r} → {said}{score}  [version {answer['model_version']}{canary}]"


@command(deploy)
def reconcile(
    call: Call,
    namespace: Annotated[
        str, typer.Option(envvar="TOKKA_NAMESPACE", help="Where the InferenceServices are.")
    ] = "default",
    port: Annotated[int, typer.Option(help="Of /healthz and /metrics.")] = 8080,
) -> None:
    """Bring about on KServe what the record says and pipelines want, until SIGTERM; of several replicas one works.

    The cluster is the one that this pod runs in, or the one that KUBECONFIG names.

    Example: `TOKKA_RECORD_URL=postgresql://… tokka deploy reconcile --namespace models`
    """
    import signal

    from tokka.deployment.kserve.reconciler import open_reconciler, serve_health
    from tokka.processes import json_log

    json_log.start("reconciler")
    reconciler = open_reconciler(call.params, call.settings, namespace)
    signal.signal(signal.SIGTERM, lambda *_: reconciler.end())
    serve_health(reconciler, port)
    reconciler.run()


@command(app, "fetch-model", without=("params", "overrides"))
def fetch(
    call: Call,
    uri: Annotated[str, typer.Argument(help="tokka://ENDPOINT/VERSION/DIGEST")],
    folder: Annotated[Path, typer.Argument(help="Where its files go.")],
) -> None:
    """Put a registered model's files into a folder, verified by signature and digest: KServe's storage container.

    Example: `tokka fetch-model tokka://helpdesk/3/9f…c1 /mnt/models`
    """
    from tokka.registry.model_uri import fetch_model

    found = fetch_model(uri, folder, call.settings)
    call.conclude({**found._asdict(), "folder": str(folder)}, f"version {found.version} is in {folder}, verified")
