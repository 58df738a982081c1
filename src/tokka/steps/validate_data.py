"""validate_data: read strictly, quarantine bad rows, and hold the rest against the expectation suite."""

import json
from itertools import islice
from pathlib import Path

from tokka import files, progress
from tokka.deployment.record.leases import kept, renewed
from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject
from tokka.params import Params
from tokka.settings import Settings

SHOWN_LINES = 50


@progress.step("validate_data")
@renewed
def run(params: Params, settings: Settings, out: Path, snapshot: str = "") -> JsonObject:
    """Write rows.parquet, quarantine.jsonl, validation.json and docs.html into `out` and return the verdict.

    Refused when a critical expectation failed, TokkaError when the file cannot be read.
    """
    from tokka.data.fetching import fetch_snapshot
    from tokka.data.validation.validation import validate_source

    outcome = validate_source(params, settings, out, feedback=fetch_snapshot(snapshot, params, settings))
    progress.result("validate_data", **outcome)
    return outcome


def judge(params: Params, settings: Settings, out: Path, snapshot: str = "", source: str = "") -> JsonObject:
    """What `run` does, with a refusal as an outcome that has its page too: {"verdict", "reasons", "rows", …}.

    `source`: the digest that preflight found. TokkaError when the data is another by now: Kubeflow's cache would keep
    what comes of it under that digest.
    """
    from tokka.data.fetching import fetch_snapshot, source_digest
    from tokka.data.validation.validation import validate_source
    from tokka.evaluation.report.pages import refusal_page

    # Reading the source may fail as well, and is to leave the key to whoever waits for it.
    with progress.step("validate_data"), kept(settings):
        feedback = fetch_snapshot(snapshot, params, settings)
        if source and source_digest(params, settings, feedback) != source:
            where = f"the data behind data.source {params.data.source}, its suite or its feedback"
            raise TokkaError(f"{where} has changed since preflight looked at it", "start the run again")
        try:
            outcome = validate_source(params, settings, out, feedback)
        except Refused as error:
            reasons = [error.message, *([error.hint] if error.hint else [])]
            if not (out / "docs.html").is_file():
                with (out / "quarantine.jsonl").open(encoding="utf-8") as lines:
                    shown = [json.loads(line) for line in islice(lines, SHOWN_LINES)]
                page = refusal_page("The data is refused", params.registry.model, reasons, shown)
                files.write_text(out / "docs.html", page)
            outcome = {"verdict": "refuse", "rows": 0, "quarantined": 0}
        else:
            reasons = []
        progress.result("validate_data", **outcome)
    return {**outcome, "reasons": reasons}
