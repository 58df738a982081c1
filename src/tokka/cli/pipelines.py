"""tokka compile and tokka stage: the IR files for Kubeflow, and single steps as DVC calls them."""

from pathlib import Path
from typing import Annotated

import typer

from tokka.cli.console import DEFAULT_PARAMS, Json, ParamsFile, console, load, print_json_line
from tokka.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Hang the commands on the application."""
    app.command(name="compile")(compile_)
    app.command()(stage)


def compile_(
    out: Annotated[Path, typer.Option(help="Folder for the IR files.")] = Path("build/pipelines"), json: Json = False
) -> None:
    """Compile the three pipelines to the IR files that Kubeflow, Docker and this machine all run.

    Example: `tokka compile --out build/pipelines`
    """
    from tokka.runs.kubeflow import compile_pipelines
    from tokka.settings import Settings

    paths = compile_pipelines(Settings.from_environment().root, out.resolve())
    for path in paths:
        console(json).print(str(path))
    if json:
        print_json_line({"files": [str(path) for path in paths]})


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
