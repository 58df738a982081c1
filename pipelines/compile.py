"""Write the IR files that Kubeflow, Docker and the laptop all run.

    python -m pipelines.compile build/pipelines

KFP names the parts of nested pipelines in the order of a protobuf map, which in its C implementation changes from
process to process: the pure Python one keeps the order, so that the same pipelines are the same bytes.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import yaml
from kfp import compiler

from tokka.errors import UsageError

PIPELINES = ("retrain", "specialise", "rollout", "tune")


def compile_all(folder: Path) -> list[Path]:
    """Compile every pipeline into `<folder>/<name>.yaml` and return the paths; UsageError for a wrong pipeline.yaml."""
    from pipelines.flatten import flatten

    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.yaml" for name in PIPELINES}
    for name, path in paths.items():
        compiler.Compiler().compile(getattr(import_module(f"pipelines.{name}"), name), str(path))
        ir, *platform = yaml.safe_load_all(path.read_text())
        documents = [with_choices(flatten(ir)), *platform]
        path.write_text(yaml.safe_dump_all(documents, sort_keys=True, width=120))
    return list(paths.values())


def with_choices(ir: dict) -> dict:
    """The parameters of the form that have few values, as drop-downs: KFP's compiler knows no choices."""
    from pipelines.form import CHOICES

    for name, parameter in ir["root"]["inputDefinitions"]["parameters"].items():
        if name in CHOICES:
            parameter["literals"] = list(CHOICES[name])
    return ir


if __name__ == "__main__":
    try:
        print(*compile_all(Path(sys.argv[1] if len(sys.argv) > 1 else "build/pipelines")), sep="\n")
    except UsageError as error:
        sys.exit(error.report())
