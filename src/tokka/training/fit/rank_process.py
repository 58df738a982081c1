"""What a rank above 0 of a training on several devices runs: `python -m tokka.training.fit.rank_process rank.json`."""

import sys
import traceback
from pathlib import Path

from tokka import files
from tokka.data.preparation.prepared import load
from tokka.errors import TokkaError
from tokka.model.base import BaseModelFolder
from tokka.params import Params
from tokka.training.fit.ddp import EXIT_BROKEN, EXIT_OUT_OF_MEMORY, READY, own_rank
from tokka.training.fit.fit import fit
from tokka.training.fit.out_of_memory import OutOfMemory
from tokka.training.setup.training_setup import own_randomness_and_threads, prepare_training


def main(specification: Path) -> None:
    """Prepare the training that `TrainingSetup.specification` describes, and fit it in step with the other ranks."""
    given = files.read_json(specification)
    params, base = Params.model_validate(given["params"]), given["base"]
    unlabelled = Path(given["unlabelled"]) if given["unlabelled"] else None
    folder = BaseModelFolder(Path(base["path"]), base["name"], base["digest"])
    with own_randomness_and_threads(params):
        setup = prepare_training(load(Path(given["prepared"])), params, folder, unlabelled)
        (specification.parent / f"{own_rank()}.{READY}").touch()
        try:
            fit(setup, Path(given["work"]), 0.0)
        except OutOfMemory:
            sys.exit(EXIT_OUT_OF_MEMORY)
        except TokkaError as error:
            sys.exit(error.message)
        except RuntimeError:
            traceback.print_exc()
            sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
