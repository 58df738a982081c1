"""tokka demo: the whole life of a model, with no hand touching it."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tokka.cli.console import DEFAULT_PARAMS, Json, ParamsFile, console, load, print_json_line, progress

if TYPE_CHECKING:
    from rich.console import Console

    from tokka.runs.demo import Fact
    from tokka.settings import Settings

PORT_OFFSET = 200

app = typer.Typer()


@app.command()
def demo(
    params: ParamsFile = DEFAULT_PARAMS,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack up and the state in place, to look at.")
    ] = False,
    json: Json = False,
) -> int:
    """First version, live traffic, drift, automatic retraining, canary, promotion; then a bad model, rolled back.

    Everything happens in a home of its own (demo/ in TOKKA_HOME); exit 0 only when all of it did happen.

    Example: `tokka demo --keep`
    """
    from tokka.runs.demo import OVERRIDES, Life
    from tokka.stack.stack import down

    settings = _own_settings()
    parsed, _ = load(params, [*OVERRIDES], str(settings.home / "sample.csv"))
    down(settings)
    shutil.rmtree(settings.home, ignore_errors=True)
    out, facts = console(json), []
    try:
        with progress(out, settings) as shown:
            for fact in Life(parsed, settings, say=out.print, on_event=shown).live():
                facts.append(fact)
                sign = "[green]✓[/]" if fact.held else "[red]✗[/]"
                out.print(f"{sign} {fact.seconds:6.1f} s  {fact.text}  [dim]({fact.found})[/]")
                if not fact.held:
                    break
    finally:
        if not keep:
            down(settings)
    return _conclude(out, facts, json)


def _own_settings() -> "Settings":
    """A home and ports beside the user's own, which go on as they are."""
    from tokka.settings import Settings

    ours = Settings.from_environment()
    own = {"TOKKA_HOME": str(ours.home / "demo"), "TOKKA_PORT": str(ours.port + PORT_OFFSET)}
    return Settings.from_environment({"TOKKA_ROOT": str(ours.root), **own})


def _conclude(out: "Console", facts: "Sequence[Fact]", json: bool) -> int:
    held = bool(facts) and facts[-1].held
    out.print("All of it did happen." if held else "[red]Not all of it did happen.[/]")
    if json:
        print_json_line({"held": held, "facts": [fact.model_dump() for fact in facts]})
    return 0 if held else 1
