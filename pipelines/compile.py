"""Write the three IR files that Kubeflow, Docker and the laptop all run.

python -m pipelines.compile build/pipelines
"""

import sys
from pathlib import Path

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
