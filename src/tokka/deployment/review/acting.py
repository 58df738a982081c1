"""A review that acts: what was approved is rolled out within seconds of its approval, by whatever way it came.

MLflow's webhook, a write to the record's file or to MLflow's, and every few seconds a look without any cause: each only
says that it is time to look. What is started is `tokka run --pipeline rollout`, which asks for itself whether the
version may serve. What waits and was compared with a champion that serves no more is evaluated again, by
`tokka review evaluate`.
"""

import os
import sys
import threading
from collections.abc import Callable

from tokka import progress
from tokka.database import Commits
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Decision, State
from tokka.deployment.review import webhook
from tokka.deployment.review.admission import SignedAdmission, Standing, champion_moved
from tokka.deployment.review.webhook import Receiver, Webhooks
from tokka.errors import Refused, TokkaError
from tokka.params import Params
from tokka.processes.child import Child
from tokka.registry.bundle import Bundle
from tokka.settings import Settings

Start = Callable[[str], Child | None]
# Of the versions that came after the champion.
LOOKED_AT = 10
# Of `tokka`, with the stack's params.
OWN = (sys.executable, "-P", "-m", "tokka.cli.main")


def is_due(version: str, standing: Standing, state: State, decisions: list[Decision]) -> bool:
    """Whether an approved version's rollout is to be started: nothing rolls out, and it is new."""
    serving = int(state.champion.version) if state.champion else 0
    ended = any(one["action"] in ("promote", "roll_back") for one in decisions)
    return standing.verdict == "approved" and state.phase == "idle" and int(version) > serving and not ended


def is_outdated(version: str, standing: Standing, state: State, bundle: Bundle) -> bool:
    """Whether a version waits that was compared with another champion than the one that serves now."""
    champion = state.champion
    if champion is None or standing.verdict != "waiting" or state.phase != "idle":
        return False
    return int(version) > int(champion.version) and bool(champion_moved(bundle, champion.digest))


class Reviews:
    """Looks at the newest version where `registry.review` is required.

    `start` starts the rollout of a run, `again` the evaluation of a version against the champion of now.
    """

    def __init__(
        self, record: Record, registry: Webhooks, params: Params, settings: Settings, start: Start | None = None,
        again: Start | None = None,
    ) -> None:  # fmt: skip
        self._record, self._registry, self._params, self._settings = record, registry, params, settings
        self._admission = SignedAdmission(record, params, settings)
        self._evidence, self._start = Evidence(record, params.registry.model), start or self._roll_out
        self._again = again or self._evaluate
        self._is_wanted = params.registry.review == "required"
        self._sources = (Commits(settings.record_url), Commits(settings.tracking_uri))
        self._wake, self._running, self._tried = threading.Event(), list[Child](), set[tuple[str, int]]()
        self._compared, self._odd = set[tuple[str, str]](), set[str]()
        self._receiver: Receiver | None = None
        self._said = ""

    def wait(self, seconds: float) -> None:
        """Until a webhook came, at most some seconds."""
        self._wake.wait(seconds)

    def look(self, *, late: bool = False) -> str:
        """Start what an approval, or a champion that moved, asks for, and return the version for which, or nothing.

        `late`: look although nobody said so.

        TokkaError when the record or MLflow does not answer.
        """
        if not self._is_wanted:
            return ""
        self._listen(late)
        self._running = [one for one in self._running if one.poll() is None]
        if told := self._wake.is_set():  # what comes after this question wakes the next look
            self._wake.clear()
        changed = told or any(one.seen() for one in self._sources)
        if self._running or not (late or changed):
            return ""
        for one in self._sources:
            one.mark()
        state = self._record.read(self._params.registry.model)
        serving = int(state.champion.version) if state.champion else 0
        waiting = [version for version in self._evidence.versions() if int(version) > serving][:LOOKED_AT]
        return next((version for version in waiting if self._take(version, state, newest=version == waiting[0])), "")

    def close(self) -> None:
        """Receive nothing any more."""
        if self._receiver is not None:
            self._receiver.close()

    def _take(self, version: str, state: State, *, newest: bool) -> bool:
        """Whether something was started for a version. Of those that wait, the newest alone is evaluated again."""
        try:
            bundle = self._admission.bundle(version)
        except Refused as error:
            if version not in self._odd:
                error.report()
            self._odd.add(version)
            return False
        attempt = (version, len(self._evidence.reviews(bundle.model_digest)))
        moved = champion_moved(bundle, state.champion.digest if state.champion else "")
        if attempt in self._tried and not (moved and newest):
            return False
        decisions = self._record.decisions(state.endpoint, version=version, digest=bundle.model_digest, limit=1000)
        standing = self._admission.standing(version)
        if newest and state.champion and is_outdated(version, standing, state, bundle):
            return self._evaluate_once(version, state.champion.digest)
        if attempt in self._tried or not is_due(version, standing, state, decisions):
            return False
        self._tried |= {attempt, (version, len(self._evidence.reviews(bundle.model_digest)))}
        progress.report("review", f"version {version}: {standing.reason}; its rollout is started")
        self._run(self._start(bundle.run_id))
        return True

    def _evaluate_once(self, version: str, champion: str) -> bool:
        if (version, champion) in self._compared:
            return False
        self._compared.add((version, champion))
        progress.report("review", f"version {version} is compared with the champion that serves now")
        self._run(self._again(version))
        return True

    def _run(self, child: Child | None) -> None:
        if child is not None:
            self._running.append(child)

    def _listen(self, late: bool) -> None:
        """Receive MLflow's webhooks, and see that it sends them; what does not work is looked at later without them."""
        settings = self._settings
        if not webhook.url(settings) or not (late or self._receiver is None):
            return
        try:
            if self._receiver is None:
                port, secret = settings.port + webhook.PORT_OFFSET, webhook.secret(settings)
                self._receiver = Receiver(port, secret, self._params.registry.model, self._wake.set)
            webhook.keep(self._registry, settings)
        except TokkaError as error:
            if error.message != self._said:
                error.report()
            self._said = error.message

    def _roll_out(self, run_id: str) -> Child:
        return self._tokka("review-rollout.log", "run", "--pipeline", "rollout", "--run-id", run_id)

    def _evaluate(self, version: str) -> Child:
        return self._tokka("review-evaluation.log", "review", "evaluate", version)

    def _tokka(self, log: str, *words: str) -> Child:
        params = str(self._settings.home / "stack" / "params.json")
        environment = {**os.environ, **self._settings.environment()}
        command = [*OWN, *words, "--params", params, "--json"]
        return Child(command, log=self._settings.home / "logs" / log, environment=environment)
