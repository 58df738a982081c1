"""What is decided, as Kubernetes Events on the InferenceService: for whoever looks with `kubectl describe`."""

import datetime
import hashlib
from typing import Literal

from tokka.deployment.record.clock import Clock
from tokka.deployment.record.state import Decision
from tokka.errors import TokkaError
from tokka.kubernetes.api import EVENTS, INFERENCE_SERVICES, Api, Conflict, Object

COMPONENT = "tokka-reconciler"
REASONS = {
    "go_on": "RolloutStep", "promote": "Promoted", "finish": "RolloutFinished", "roll_back": "RolledBack",
    "wait": "RolloutWaits",
}  # fmt: skip
# The API takes no longer note.
LONGEST = 1000


class Events:
    """Writes each event once, also when it is told again after a crash; what the API does not take is left out."""

    def __init__(self, endpoint: str, api: Api, clock: Clock) -> None:
        self._endpoint, self._api, self._clock = endpoint, api, clock
        self._told: set[str] = set()

    def decided(self, decision: Decision) -> None:
        """A phase's end, or what it waits for, with the judge's sentence."""
        action, version = decision["action"], decision["version"]
        kind: Literal["Normal", "Warning"] = "Warning" if action == "roll_back" else "Normal"
        where = f"version {version}, {decision['phase']} at {decision['share']:.0%}"
        key = f"{decision.get('rollout')}/{decision.get('generation')}/{action}/{decision['topic']}"
        self._tell(REASONS[action], f"{where}: {'; '.join(decision['reasons'])}", kind, key)

    def healed(self, words: str) -> None:
        """Somebody changed what the record says, and it was changed back."""
        self._tell("Healed", words, "Warning", f"healed/{words}/{int(self._clock.time())}")

    def _tell(self, reason: str, words: str, kind: Literal["Normal", "Warning"], key: str) -> None:
        name = f"{self._endpoint}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        if name in self._told:
            return
        try:
            service = self._api.get(INFERENCE_SERVICES, self._endpoint)
            if service is None:
                return
            self._api.create(EVENTS, self._event(service, name, reason, words, kind))
        except Conflict:
            pass
        except TokkaError:
            return
        self._told.add(name)

    def _event(self, service: Object, name: str, reason: str, words: str, kind: str) -> Object:
        moment = datetime.datetime.fromtimestamp(self._clock.time(), datetime.UTC)
        meta, stamp = service["metadata"], moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {"apiVersion": INFERENCE_SERVICES.version, "kind": "InferenceService", "name": meta["name"]}
        return {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "type": kind, "reason": reason,
            "involvedObject": about | {"namespace": meta.get("namespace", ""), "uid": meta.get("uid", "")},
            "message": words[:LONGEST], "source": {"component": COMPONENT}, "firstTimestamp": stamp,
            "lastTimestamp": stamp, "count": 1,
        }  # fmt: skip
