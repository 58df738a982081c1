"""tokka ab: two versions side by side on live traffic, until a person names the winner."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, console, load, print_json_line

if TYPE_CHECKING:
    from tokka.deployment.judge.confidence_sequences import Difference

app = typer.Typer(no_args_is_help=True, help="Compare a version with the champion on live traffic.")
SHOWN = ("metric", "requests", "champion", "challenger", "difference", "confidence sequence", "challenger is")


@app.command()
def start(
    version: Annotated[str, typer.Argument(help="The registry version's number.")],
    share: Annotated[float, typer.Option("--share", help="Its part of live traffic, between 0 and 1.")] = 0.5,
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Give a version a fixed share of live traffic beside the champion; a user stays with one of the two.

    It ends with `tokka ab stop`, with `tokka rollback`, or by itself when the version is proven to fail more often.

    Example: `tokka ab start 3 --share 0.3`
    """
    from tokka.deployment import ab
    from tokka.deployment.record.record import Record
    from tokka.deployment.rollout import Rollout
    from tokka.registry.publish import open_registry
    from tokka.stack.local_target import LocalTarget
    from tokka.stack.stack import ensure_up

    parsed, settings = load(params, overrides)
    ensure_up(settings, parsed)
    rollout = Rollout(
        version=version, registry=open_registry(parsed, settings), record=Record(settings.record_url),
        target=LocalTarget(settings, parsed), params=parsed, settings=settings,
    )  # fmt: skip
    state = ab.start(rollout, share)
    console(json).print(f"version {version} gets {state.share:.0%} of the traffic; `tokka ab status` shows the figures")
    if json:
        print_json_line(state.model_dump())


@app.command()
def status(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> None:
    """Rates on both sides and the confidence sequence of their difference, valid however often one looks.

    Example: `tokka ab status`
    """
    from tokka.deployment import ab
    from tokka.deployment.judge import confidence_sequences
    from tokka.deployment.record.record import Record

    parsed, settings = load(params, overrides)
    state = Record(settings.record_url).read(parsed.registry.model)
    found = confidence_sequences.measure(ab.read_traffic(state, parsed, settings), parsed.canary.alpha)
    table = Table(*SHOWN, box=None, pad_edge=False)
    for name, one in found.items():
        table.add_row(name, str(one.requests), *_cells(one), one.verdict)
    out = console(json)
    versions = [revision.version if revision else "none" for revision in (state.champion, state.challenger)]
    out.print(f"champion version {versions[0]}, challenger version {versions[1]} at {state.share:.0%}")
    out.print(table)
    out.print(f"[dim]all intervals hold together, at any time, with probability {1 - parsed.canary.alpha:.0%}[/]")
    if json:
        metrics = {name: {**asdict(one), "verdict": one.verdict} for name, one in found.items()}
        print_json_line({"champion": versions[0], "challenger": versions[1], "share": state.share, "metrics": metrics})


@app.command()
def stop(
    winner: Annotated[str, typer.Option("--winner", help="The version that serves from now on.")],
    params: ParamsFile = DEFAULT_PARAMS,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """End the test: the winner serves everybody, at once.

    Example: `tokka ab stop --winner 3`
    """
    from tokka.deployment import ab
    from tokka.deployment.reconcile import keep_aliases, show_verdict
    from tokka.deployment.record.record import Record
    from tokka.errors import TokkaError
    from tokka.registry.publish import open_registry

    parsed, settings = load(params, overrides)
    record = Record(settings.record_url)
    challenger = record.read(parsed.registry.model).challenger
    state = ab.stop(winner, record, parsed, settings)
    console(json).print(f"version {winner} serves (generation {state.generation}): {state.reason}")
    if challenger is not None:
        verdict = "promoted" if challenger.version == winner else "rolled_back"
        try:
            registry = open_registry(parsed, settings)
            show_verdict(challenger.version, verdict, (state.reason,), registry)
            keep_aliases(record, parsed.registry.model, registry)
        except TokkaError as error:
            console(json).print(f"[dim]the registry will show it later: {error.message}[/]")
    if json:
        print_json_line(state.model_dump())


def _cells(one: "Difference") -> list[str]:
    rates = ["-" if rate is None else f"{rate:.4f}" for rate in (one.champion, one.challenger)]
    difference = "-" if one.difference is None else f"{one.difference:+.4f}"
    return [*rates, difference, f"{one.low:+.4f} to {one.high:+.4f}"]
