"""Write the three IR files that Kubeflow, Docker and the laptop all run.

    python -m pipelines.compile build/pipelines

KFP names the parts of nested pipelines in the order of a protobuf map, which in its C implementation changes from
process to process: the pure Python one keeps the order, so that the same pipelines are the same bytes.
"""

import os
import sys
from pathlib import Path

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

from kfp import compiler

from pipelines.retrain import retrain
from pipelines.rollout import rollout
from pipelines.specialise import specialise

PIPELINES = {"retrain": retrain, "specialise": specialise, "rollout": rollout}


def compile_all(folder: Path) -> list[Path]:
    """Compile every pipeline into `<folder>/<name>.yaml` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pipeline in PIPELINES.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))
    return [folder / f"{name}.yaml" for name in PIPELINES]


if __name__ == "__main__":
    for path in compile_all(Path(sys.argv[1] if len(sys.argv) > 1 else "build/pipelines")):
        print(path)
