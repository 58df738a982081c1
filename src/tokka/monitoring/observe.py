"""One look at the traffic: windows, drift, labels, and the decision whether to retrain, written down for people.

    outcome = detect_drift(params, settings, "drift", out, Champion("3", reference, replayed), history)
    outcome["verdict"]        # retrain | wait

Without a champion or a log there is no drift: the outcome says so, and what a person asked for goes on.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tokka import files, provenance
from tokka.monitoring import reference, report, snapshot
from tokka.monitoring.drift.columns import Columns
from tokka.monitoring.drift.drift import WindowDrift, detect
from tokka.monitoring.drift.policy import CAUSES_WITH_FEEDBACK, Attempt, Decision, Facts, decide, learned_until
from tokka.monitoring.drift.windows import Cut, Labelled, Window, count_since, cut, labelled
from tokka.monitoring.report import Outcome
from tokka.params import Params
from tokka.request_log import log
from tokka.settings import Settings


@dataclass(frozen=True)
class Champion:
    """What serves: its version, and reference.parquet and replay.parquet of its evaluation; empty when nothing does."""

    version: str = ""
    reference: Path | None = None
    replayed: Path | None = None


@dataclass(frozen=True)
class _Seen:
    """What log and reference hold: full windows with what was found in them, labelled rows, what could not be read."""

    reference: Columns | None
    found: list[WindowDrift]
    newest: Window | None
    waiting: int
    labelled: list[Labelled]
    unread: list[str]


def detect_drift(
    params: Params,
    settings: Settings,
    cause: str,
    out: Path,
    champion: Champion,
    history: Sequence[Attempt],
    now: float | None = None,
) -> Outcome:
    """Look at the request log, write drift.html and drift.json into `out`, and return what was decided.

    Args:
        params: sections monitoring and retraining decide.
        settings: the request log and the snapshots are in its home.
        cause: drift, schedule, git or person.
        out: made when it is missing.
        champion: whose predictions are compared with its reference.
        history: earlier retrainings.
        now: seconds since 1970; for tests.

    Raises:
        TokkaError: the reference cannot be read.
        UsageError: the cause is unknown, or monitoring.alpha too fine.
    """
    seen = _look(params, settings, champion)
    facts = _facts(params, cause, champion, history, seen, time.time() if now is None else now)
    decision = decide(facts, params.monitoring, params.retraining)
    learn = decision.verdict == "retrain" and cause in CAUSES_WITH_FEEDBACK
    path = snapshot.write(seen.labelled, settings.home / "snapshots") if learn else None
    outcome = _outcome(decision, facts, seen, path)
    report.write(out / "drift.html", outcome, seen.found, seen.newest, seen.reference, params.monitoring.alpha)
    # With what else was looked at, so that the decision can be made again from the file.
    attempts = [asdict(attempt) for attempt in history]
    looked_at = {"cause": cause, "now": facts.now, "champion": champion.version, "attempts": attempts}
    files.write_json(out / "drift.json", {**outcome, **looked_at})
    return outcome


def _look(params: Params, settings: Settings, champion: Champion) -> _Seen:
    scan = log.scan(settings.home / "requests")
    known = reference.read_replayed(champion.replayed)
    columns = reference.read_reference(champion.reference) if champion.reference else None
    cuts = cut(scan.records, params.monitoring.window_rows, champion.version, known) if columns else Cut()
    recent = cuts.windows[-params.monitoring.of_windows :]
    found = [detect(window, columns, params.monitoring) for window in recent] if columns else []
    newest = recent[-1] if recent else None
    return _Seen(columns, found, newest, len(cuts.rest), labelled(scan.records, known), _unread(scan))


def _unread(scan: log.Scan) -> list[str]:
    lost = scan.torn + scan.damaged
    said = [f"{lost} lines of the request log could not be read"] if lost else []
    return said + [f"not read, of an unknown version of the request log: {name}" for name in scan.unknown]


def _facts(
    params: Params, cause: str, champion: Champion, history: Sequence[Attempt], seen: _Seen, now: float
) -> Facts:  # fmt: skip
    reference_digest = files.digest_file(champion.reference) if champion.reference else ""
    labels = snapshot.digest_of(seen.labelled)
    key = [provenance.params_digest(params), cause, champion.version, reference_digest, labels]
    return Facts(
        cause=cause,
        now=now,
        windows=seen.found,
        attempts=history,
        labelled_rows=count_since(seen.labelled, learned_until(history)),
        trigger_key=files.digest_json(key)[:32],
        champion=seen.reference is not None,
    )


def _outcome(decision: Decision, facts: Facts, seen: _Seen, path: Path | None) -> Outcome:
    return Outcome(
        verdict="retrain" if decision.verdict == "retrain" else "wait",
        alert=decision.verdict == "alert",
        drift=decision.drift,
        reasons=[*decision.reasons, *seen.unread],
        windows=[asdict(window) for window in facts.windows],
        rows_waiting=seen.waiting,
        labelled_rows=facts.labelled_rows,
        snapshot=str(path or ""),
        trigger_key=facts.trigger_key,
    )
