"""register: the passed candidate becomes a signed registry version with its evidence, and its card a page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokka import files, progress
from tokka.deployment.record.leases import renewed
from tokka.errors import UsageError
from tokka.params import Params, from_form
from tokka.settings import Settings

if TYPE_CHECKING:
    from tokka.deployment.review.forecast import Forecast

CARD_PAGE = "card.html"


@progress.step("register")
@renewed
def run(
    params: Params, settings: Settings, run_id: str, override: str = "", *, job: str = "", out: Path | None = None
) -> str:
    """Return the version's number; the same run always gives the same version.

    `job`: the Kubeflow run, which the version links; `out`: gets card.html, which links the version. Refused when the
    gate did not pass this run and no reason to override it was given, TokkaError before anything else when the private
    key is not the other half of the public one.
    """
    from tokka.database import PATIENCE_S
    from tokka.deployment.record.attempts import Attempts
    from tokka.deployment.record.connection import RecordDatabase
    from tokka.deployment.record.evidence import Evidence
    from tokka.registry.bundle import Judgement, unseal
    from tokka.registry.publish import CAUSE, FORECAST, register_candidate
    from tokka.registry.signing import check_pair

    check_pair(settings)
    kubeflow = run_link(os.environ.get("TOKKA_KFP_UI", ""), job)
    record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
    evidence = Evidence(record, params.registry.model)
    found = evidence.judgement(run_id)
    judged = Judgement.model_validate(found) if found else None
    # A pod has no request log.
    ahead = {} if settings.in_pod else look_ahead(params, settings).as_dict()
    why = Attempts(record).why(params.registry.model, settings.job or job)
    context = {name: one for name, one in ((FORECAST, ahead), (CAUSE, why)) if one}
    version, envelope = register_candidate(run_id, params, settings, judged, override, kubeflow, context)
    evidence.keep(version, unseal(envelope, params.registry.model, version, settings).model_digest, envelope)
    if out is not None:
        files.write_text(out / CARD_PAGE, card_page(version, params, settings, kubeflow))
    progress.result("register", version=version, run_id=run_id, override=override)
    return version


def look_ahead(params: Params, settings: Settings) -> "Forecast":
    """What a rollout that began now would see, with the traffic of the last day in this home's request log."""
    from tokka.deployment.review.forecast import forecast, read_today
    from tokka.deployment.traffic_columns import read_last

    return forecast(read_today(*read_last(settings.home, 24.0, params.canary.slow_ms)), params.canary)


def rollout_params(
    fields: Mapping[str, object], overrides: Mapping[str, object], settings: Settings, run_id: str
) -> Params:  # fmt: skip
    """The params of a rollout from its form; UsageError when they contradict each other, or no run is named."""
    if not run_id:
        raise UsageError("rollout has no run_id", "name the MLflow run of an evaluated candidate to roll out")
    return from_form(settings.root, fields, overrides)


def card_page(version: str, params: Params, settings: Settings, kubeflow: str) -> str:
    """The model card of a version as a page with its links."""
    from tokka.evaluation.report import pages
    from tokka.registry.publish import fetch_evidence, open_registry

    card = fetch_evidence("model_card.md", version, params, settings).read_text(encoding="utf-8")
    run_id = open_registry(params, settings).version(version).run_id
    links = mlflow_links(settings.tracking_uri, params.registry.model, version, run_id)
    return pages.card_page(
        version, card, params.registry.model, [*links, *([("This run in Kubeflow", kubeflow)] if kubeflow else [])]
    )


def run_link(ui: str, job: str) -> str:
    """The page of a run in the Kubeflow UI; empty where no UI is known, as on a laptop."""
    return f"{ui.rstrip('/')}/#/runs/details/{job}" if ui and job else ""


def mlflow_links(tracking_uri: str, model: str, version: str, run_id: str) -> list[tuple[str, str]]:
    """The pages of a version and of its run in MLflow's UI; none where MLflow is a file."""
    if not tracking_uri.startswith(("http://", "https://")):
        return []
    page = tracking_uri.rstrip("/")
    return [
        ("This version in MLflow", f"{page}/#/models/{model}/versions/{version}"),
        ("Its evaluation in MLflow", f"{page}/#/runs/{run_id}"),
    ]
