"""Why pods do not start or have ended: the last words of their containers, else what KServe says of them. Pure."""

import json
from collections.abc import Iterable, Iterator

from tokka.kubernetes.api import Object

LONGEST = 600
# A container that waits for these has not failed.
STARTING = ("ContainerCreating", "PodInitializing", "")
ERRORS = ("ERROR", "CRITICAL")


def of_pod(status: Object) -> str:
    """Why a pod is not ready, by its status; empty while nothing has failed."""
    names = ("initContainerStatuses", "containerStatuses")
    told = [_of_container(one) for name in names for one in status.get(name) or ()]
    placed = [one for one in status.get("conditions") or () if one.get("type") == "PodScheduled"]
    return next(filter(None, [*told, *_false(placed)]), "")


def of_service(service: Object, *, stable: bool) -> str:
    """Why the predictor, or (not `stable`) the canary beside it, is not ready, by an InferenceService's status."""
    status = service.get("status", {})
    failure = (status.get("modelStatus") or {}).get("lastFailureInfo") or {} if stable else {}
    found = [one for one in status.get("conditions") or () if ("Canary" in one.get("type", "")) != stable]
    said = spoken(failure.get("message", "")) or failure.get("reason", "")
    # What only sums up comes last: Ready is false because another condition is.
    found.sort(key=lambda one: one.get("type") == "Ready")
    return next(filter(None, [said, *_false(found)]), "")


def spoken(message: str) -> str:
    """The sentence in the end of a log: the last error of a JSON log, what our command line says, or the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for line in reversed(lines):
        found = _logged(line)
        if found.get("level") in ERRORS:
            told = found.get("exception")
            told = told if isinstance(told, dict) else {}
            raised = ": ".join(str(told[name]) for name in ("type", "says") if name in told)
            return "; ".join(filter(None, (str(found.get("message", "")), str(found.get("hint", "")), raised)))[
                :LONGEST
            ]
    starts = [number for number, line in enumerate(lines) if line.startswith(("error: ", "refused: "))]
    words = lines[starts[-1] :] if starts else lines[-1:]
    return " ".join(words).replace(" → ", "; ")[:LONGEST]


def _of_container(one: Object) -> str:
    state = one.get("state") or {}
    waits = state.get("waiting") or {}
    ended = state.get("terminated") or (one.get("lastState") or {}).get("terminated") or {}
    if one.get("ready") or not (ended.get("exitCode") or waits.get("reason", "") not in STARTING):
        return ""
    said = spoken(ended.get("message", "")) or _reason(ended) or waits.get("message") or waits.get("reason", "")
    return f"its {one.get('name', 'container')} says: {said}"[:LONGEST]


def _reason(ended: Object) -> str:
    return f"{ended.get('reason', 'it ended')} (exit code {ended['exitCode']})" if ended.get("exitCode") else ""


def _false(conditions: Iterable[Object]) -> Iterator[str]:
    for one in conditions:
        if one.get("status") == "False":
            yield one.get("message") or one.get("reason") or ""


def _logged(line: str) -> Object:
    try:
        found = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
