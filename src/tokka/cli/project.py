"""tokka sample, doctor, compile and stage: what stands around a run.

tokka sample && tokka doctor && tokka run
"""

from pathlib import Path
from typing import Annotated

import typer

from tokka.cli.console import DEFAULT_PARAMS, Json, Overrides, ParamsFile, conclude, console, load
from tokka.errors import UsageError

app = typer.Typer()


@app.command()
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
    said = f"{out}: {rows} synthetic messages (seed {seed}{', with drift' if drift else ''})"
    conclude(json, {"path": str(out), "rows": rows, "seed": seed, "drift": drift}, said)


@app.command()
def doctor(params: ParamsFile = DEFAULT_PARAMS, overrides: Overrides = None, json: Json = False) -> int:
    """Look at everything that a run needs, say what is not well and what to do; exit 1 when something is not.

    Example: `tokka doctor --set data.source=tickets.csv`
    """
    from tokka.steps.preflight import checks

    parsed, settings = load(params, overrides)
    out, found = console(json), []
    for check in checks(parsed, settings):
        found.append(check)
        out.print(f"{'[green]✓[/]' if check.well else '[red]✗[/]'} {check.name:<18} {check.found}")
        if not check.well:
            out.print(f"  [dim]→ {check.hint}[/]")
    well = all(check.well for check in found)
    conclude(json, {"well": well, "checks": [check.model_dump() for check in found]})
    return 0 if well else 1


@app.command(name="compile")
def compile_(
    out: Annotated[Path, typer.Option(help="Folder for the IR files.")] = Path("build/pipelines"), json: Json = False
) -> None:
    """Compile the three pipelines to the IR files that Kubeflow, Docker and this machine all run.

    Example: `tokka compile --out build/pipelines`
    """
    from tokka.runs.kubeflow import compile_pipelines
    from tokka.settings import Settings

    paths = [str(path) for path in compile_pipelines(Settings.from_environment().root, out.resolve())]
    conclude(json, {"files": paths}, *paths)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="validate_data, preprocess, finetune or evaluate.")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Run one step in the current folder, as dvc.yaml calls it; use `dvc repro` to run what changed.

    Example: `tokka stage preprocess`
    """
    from tokka.steps import dvc_stages

    if name not in dvc_stages.STAGES:
        raise UsageError(f"there is no stage {name!r}", f"the stages are {', '.join(dvc_stages.STAGES)}")
    parsed, settings = load(params, None)
    dvc_stages.STAGES[name](parsed, settings, Path.cwd())
