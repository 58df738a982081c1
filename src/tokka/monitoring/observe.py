"""One look at the traffic: windows, drift, labels, and the decision whether to retrain, written down for people.

Without a champion or a log there is no drift: the outcome says so, and what a person asked for goes on.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tokka import files, provenance
from tokka.data import rows
from tokka.monitoring import reference, report, snapshot, traffic
from tokka.monitoring.drift.drift import detect
from tokka.monitoring.drift.policy import CAUSES_WITH_FEEDBACK, Attempt, Facts, decide, learned_until
from tokka.monitoring.drift.windows import Cut, Labelled, count_since
from tokka.monitoring.report import Outcome
from tokka.params import Params
from tokka.request_log import archive
from tokka.request_log.segments import DAY_SECONDS
from tokka.settings import Settings


@dataclass(frozen=True)
class Champion:
    """What serves: its version, and reference.parquet and replay.parquet of its evaluation; empty when nothing does."""

    version: str = ""
    reference: Path | None = None
    replayed: Path | None = None


def detect_drift(
    params: Params, settings: Settings, cause: str, out: Path, champion: Champion,
    history: Sequence[Attempt], now: float | None = None,
) -> Outcome:  # fmt: skip
    """Look at the request log, write drift.html and drift.json into `out`, and return what was decided.

    `history` are earlier retrainings, `now` is in seconds since 1970. TokkaError when the reference cannot be read,
    UsageError when the cause is unknown or monitoring.alpha too fine.
    """
    monitoring, now = params.monitoring, time.time() if now is None else now
    folder = archive.requests(settings, now - monitoring.retention_days * DAY_SECONDS, params.registry.model)
    known = _own(champion)
    columns = reference.read_reference(champion.reference) if champion.reference else None
    seen = traffic.look(folder, champion.version, known, monitoring.window_rows, monitoring.of_windows)
    cuts = seen.cuts if columns else Cut()
    recent = cuts.windows[-monitoring.of_windows :]
    found = [detect(window, columns, monitoring) for window in recent] if columns else []
    facts = Facts(
        cause=cause,
        now=now,
        windows=found,
        attempts=history,
        labelled_rows=count_since(seen.learnable, learned_until(history)),
        trigger_key=_trigger_key(params, cause, champion, seen.learnable),
        champion=columns is not None,
    )
    decision = decide(facts, monitoring, params.retraining)
    learn = decision.verdict == "retrain" and cause in CAUSES_WITH_FEEDBACK
    outcome = Outcome(
        verdict="retrain" if decision.verdict == "retrain" else "wait",
        alert=decision.verdict == "alert",
        drift=decision.drift,
        reference=columns.described if columns else "",
        reasons=[*decision.reasons, *seen.unread],
        windows=[asdict(window) for window in found],
        rows_waiting=len(cuts.rest),
        labelled_rows=facts.labelled_rows,
        snapshot=snapshot.publish(seen.learnable, settings) if learn else "",
        trigger_key=facts.trigger_key,
    )
    report.write(out / "drift.html", outcome, found, recent[-1] if recent else None, columns, monitoring.alpha)
    # With what else was looked at, so that the decision can be made again from the file.
    looked_at = {"cause": cause, "now": now, "champion": champion.version, "attempts": [asdict(one) for one in history]}
    files.write_json(out / "drift.json", {**outcome, **looked_at})
    return outcome


def _own(champion: Champion) -> frozenset[str]:
    """What a rollout sends itself: no traffic."""
    return frozenset(rows.load(champion.replayed)["text"].to_pylist() if champion.replayed else ())


def _trigger_key(params: Params, cause: str, champion: Champion, learnable: Sequence[Labelled]) -> str:
    reference_digest = files.digest_file(champion.reference) if champion.reference else ""
    key = [provenance.params_digest(params), cause, champion.version, reference_digest, snapshot.digest_of(learnable)]
    return files.digest_json(key)[:32]
