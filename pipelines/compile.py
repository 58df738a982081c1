"""Write the IR files that Kubeflow, Docker and the laptop all run.

    python -m pipelines.compile build/pipelines             # all of them
    python -m pipelines.compile build/pipelines rollout     # one alone, the same bytes

KFP names the parts of nested pipelines in the order of a protobuf map, which in its C implementation changes from
process to process: the pure Python one keeps the order, so that the same pipelines are the same bytes.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import yaml
from kfp import compiler

from tokka.errors import UsageError

PIPELINES = ("retrain", "specialise", "rollout", "tune")


def compile_into(folder: Path, names: Sequence[str] = PIPELINES) -> list[Path]:
    """Compile pipelines into `<folder>/<name>.yaml` and return the paths; UsageError for a wrong pipeline.yaml."""
    from pipelines.flatten import flatten

    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.yaml" for name in names}
    for name, path in paths.items():
        compiler.Compiler().compile(getattr(import_module(f"pipelines.{name}"), name), str(path))
        ir, *platform = yaml.load_all(path.read_text(), yaml.CSafeLoader)
        documents = [with_choices(flatten(ir)), *platform]
        path.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=True, width=120))
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
        into, *named = sys.argv[1:] or ["build/pipelines"]
        print(*compile_into(Path(into), named or PIPELINES), sep="\n")
    except UsageError as error:
        sys.exit(error.report())
