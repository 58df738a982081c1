"""tokka sample: the embedded, synthetic help-desk corpus."""

from pathlib import Path
from typing import Annotated

import typer

from tokka.cli.console import Json, console, print_json_line


def add_to(app: typer.Typer) -> None:
    """Hang the command on the application."""
    app.command()(sample)


def sample(
    out: Annotated[Path, typer.Option(help="Where to write the CSV file.")] = Path("data/sample.csv"),
    rows: Annotated[int, typer.Option(min=500, max=1_000_000, help="How many messages.")] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    drift: Annotated[bool, typer.Option(help="Let the later weeks drift: new intents, words and shares.")] = False,
    json: Json = False,
) -> None:
    """Write a synthetic help-desk corpus: messages, intents, channels and time stamps over twelve weeks.

    Example: `tokka sample --out data/sample.csv --rows 6000 --seed 7`
    """
    from tokka.data.sample import make_sample

    make_sample(out, rows=rows, seed=seed, drift=drift)
    console(json).print(f"{out}: {rows} synthetic messages (seed {seed}{', with drift' if drift else ''})")
    if json:
        print_json_line({"path": str(out), "rows": rows, "seed": seed, "drift": drift})
