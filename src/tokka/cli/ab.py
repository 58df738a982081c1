"""tokka ab: two versions side by side on live traffic, until a person names the winner."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tokka.cli.console import Call, command

if TYPE_CHECKING:
    from tokka.deployment.judge.confidence_sequences import Difference

app = typer.Typer(no_args_is_help=True, help="Compare a version with the champion on live traffic.")
SHOWN = ("metric", "requests", "champion", "challenger", "difference", "confidence sequence", "challenger is")


@command(app)
def start(
    call: Call,
    version: Annotated[str, typer.Argument(help="The registry version's number.")],
    share: Annotated[float, typer.Option("--share", help="Its part of live traffic, between 0 and 1.")] = 0.5,
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

    params, settings = call.params, call.settings
    ensure_up(settings, params)
    rollout = Rollout(
        version=version, registry=open_registry(params, settings), record=Record(settings.record_url),
        target=LocalTarget(settings, params), params=params, settings=settings,
    )  # fmt: skip
    state = ab.start(rollout, share)
    told = f"version {version} gets {state.share:.0%} of the traffic; `tokka ab status` shows the figures"
    call.conclude(state.model_dump(), told)


@command(app)
def status(call: Call) -> None:
    """Rates on both sides and the confidence sequence of their difference, valid however often one looks.

    Example: `tokka ab status`
    """
    from tokka.cli.tables import table
    from tokka.deployment import ab
    from tokka.deployment.judge import confidence_sequences
    from tokka.deployment.record.record import Record

    params, settings = call.params, call.settings
    state = Record(settings.record_url).read(params.registry.model)
    found = confidence_sequences.measure(ab.read_traffic(state, params, settings), params.canary.alpha)
    shown = table(*SHOWN)
    for name, one in found.items():
        shown.add_row(name, str(one.requests), *_cells(one), one.verdict)
    champion, challenger = (one.version if one else "none" for one in (state.champion, state.challenger))
    metrics = {name: {**asdict(one), "verdict": one.verdict} for name, one in found.items()}
    call.conclude(
        {"champion": champion, "challenger": challenger, "share": state.share, "metrics": metrics},
        f"champion version {champion}, challenger version {challenger} at {state.share:.0%}",
        shown,
        Text(f"all intervals hold together, at any time, with probability {1 - params.canary.alpha:.0%}", "dim"),
    )


@command(app)
def stop(
    call: Call, winner: Annotated[str, typer.Option("--winner", help="The version that serves from now on.")]
) -> None:
    """End the test: the winner serves everybody, at once.

    Example: `tokka ab stop --winner 3`
    """
    from tokka.deployment import ab
    from tokka.deployment.reconcile import keep_aliases, show_verdict
    from tokka.deployment.record.record import Record
    from tokka.errors import TokkaError
    from tokka.registry.publish import open_registry

    params, settings, record = call.params, call.settings, Record(call.settings.record_url)
    challenger = record.read(params.registry.model).challenger
    state = ab.stop(winner, record, params, settings)
    call.out.print(f"version {winner} serves (generation {state.generation}): {state.reason}")
    if challenger is not None:
        verdict = "promoted" if challenger.version == winner else "rolled_back"
        try:
            registry = open_registry(params, settings)
            show_verdict(challenger.version, verdict, (state.reason,), registry)
            keep_aliases(record, params.registry.model, registry)
        except TokkaError as error:
            call.out.print(Text(f"the registry will show it later: {error.message}", "dim"))
    call.conclude(state.model_dump())


def _cells(one: "Difference") -> list[str]:
    rates = ["-" if rate is None else f"{rate:.4f}" for rate in (one.champion, one.challenger)]
    difference = "-" if one.difference is None else f"{one.difference:+.4f}"
    return [*rates, difference, f"{one.low:+.4f} to {one.high:+.4f}"]
