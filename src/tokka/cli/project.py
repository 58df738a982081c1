"""tokka sample, doctor, compile, stage and demo: what stands around a run."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from tokka.cli.console import Call, command, progress, verdict_sign, with_source
from tokka.errors import UsageError
from tokka.params import load_params
from tokka.settings import Settings

PORT_OFFSET = 200

app = typer.Typer()


@command(app, without=("params", "overrides"))
def sample(
    call: Call,
    out: Annotated[Path, typer.Option(help="Where to write the CSV file.")] = Path("data/sample.csv"),
    rows: Annotated[int, typer.Option(min=500, max=1_000_000, help="How many messages.")] = 6000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    drift: Annotated[bool, typer.Option(help="Let the later weeks drift: new intents, words and shares.")] = False,
) -> None:
    """Write a synthetic help-desk corpus: messages, intents, channels and time stamps over twelve weeks.

    Example: `tokka sample --out data/sample.csv --rows 6000 --seed 7`
    """
    from tokka.data.sample import make_sample

    make_sample(out, rows=rows, seed=seed, drift=drift)
    said = f"{out}: {rows} synthetic messages (seed {seed}{', with drift' if drift else ''})"
    call.conclude({"path": str(out), "rows": rows, "seed": seed, "drift": drift}, said)


@command(app)
def doctor(call: Call) -> int:
    """Look at everything that a run needs, say what is not well and what to do; exit 1 when something is not.

    Example: `tokka doctor --set data.source=tickets.csv`
    """
    from tokka.steps.preflight import checks

    out, found = call.out, []
    for check in checks(call.params, call.settings):
        found.append(check)
        out.print(Text.assemble(verdict_sign(check.well), f" {check.name:<18} {check.found}"))
        if not check.well:
            out.print(Text(f"  → {check.hint}", "dim"))
    well = all(check.well for check in found)
    call.conclude({"well": well, "checks": [check.model_dump() for check in found]})
    return 0 if well else 1


@command(app, "compile", without=("params", "overrides"))
def compile_(
    call: Call,
    out: Annotated[Path, typer.Option(help="Folder for the IR files.")] = Path("build/pipelines"),
    profile: Annotated[str, typer.Option(help="Of infra/kubernetes/pipeline.yaml, such as gpu.")] = "",
    image: Annotated[str, typer.Option(help="What the tasks run in, as NAME@DIGEST; by default TOKKA_IMAGE.")] = "",
) -> None:
    """Compile the three pipelines to the IR files that Kubeflow, Docker and this machine all run.

    Example: `tokka compile --profile gpu --image registry.example.com/tokka-python@sha256:…`
    """
    from tokka.runs.kubeflow import compile_pipelines

    found = compile_pipelines(call.settings.root, out.resolve(), profile=profile, image=image)
    paths = [str(path) for path in found]
    call.conclude({"files": paths}, *paths)


@command(app, without=("overrides", "json"))
def stage(
    call: Call, name: Annotated[str, typer.Argument(help="validate_data, preprocess, finetune or evaluate.")]
) -> None:
    """Run one step in the current folder, as dvc.yaml calls it; use `dvc repro` to run what changed.

    Example: `tokka stage preprocess`
    """
    from tokka.runs import dvc_stages

    if name not in dvc_stages.STAGES:
        raise UsageError(f"there is no stage {name!r}", f"the stages are {', '.join(dvc_stages.STAGES)}")
    dvc_stages.STAGES[name](call.params, call.settings, Path.cwd())


@command(app, without=("overrides",))
def demo(
    call: Call,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the stack up and the state in place, to look at.")
    ] = False,
) -> int:
    """First version, live traffic, drift, automatic retraining, canary, promotion; then a bad model, rolled back.

    Everything happens in a home of its own (demo/ in TOKKA_HOME); exit 0 only when all of it did happen.

    Example: `tokka demo --keep`
    """
    from tokka.runs.demo import OVERRIDES, Fact, Life
    from tokka.stack.stack import down

    ours = call.settings
    # A home and ports beside the user's own, which go on as they are.
    own = {"TOKKA_HOME": str(ours.home / "demo"), "TOKKA_PORT": str(ours.port + PORT_OFFSET)}
    settings = Settings.from_environment({"TOKKA_ROOT": str(ours.root), **own})
    params = with_source(load_params(call.path, OVERRIDES), str(settings.home / "sample.csv"))
    down(settings)
    shutil.rmtree(settings.home, ignore_errors=True)
    out, facts = call.out, list[Fact]()
    try:
        with progress(out, settings) as shown:
            for fact in Life(params, settings, say=out.print, on_event=shown).live():
                facts.append(fact)
                said = f" {fact.seconds:6.1f} s  {fact.text}  "
                out.print(Text.assemble(verdict_sign(fact.held), said, (f"({fact.found})", "dim")))
                if not fact.held:
                    break
    finally:
        if not keep:
            down(settings)
    held = bool(facts) and facts[-1].held
    told = Text("All of it did happen.") if held else Text("Not all of it did happen.", "red")
    call.conclude({"held": held, "facts": [fact.model_dump() for fact in facts]}, told)
    return 0 if held else 1
