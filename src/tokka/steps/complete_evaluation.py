"""complete_evaluation: what is nice to know of a candidate, measured when the endpoint answers; nothing waits for it.

    python -m tokka.steps.complete_evaluation       # every request that waits in TOKKA_HOME, oldest first

On Kubeflow it is the last task of `specialise`. On this machine that task leaves a request, and the stack's daemon runs
this module at low priority while nothing rolls out; without a stack, `tokka run` does it after its table.
"""

import os
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel

from tokka import files, pending, progress, provenance
from tokka.errors import Refused, TokkaError
from tokka.params import Params, parse_params
from tokka.settings import Settings

STEP = "complete_evaluation"


class Request(BaseModel):
    """An evaluation whose details are to be completed, with the folders that it was made from and writes to."""

    run_id: str
    prepared: Path
    model: Path
    evidence: Path
    report: Path
    params: dict[str, object]


def run(request: Request, settings: Settings, out: Path) -> None:
    """Complete an evaluation with its page in `out`, or, in a run of `tokka run`, leave it to the stack.

    TokkaError when the rows or the model are not those that were evaluated, or MLflow does not answer.
    """
    if pending.RUN_FOLDER in os.environ:
        pending.folder(settings.home).mkdir(parents=True, exist_ok=True)
        # In full: what does it later may be newer code, with other defaults.
        whole = {"params": parse_params(request.params).model_dump(mode="json", exclude_none=True)}
        waiting = request.model_copy(update=whole).model_dump(mode="json")
        files.write_json(pending.folder(settings.home) / f"{request.run_id}.json", waiting)
        progress.report(STEP, "left to the stack", fraction=1.0)
        return
    with progress.step(STEP), tempfile.TemporaryDirectory() as folder:
        own = shutil.copytree(request.evidence, Path(folder) / "evidence")
        _complete(request.model_copy(update={"evidence": own, "report": out}), settings)


def complete_waiting(settings: Settings) -> None:
    """Complete every evaluation that waits; one whose folders are gone or were altered is forgotten.

    TokkaError when MLflow does not answer; the request stays.
    """
    if not pending.waiting(settings.home):
        return
    with files.locked(pending.folder(settings.home) / ".lock"):
        for path in pending.waiting(settings.home):
            request = Request.model_validate(files.read_json(path))
            if request.evidence.is_dir() and request.model.is_dir() and request.prepared.is_dir():
                try:
                    _complete(request, settings)
                except Refused as error:
                    progress.report(STEP, f"given up: {error.message}")
            path.unlink()


def _complete(request: Request, settings: Settings) -> None:
    from tokka.evaluation.complete import complete
    from tokka.model.folder import read_model_config
    from tokka.registry.publish import publish_details

    # The learning curve trains as the candidate was trained.
    params = provenance.as_trained(parse_params(request.params), read_model_config(request.model).precision)

    def publish(evidence: Path) -> None:
        shutil.copyfile(evidence / "report.html", request.report)
        publish_details(request.run_id, evidence, params, settings)

    champion, cache = _champion(request, params, settings), settings.home / "base"
    complete(request.evidence, request.prepared, request.model, champion, params, cache, publish)


def _champion(request: Request, params: Params, settings: Settings) -> Path | None:
    """The model folder of the champion of that time, as far as it can still be had."""
    from tokka.registry.publish import fetch_version

    compared = files.read_json(request.evidence / "evaluation.json")["champion"]
    if compared is None:
        return None
    try:
        return fetch_version(compared["version"], params, settings)
    except TokkaError as error:
        progress.report(STEP, f"without the champion: {error.message}")
        return None


if __name__ == "__main__":
    complete_waiting(Settings.from_environment())
