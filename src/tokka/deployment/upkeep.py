"""What the daemon needs MLflow for, as a process of its own that ends when it is done.

    python -m tokka.deployment.upkeep

It fetches the model folders that the record names and this machine lacks, and shows the record's champion,
challenger and previous as the registry's aliases.
"""

import sys

from tokka.deployment import stack
from tokka.deployment.reconcile import project_aliases
from tokka.deployment.record import Record
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings


def main() -> int:
    """Do it once; the exit code is 0 when all of it was done."""
    settings = Settings.from_environment()
    try:
        bring_in_line(stack.read_params(settings), settings)
    except TokkaError as error:
        return error.report()
    return 0


def bring_in_line(params: Params, settings: Settings) -> None:
    """Fetch what is missing, then project the aliases.

    Raises:
        TokkaError: the record or the registry does not answer.
        Refused: a model in the registry is not what was signed.
    """
    from tokka.registry.publish import fetch_version, open_registry

    state = Record(settings.record_url).read(params.registry.model)
    for revision in (state.champion, state.challenger, state.previous):
        if revision is not None and not (settings.home / "models" / revision.digest).is_dir():
            fetch_version(revision.version, params, settings)
    project_aliases(state, open_registry(params, settings))


if __name__ == "__main__":
    sys.exit(main())
