"""tokka up, down, status, predict and rollback: the local stack and its endpoint."""

import time
from typing import Annotated

import typer

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, conclude, console, load, print_json_line
from tokka.cli.tables import Facts
from tokka.errors import TokkaError, UsageError

app = typer.Typer()


@app.command()
def up(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> None:
    """Start the local stack: gateway, model servers of what the record says, MLflow, request log.

    Example: `TOKKA_PORT=9000 tokka up`
    """
    from tokka.stack.stack import ensure_up

    parsed, settings = load(params, overrides)
    info = ensure_up(settings, parsed)
    shown = [f"endpoint {info.endpoint}\ngRPC     {info.grpc_endpoint}\nMLflow   {info.mlflow}"]
    if info.authentication:
        shown.append("clients need an API key: `tokka keys create NAME`")
    conclude(json, info.model_dump(), *shown)


@app.command()
def down(json: Json = False) -> None:
    """Stop the local stack; nothing of it is left running, and nothing that it knows is lost.

    Example: `tokka down`
    """
    from tokka.settings import Settings
    from tokka.stack.stack import down as stop

    stopped = stop(Settings.from_environment())
    conclude(json, {"stopped": stopped}, "the stack is down" if stopped else "no stack was running")


@app.command()
def status(
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """What serves, what should serve, how its traffic fares, and how the judge of a rollout stands.

    With `--json`, `--watch` ends each look with a line of its own.

    Example: `tokka status --watch`
    """
    from tokka.cli.overview import overview, render

    parsed, settings = load(params, overrides)
    out = console(json)
    while True:
        found = overview(settings, parsed)
        if watch and not json:
            out.clear()
        if not (watch and json):
            out.print(render(found))
        if json:
            print_json_line(found.as_json())
        if not watch:
            break
        time.sleep(1.0)


@app.command()
def predict(
    texts: Annotated[list[str], typer.Argument(help="One or more messages.")],
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Ask the endpoint, and say which version answered.

    Example: `tokka predict "where is my parcel" "cancel my plan"`
    """
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.client import predict as ask
    from tokka.stack.stack import status as stack_status

    if not all(text.strip() for text in texts):
        raise UsageError("an empty message has no answer", 'for example: tokka predict "where is my parcel"')
    _, settings = load(params, overrides)
    info = stack_status(settings)
    if info is None:
        raise TokkaError("no stack is running", "`tokka up` starts it; `tokka run` makes a first version")
    answers = ask(info.endpoint, texts, headers=own_headers(settings.home))
    conclude(json, {"answers": answers}, *map(describe, answers), markup=False)


@app.command()
def rollback(
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    reason: Annotated[str, typer.Option(help="Why; it is written into the record.")] = "asked by hand",
    json: Json = False,
) -> None:
    """Put the previous champion back, at once: one compare-and-set, no rebuild.

    Example: `tokka rollback --reason "complaints about refunds"`
    """
    from tokka.deployment.reconcile import rollback as roll_back
    from tokka.deployment.reconcile import settle
    from tokka.deployment.record.record import Record
    from tokka.stack.local_target import LocalTarget
    from tokka.stack.stack import status as stack_status

    parsed, settings = load(params, overrides)
    state = roll_back(Record(settings.record_url), parsed.registry.model, reason)
    champion = state.champion.version if state.champion else "none"
    if stack_status(settings) is None:
        said = "is the champion again; no stack is running, `tokka up` starts it"
    elif settle(LocalTarget(settings, parsed), state, time):
        said = "serves again"
    else:
        said = "is the champion again, and does not serve yet: see tokka status"
    conclude(json, state.model_dump(), f"version {champion} {said} (generation {state.generation})")


def describe(answer: Facts) -> str:
    """One answer as a line: text, label or value, score, version."""
    said = answer["label"] if answer.get("label") else f"{answer['value']:.4f}"
    score = f" ({answer['score']:.2f})" if answer.get("score") is not None else ""
    canary = ", canary" if answer.get("canary") else ""
    return f"{answer['text']!r} → {said}{score}  [version {answer['model_version']}{canary}]"
