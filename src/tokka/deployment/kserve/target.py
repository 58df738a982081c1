"""An InferenceService as a target: reads, decides by pure functions, writes once, and looks again the next time.

Nothing is remembered that a successor would need: after a crash, a lost answer or a conflict the next look at the
cluster tells what is left to do.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import NamedTuple

from tokka.deployment.kserve import knative, standard
from tokka.deployment.kserve.evidence import Meter, Ordered
from tokka.deployment.kserve.inference_service import MANAGER, OWNER, Wanted, generation_of, wanted
from tokka.deployment.kserve.modes import Mode
from tokka.deployment.kserve.predictors import Pod, Predictors, pod_of
from tokka.deployment.kserve.standard import Step
from tokka.deployment.record.clock import Clock
from tokka.deployment.record.state import State
from tokka.deployment.record.target import Answer, Observed, Question
from tokka.errors import Refused, TokkaError
from tokka.kubernetes import failures
from tokka.kubernetes.api import INFERENCE_SERVICES, PODS, Api, Conflict, Object
from tokka.registry.model_uri import ModelUri

NEXT_STEP = {"Standard": standard.next_step, "Knative": knative.next_step}
SPLIT_OF = {"Standard": standard.split_of, "Knative": knative.split_of}
# In a pod's environment: what a laptop's worker is told of `serving` and `monitoring`, as JSON.
TOLD = "TOKKA_SERVING"
# Told of what was changed by hand and is changed back.
Tell = Callable[[str], None]


class Plan(NamedTuple):
    """How an endpoint is served, beside what the record says.

    replicas: pods of each version; maximum: to so many the champion grows by its load. slow_ms: an answer that takes
    longer is slow. drain_s: so long a version without traffic keeps its pods. rows_per_s: questions to a version for
    the shadow. told: what each pod is told beside its model, as JSON; empty for nothing.
    """

    replicas: int = 2
    maximum: int = 8
    slow_ms: float = 1000.0
    drain_s: float = 30.0
    rows_per_s: float = 20.0
    told: str = ""


class KServeTarget:
    """One endpoint's InferenceService, as a rollout sees it."""

    def __init__(
        self, endpoint: str, mode: Mode, plan: Plan, api: Api, predictors: Predictors, clock: Clock,
        tell: Tell = lambda words: None,
    ) -> None:  # fmt: skip
        self._endpoint, self._plan = endpoint, plan
        self._next_step, self._split_of = NEXT_STEP[mode], SPLIT_OF[mode]
        self._api, self._predictors, self._clock, self._tell = api, predictors, clock, tell
        self.meter = Meter(predictors, clock, plan.slow_ms)
        self._state: State | None = None
        self._in_force = -1
        # Model to since when (monotonic) it has no traffic, of those that are to go.
        self._quiet_since: dict[str, float] = {}

    def apply(self, state: State) -> None:
        """Write what comes next, if anything does; raises TokkaError when the API refuses or does not answer."""
        self._state = state
        service = self._service()
        asked = self._wanted(state)
        if service is not None:
            _require_ours(service, state)
        step = self._next(service, asked)
        if step.verb and not step.in_force and self._in_force == state.generation:
            self._tell(f"somebody changed {self._endpoint}, it is brought back: {step.words}")
        if step.verb:
            self._write(step)
        if step.in_force:
            self._in_force = state.generation

    def observe(self) -> Observed:
        """What serves; the split that the pods have counted where it is not the ordered one."""
        service = self._service()
        if service is None:
            raise TokkaError(f"there is no InferenceService {self._endpoint}", "see tokka status")
        pods = self._pods()
        state, split = self._state, self._split_of(service)
        step = self._next(service, self._wanted(state)) if state else None
        in_force = state is not None and step is not None and step.in_force
        self.meter.look(pods, self._ordered(state) if state and in_force else None)
        stable = next(iter(split))
        beside = {uri: percent for uri, percent in split.items() if uri != stable}
        misfit = self.meter.misfit
        return Observed(
            generation=state.generation if state and in_force else -1,
            champion=_digest(stable),
            challenger=_digest(next(iter(beside), "")),
            share=misfit.share if misfit else sum(beside.values()) / 100,
            ready=tuple(sorted({digest for pod in pods if pod.ready and (digest := _digest(pod.uri))})),
            problems=_problems(service, pods, split),
        )

    def infer(self, digest: str, rows: Sequence[Question]) -> list[Answer]:
        """Ask one revision's pods directly, at most `rows_per_s`; not logged as traffic.

        Raises TokkaError when no pod of this revision is ready, or none could answer.
        """
        pods = [pod for pod in self._pods() if pod.ready and _digest(pod.uri) == digest]
        if not pods:
            raise TokkaError(f"no pod of the model {digest[:12]} is ready", "see kubectl get pods")
        began, answers = self._clock.monotonic(), list[Answer]()
        for number, (pod, row) in enumerate(zip(cycle(pods), rows, strict=False)):
            if (early := began + number / self._plan.rows_per_s - self._clock.monotonic()) > 0:
                self._clock.sleep(early)
            answers += self._ask_any([pod, *pods], row)
        return answers

    def _ask_any(self, pods: Sequence[Pod], row: Question) -> list[Answer]:
        """Ask the first pod; another one if that is gone meanwhile, which says nothing of its model."""
        for pod in pods[:-1]:
            try:
                return self._predictors.ask(pod, [row])
            except TokkaError:
                continue
        return self._predictors.ask(pods[-1], [row])

    def _wanted(self, state: State) -> Wanted:
        return wanted(state, self._plan.replicas, self._plan.maximum)

    def _next(self, service: Object | None, asked: Wanted) -> Step:
        """The decision knows models alone: what pods are told beside is taken off before it, and put on after it."""
        told = self._plan.told
        step = self._next_step(_untold(service, told), asked, self._has_drained(service, asked))
        return step._replace(body=_told(step.body, told)) if step.body and told else step

    def _has_drained(self, service: Object | None, asked: Wanted) -> bool:
        """Whether every model that is to go has had no traffic for the drain time."""
        split, now = self._split_of(service) if service else {}, self._clock.monotonic()
        named = {asked.uri(one) for one in (asked.stable, asked.side) if one}
        quiet = {uri for uri, percent in split.items() if uri not in named and not percent}
        self._quiet_since = {uri: self._quiet_since.get(uri, now) for uri in quiet}
        return all(now - since >= self._plan.drain_s for since in self._quiet_since.values())

    def _ordered(self, state: State) -> Ordered:
        asked = self._wanted(state)
        return Ordered(state.generation, asked.uri(state.challenger) if state.challenger else "", state.share)

    def _service(self) -> Object | None:
        return self._api.get(INFERENCE_SERVICES, self._endpoint)

    def _pods(self) -> list[Pod]:
        return [pod for pod in map(pod_of, self._api.list(PODS, {OWNER: self._endpoint})) if _digest(pod.uri)]

    def _write(self, step: Step) -> None:
        body = step.body or {}
        if step.verb == "create":
            _require_kept(body, self._api.create(INFERENCE_SERVICES, body))
        elif step.verb == "patch":
            _require_kept(body, self._api.patch(INFERENCE_SERVICES, self._endpoint, body))
        else:
            self._api.delete(INFERENCE_SERVICES, self._endpoint, body["metadata"]["resourceVersion"])


def _problems(service: Object, pods: Sequence[Pod], split: Iterable[str]) -> dict[str, str]:
    """Model to why none of its pods is ready, as far as somebody says it; `split` names the stable one first."""
    ready, found = {pod.uri for pod in pods if pod.ready}, dict[str, str]()
    for number, uri in enumerate(split):
        said = (f"pod {pod.name}: {pod.problem}" for pod in pods if pod.uri == uri and pod.problem)
        why = "" if uri in ready else next(said, "") or failures.of_service(service, stable=not number)
        if why and (digest := _digest(uri)):
            found[digest] = why
    return found


def _models(found: Object) -> list[Object]:
    """The models of an InferenceService, or of a patch of one, as far as it has their environment."""
    spec = found.get("spec") or {}
    predictors = [spec.get("predictor") or {}, *(one.get("predictor") or {} for one in spec.get("canary") or ())]
    return [model for one in predictors if "env" in (model := one.get("model") or {})]


def _untold(service: Object | None, told: str) -> Object | None:
    """An InferenceService without what its pods are rightly told; what is wrong stays, and is a difference."""
    if service is None or not told:
        return service
    bare = copy.deepcopy(service)
    for model in _models(bare):
        model["env"] = [one for one in model["env"] if one != {"name": TOLD, "value": told}]
    return bare


def _told(body: Object, told: str) -> Object:
    """What is to be written, with what the pods are told."""
    whole = copy.deepcopy(body)
    for model in _models(whole):
        others = [one for one in model["env"] if one.get("name") != TOLD]
        model["env"] = [*others, {"name": TOLD, "value": told}]
    return whole


def _digest(uri: str) -> str | None:
    try:
        return ModelUri.parse(uri).digest
    except TokkaError:
        return None


def _require_ours(service: Object, state: State) -> None:
    """Nothing of other people's is changed, nor what a newer leader wrote."""
    if not MANAGER.items() <= (service["metadata"].get("labels") or {}).items():
        raise Refused(
            f"the InferenceService {state.endpoint} is not Tokka's", "delete it, or label it managed-by=tokka"
        )
    if generation_of(service) > state.generation:
        raise Conflict(
            f"{state.endpoint} was written from generation {generation_of(service)} of the record, and this is "
            f"{state.generation}",
            "another reconciler is ahead; after a restore of the record remove the annotation tokka.dev/generation",
        )


def _require_kept(sent: Object, got: Object) -> None:
    """An API server drops what it does not know: see that nothing of the split was lost."""
    canary = sent.get("spec", {}).get("canary")
    if canary and not got["spec"].get("canary"):
        raise Refused(
            "this cluster dropped spec.canary without a word: its InferenceService does not know it",
            "upgrade KServe to a version after 0.20.0, or install Knative",
        )
