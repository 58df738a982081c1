"""One rollout's collaborators, and what came of it; loop.py drives it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tokka.deployment.record.clock import Clock
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Decision
from tokka.deployment.record.target import Target
from tokka.deployment.registry import Registry
from tokka.deployment.review.admission import Admission, SignedAdmission
from tokka.deployment.traffic_columns import LogRecord
from tokka.gateway.exposure import endpoint
from tokka.params import Params
from tokka.registry.bundle import Bundle
from tokka.settings import Settings

Verdict = Literal["promoted", "rolled_back", "held", "superseded"]
# Each call gives the records of the request log that are new.
ReadLog = Callable[[], Sequence[LogRecord]]
# Sends labelled rows (text, text_pair, target) through the gateway, and their targets as feedback.
SendTraffic = Callable[[Sequence[Mapping[str, object]]], object]

# A rollback for these reasons was proven; the same version is not tried again unless asked for (`again`).
PROVEN = ("quality", "live", "watch")
# Requests per second: faster ones would queue on a laptop and make everybody slow.
REPLAY_RATE = 50.0


@dataclass(frozen=True)
class RolloutResult:
    """What came of a rollout; `phases` has every decision, in the order of time."""

    verdict: Verdict
    reasons: tuple[str, ...]
    phases: tuple[Decision, ...] = ()

    @property
    def share_seen(self) -> float:
        """The highest share of live traffic that was on the challenger when a step was decided."""
        # The looks on the way are of a few requests at first: only what was decided on is a share worth telling.
        seen = [phase["values"].get("step_share", 0.0) for phase in self.phases if phase["action"] != "wait"]
        return max(seen, default=0.0)

    def as_dict(self) -> dict[str, object]:
        """The same as plain data for JSON."""
        return {**asdict(self), "share_seen": self.share_seen}


@dataclass(frozen=True)
class Rollout:
    """The rollout of one registry version, and what it works with.

    `traffic` is for `canary.replay` when too little live traffic comes. `open_log`, from seconds since 1970 to a reader
    of the request log from then on, `fetch`, from signed evidence to its verified model, and `admission` are by default
    this home's and the record's.
    """

    version: str
    registry: Registry
    record: Record
    target: Target
    params: Params
    settings: Settings
    traffic: SendTraffic | None = None
    clock: Clock = time
    open_log: Callable[[float], ReadLog] | None = None
    fetch: Callable[[Bundle], Path] | None = None
    admission: Admission | None = None

    @property
    def endpoint(self) -> str:
        """The name of what is rolled out to."""
        return self.params.registry.model

    @property
    def admitted_by(self) -> Admission:
        """What says whether a version may serve."""
        return self.admission or SignedAdmission(self.record, self.params, self.settings)


def through_gateway(settings: Settings) -> SendTraffic:
    """What replays labelled rows through this home's gateway as users would send them, with their truth after."""
    from tokka.gateway.api_keys import own_headers
    from tokka.gateway.replay import replay

    return lambda rows: replay(rows, endpoint(settings), rate=REPLAY_RATE, headers=own_headers(settings.home))


def proven_before(record: Record, endpoint: str, version: str, digest: str) -> Decision | None:
    """The decision that ended the last rollout of a model, when evidence ended it.

    A model is known by its digest, under whatever version number; what was decided before decisions had one counts by
    the number.
    """
    for decision in record.decisions(endpoint, version=version, digest=digest, limit=1000):
        if decision["action"] in ("roll_back", "promote"):
            return decision if decision["action"] == "roll_back" and decision["topic"] in PROVEN else None
    return None
