"""The fake of tests/fakes/world.py on a cluster: the real target for KServe over a fake Kubernetes API.

world = World(tmp_path, target=ClusterTarget)
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.fakes.kserve import FakeKServe, FakePredictors
from tests.fakes.kubernetes_api import FakeApi
from tests.fakes.world import ENDPOINT, Clock, FakeTarget, Model
from tokka.deployment.kserve.predictors import Outcome
from tokka.deployment.kserve.target import KServeTarget, Plan
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed
from tokka.errors import TokkaError
from tokka.registry.model_uri import ModelUri

PLAN = Plan(drain_s=5.0, rows_per_s=1e9)


class ClusterTarget(FakeTarget):
    """Traffic and models are the fake's; who gets which part is what the cluster's route says."""

    def __init__(self, models: dict[str, Model], clock: Clock, seed: int) -> None:
        self.api = FakeApi()
        self.kserve = FakeKServe(self.api, ready=lambda digest: self.models[digest].ready)
        self.predictors = FakePredictors(self._infer)
        self.healed: list[str] = []
        super().__init__(models, clock, seed)
        self.restart()

    def restart(self) -> None:
        """A new process, which remembers nothing."""
        told = self.healed.append
        self.real = KServeTarget(ENDPOINT, "Standard", PLAN, self.api, self.predictors, self.clock, told)

    def apply(self, state: State) -> None:
        self.api.guard = self.guard
        if not self.frozen:
            self.real.apply(state)

    def observe(self) -> Observed:
        self.move_on()
        return self.real.observe()

    def infer(self, digest: str, rows: Sequence[dict[str, Any]]) -> list[Answer]:
        return self.real.infer(digest, rows)

    @property
    def state(self) -> State:
        """What serves, as if a record had said so."""
        weights = list(self.kserve.weights().items())
        revisions = [Revision(version=uri.version, digest=uri.digest) for uri, _ in map(_parsed, weights)]
        if len(revisions) < 2:
            return State(endpoint=ENDPOINT, champion=next(iter(revisions), None))
        champion, challenger = revisions
        return State(
            endpoint=ENDPOINT, champion=champion, challenger=challenger, phase="step", share=weights[1][1] / 100
        )

    @state.setter
    def state(self, _: State) -> None:
        """Nobody but the cluster says."""

    def shows(self, state: State) -> bool:
        """Whether the cluster comes to serve what the record says, and nothing else, with nobody's request lost."""
        for _ in range(20):
            with contextlib.suppress(TokkaError):
                self.real.apply(state)
            self.clock.now += 1.0
        assert self.kserve.lost == []
        now = self.state
        return (now.champion, now.challenger, now.share) == (state.champion, None, 0.0)

    def _infer(self, digest: str, rows: Sequence[Any]) -> list[Answer]:
        return FakeTarget.infer(self, digest, rows)

    def move_on(self) -> None:
        """The controller carries out what is asked, and the pods count what they have answered."""
        self.kserve.run()
        counted: dict[str, Counter[Outcome]] = {}
        digests = {one.version: digest for digest, one in self._named().items()}
        for entry in self.log:
            if entry["kind"] == "request" and entry["version"] in digests:
                uri = str(ModelUri(ENDPOINT, entry["version"], digests[entry["version"]]))
                outcome = Outcome(entry["status"], entry["latency_ms"] > PLAN.slow_ms)
                counted.setdefault(uri, Counter())[outcome] += 1
        self.predictors.counted = counted

    def _named(self) -> dict[str, ModelUri]:
        found = [ModelUri.parse(one) for one in self.kserve.weights()]
        return {one.digest: one for one in found}


def _parsed(entry: tuple[str, int]) -> tuple[ModelUri, int]:
    return ModelUri.parse(entry[0]), entry[1]
