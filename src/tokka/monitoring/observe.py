"""One look at the traffic: windows, drift, labels, and the decision whether to retrain, written down for people.

    outcome = detect_drift(params, settings, "drift", out, reference=path, champion_version="3", history=[…])
    outcome["verdict"]        # retrain | wait

Whoever asks, without a champion or a log there is no drift to speak of: that is said, and what a person asked for
goes on.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokka import files, provenance
from tokka.errors import TokkaError
from tokka.monitoring import report, snapshot
from tokka.monitoring.drift.columns import Columns, from_reference
from tokka.monitoring.drift.drift import REFERENCE_ROWS, WindowDrift, detect
from tokka.monitoring.drift.policy import CAUSES_WITH_FEEDBACK, Attempt, Decision, Facts, decide, learned_until
from tokka.monitoring.drift.windows import Cut, Window, count_since, cut, labelled
from tokka.params import Params
from tokka.settings import Settings


def detect_drift(
    params: Params,
    settings: Settings,
    cause: str,
    out: Path,
    *,
    reference: Path | None,
    champion_version: str,
    history: Iterable[Mapping[str, Any]],
    replayed: Path | None = None,
    now: float | None = None,
) -> dict[str, Any]:
    """Look at the request log, write drift.html and drift.json into `out`, and return what was decided.

    Args:
        params: sections monitoring and retraining decide.
        settings: the request log and the snapshots are in its home.
        cause: drift, schedule, git or person.
        out: made when it is missing.
        reference: reference.parquet of the champion's evaluation; None when nothing serves.
        champion_version: whose predictions are looked at; empty when nothing serves.
        history: earlier retrainings as `time`, `cause`, `trigger_key`, `outcome` (see `policy.Attempt`).
        replayed: replay.parquet of the champion's evaluation: rows that a rollout sends itself are no traffic.
        now: seconds since 1970; for tests.

    Returns:
        verdict (retrain or wait), alert (whether a person has to look), drift, reasons, windows, labelled_rows,
        snapshot (path or empty), trigger_key.

    Raises:
        TokkaError: the reference cannot be read.
        UsageError: the cause is unknown, or monitoring.alpha too fine.
    """
    seen = _look(params, settings, reference, champion_version, replayed)
    attempts = [_attempt(entry) for entry in history]
    facts = Facts(
        cause=cause,
        now=time.time() if now is None else now,
        windows=seen.found,
        attempts=attempts,
        labelled_rows=count_since(seen.labelled, learned_until(attempts)),
        trigger_key=_trigger_key(params, cause, champion_version, reference, snapshot.digest_of(seen.labelled)),
        champion=seen.reference is not None,
    )
    decision = decide(facts, params.monitoring, params.retraining)
    learn = decision.verdict == "retrain" and cause in CAUSES_WITH_FEEDBACK
    path = snapshot.write(seen.labelled, settings.home / "snapshots") if learn else None
    outcome = _outcome(decision, facts, seen, path)
    report.write(out / "drift.html", outcome, seen.found, seen.newest, seen.reference, params.monitoring.alpha)
    files.write_json(out / "drift.json", outcome | _inputs(facts, champion_version))
    return outcome


@dataclass(frozen=True)
class _Seen:
    """What the log and the reference hold: full windows with what was found in them, and labelled rows."""

    reference: Columns | None
    found: list[WindowDrift]
    newest: Window | None
    waiting: int
    labelled: list[dict[str, Any]]
    damaged: int


def _look(params: Params, settings: Settings, reference: Path | None, version: str, replayed: Path | None) -> _Seen:
    records, damaged = _read(settings.home / "requests")
    known, columns = _texts(replayed), from_reference(reference, REFERENCE_ROWS) if reference else None
    cuts = cut(records, params.monitoring.window_rows, version, known) if columns else Cut()
    recent = cuts.windows[-params.monitoring.of_windows :]
    found = [detect(window, columns, params.monitoring) for window in recent] if columns else []
    return _Seen(columns, found, recent[-1] if recent else None, len(cuts.rest), labelled(records, known), damaged)


def _outcome(decision: Decision, facts: Facts, seen: _Seen, path: Path | None) -> dict[str, Any]:
    reasons = list(decision.reasons)
    if seen.damaged:
        reasons.append(f"{seen.damaged} lines of the request log could not be read")
    return {
        "verdict": "retrain" if decision.verdict == "retrain" else "wait",
        "alert": decision.verdict == "alert",
        "drift": decision.drift,
        "reasons": reasons,
        "windows": [window.as_dict() for window in facts.windows],
        "rows_waiting": seen.waiting,
        "labelled_rows": facts.labelled_rows,
        "snapshot": str(path) if path else "",
        "trigger_key": facts.trigger_key,
    }


def _inputs(facts: Facts, champion_version: str) -> dict[str, Any]:
    """What else the decision looked at, so that it can be made again from drift.json."""
    return {
        "cause": facts.cause,
        "now": facts.now,
        "champion": champion_version,
        "attempts": [vars(attempt) for attempt in facts.attempts],
    }


def _read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    from tokka.request_log.log import scan

    found = scan(folder)
    return found.records, found.torn + found.damaged


def _texts(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return frozenset(map(str, pq.read_table(path, columns=["text"]).column("text").to_pylist()))
    except (OSError, pa.ArrowException) as error:
        raise TokkaError(f"{path} cannot be read: {error}", "evaluate the champion again") from None


def _attempt(entry: Mapping[str, Any]) -> Attempt:
    """One line of history; what it does not say counts against starting another."""
    return Attempt(
        time=float(entry["time"]),
        cause=str(entry.get("cause", "")),
        trigger_key=str(entry.get("trigger_key", "")),
        outcome=str(entry.get("outcome") or "running"),
    )


def _trigger_key(params: Params, cause: str, version: str, reference: Path | None, labels: str) -> str:
    parts: Sequence[Any] = [cause, version, files.digest_file(reference) if reference else "", labels]
    return files.digest_json([provenance.params_digest(params), *parts])[:32]
