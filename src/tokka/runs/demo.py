"""The life of a model in five acts; after each, what must be true is looked up in the record and in the answers."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from tokka.data.sample import make_sample, make_traffic
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.files import JsonObject, Tree
from tokka.gateway.api_keys import own_headers
from tokka.gateway.replay import Replayed, replay
from tokka.params import Params
from tokka.runs.execute import OnEvent, Request, execute
from tokka.settings import Settings
from tokka.stack.stack import ensure_up

ROWS = 3000
# Requests per second: in one go, while a version is on trial, and beside a training that has the processor.
BUSY, ON_TRIAL, QUIET = 60.0, 40.0, 5.0
CHUNK = 20
# Small and quick, and otherwise as a user runs it.
OVERRIDES = (
    "registry.model=demo",
    "finetuning.epochs=3",
    "evaluation.bootstrap=1000",
    "evaluation.learning_curve=[]",
    "retraining.cool_down_hours=0",
    "canary.steps=[0.1, 0.5]",
    "canary.step_requests=40",
    "canary.maximum_wait_s=180",
    "canary.watch_s=3",
)
# What no training could make good: a head that starts at random and does not move.
HOPELESS = {"strategy": "partial", "layers": 1, "head_warm_start": False, "learning_rate": 1e-9, "epochs": 1}


class Fact(BaseModel):
    """Something that must have happened: when (seconds since the start), what, and whether it did."""

    seconds: float
    text: str
    held: bool
    found: str = ""


@dataclass(frozen=True)
class Life:
    """One life, in a home of its own; `began` on the clock of time.monotonic."""

    params: Params
    settings: Settings
    say: Callable[[str], None]
    on_event: OnEvent
    began: float = field(default_factory=time.monotonic)

    def live(self) -> Iterator[Fact]:
        """Play the acts in order and yield each fact as soon as it is known."""
        for act in (self.first_version, self.quiet_days, self.drift_and_retraining, self.bad_version):
            yield from act()

    def first_version(self) -> Iterator[Fact]:
        """A general model becomes version 1 and goes live."""
        self.say("Act 1. A general model becomes a specialist, on synthetic help-desk messages.")
        make_sample(self.settings.root / self.params.data.source, rows=ROWS, seed=7)
        final = self._run(Request(params=self.params))
        yield self._fact("the gate passes version 1", _verdict(final, "gate"), "pass")
        yield self._fact("version 1 goes live", self._champion(), "1")

    def quiet_days(self) -> Iterator[Fact]:
        """Traffic as the model was tested on: nothing may start."""
        self.say("Act 2. Users write as expected (replayed synthetic messages through the gateway).")
        found = self._send(300, seed=100, drift=False)
        yield self._fact("every request of quiet days is answered", found, "0 of 300 failed")
        final = self._run(Request(params=self.params, cause="drift"))
        yield self._fact("no drift, no retraining", _verdict(final, "drift"), "wait")
        yield self._fact("version 1 still serves", self._champion(), "1")

    def drift_and_retraining(self) -> Iterator[Fact]:
        """New intents and new words: drift is seen, a retraining starts, version 2 is promoted under traffic."""
        self.say("Act 3. The world changes: two new intents, new words, other shares; users correct wrong answers.")
        found = self._send(800, seed=200, drift=True)
        yield self._fact("every drifted request is answered", found, "0 of 800 failed")
        with self._traffic(seed=1000) as traffic:
            final = self._run(Request(params=self.params, cause="drift"))
        yield self._fact("the drift is seen and the policy starts a retraining", _verdict(final, "drift"), "retrain")
        yield self._fact("the gate passes version 2", _verdict(final, "gate"), "pass")
        yield self._fact("the canary promotes version 2", _verdict(final, "canary"), "promoted")
        yield self._fact("version 2 serves", self._champion(), "2")
        yield self._served("no request failed while the traffic shifted", traffic.results)

    def bad_version(self) -> Iterator[Fact]:
        """A hopeless candidate is refused by the gate; forced past it, the canary rolls it back."""
        self.say("Act 4. Somebody offers a hopeless version 3.")
        finetuning = self.params.finetuning.model_copy(update=HOPELESS)
        bad = self.params.model_copy(update={"finetuning": finetuning})
        final = self._run(Request(params=bad, pipeline="specialise"))
        yield self._fact("the gate refuses it", _verdict(final, "gate"), "refuse")
        yield self._fact("version 2 still serves", self._champion(), "2")
        self.say("Act 5. The same one is forced past the gate, under live traffic.")
        forced = Request(params=bad, pipeline="rollout", run_id=final["run_id"], override="demo: forced past the gate")
        with self._traffic(seed=5000) as traffic:
            final = self._run(forced)
        yield self._fact("the canary rolls it back", _verdict(final, "canary"), "rolled_back")
        yield self._fact("version 2 still serves", self._champion(), "2")
        yield self._served("the champion served every request", traffic.results, only="2")

    def _run(self, request: Request) -> JsonObject:
        final = execute(request, self.settings, self.on_event)
        for name in ("drift", "gate", "canary"):
            for reason in (final[name] or {}).get("reasons", [])[:3]:
                self.say(f"    {name}: {reason}")
        return final

    def _state(self) -> State:
        return Record(self.settings.record_url).read(self.params.registry.model)

    def _champion(self) -> str:
        champion = self._state().champion
        return champion.version if champion else "none"

    def _traffic(self, seed: int) -> "Background":
        return Background(self._endpoint(), self.settings.home, seed, lambda: self._state().phase != "idle")

    def _send(self, count: int, seed: int, *, drift: bool) -> str:
        answers = send(self._endpoint(), self.settings.home, make_traffic(count, seed=seed, drift=drift))
        return f"{sum(answer.status != 200 for answer in answers)} of {count} failed"

    def _endpoint(self) -> str:
        return ensure_up(self.settings, self.params).endpoint

    def _fact(self, text: str, found: str, wanted: str) -> Fact:
        return Fact(seconds=time.monotonic() - self.began, text=text, held=found == wanted, found=found)

    def _served(self, text: str, answers: Sequence[Replayed], only: str = "") -> Fact:
        failed = [answer for answer in answers if answer.status != 200]
        others = [answer for answer in answers if only and answer.version != only]
        found = f"{len(answers)} requests, {len(failed)} failed" + (f", {len(others)} by another" if only else "")
        held = bool(answers) and not failed and not others
        return Fact(seconds=time.monotonic() - self.began, text=text, held=held, found=found)


def _verdict(final: Tree, name: str) -> str:
    return str((final[name] or {"verdict": "not reached"})["verdict"])


class Background:
    """Labelled messages of the drifted world sent in a thread until the `with` block ends; `results` has every answer.

    `on_trial`: whether a version is on trial now: then there is more traffic.
    """

    def __init__(self, endpoint: str, home: Path, seed: int, on_trial: Callable[[], bool]) -> None:
        self.results: list[Replayed] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(endpoint, home, seed, on_trial), daemon=True)

    def __enter__(self) -> "Background":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self, endpoint: str, home: Path, seed: int, on_trial: Callable[[], bool]) -> None:
        for number in itertools.count(seed + 1):
            if self._stop.is_set():
                return
            rate = ON_TRIAL if on_trial() else QUIET
            self.results += send(endpoint, home, make_traffic(CHUNK, seed=number, drift=True), rate)


def send(endpoint: str, home: Path, messages: Sequence[JsonObject], rate: float = BUSY) -> list[Replayed]:
    """Send labelled messages through the gateway of a home, each followed by its feedback."""
    rows = [{"text": message["text"], "target": message["label"]} for message in messages]
    return replay(rows, endpoint, rate=rate, feedback=True, headers=own_headers(home))
