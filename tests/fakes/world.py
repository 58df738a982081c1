"""A world to roll out in: clock, registry, gateway and models in memory; the deployment record is a real one.

world = World(tmp_path, challenger=Model(accuracy=0.5))
result = world.rollout("2")
"""

import contextlib
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tokka.deployment.loop import run_rollout
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision, State
from tokka.deployment.record.target import Answer, Observed
from tokka.deployment.review.admission import Standing, decide_review
from tokka.deployment.review.signatures import Review
from tokka.deployment.rollout import REPLAY_RATE, Rollout, RolloutResult
from tokka.errors import Refused, TokkaError
from tokka.params import Params, parse_params
from tokka.registry.bundle import Bundle
from tokka.sections_serving import Review as Rule
from tokka.settings import Settings

ENDPOINT = "desk"
LABELS = ("refund", "parcel", "invoice", "login", "cancel")
ADMITTED = {"tokka.gate": "pass", "tokka.review": "automatic"}
# Without proof of fewer failures: it takes hundreds of requests.
QUICK = {
    "shadow_rows": 100, "steps": [0.2, 0.5], "step_requests": 100, "watch_s": 5, "warm_up_s": 20, "maximum_wait_s": 60,
    "error_margin": 1.0, "slow_margin": 1.0,
}  # fmt: skip


class Clock:
    """Time that passes only when somebody sleeps; `set_by` is by how many seconds somebody has set the wall clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.set_by = 0.0
        self.on_sleep: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now + self.set_by

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.on_sleep()


@dataclass
class Model:
    """How one version behaves: shares of requests; `dies_at` is the share of traffic at which its workers are gone."""

    accuracy: float = 0.9
    errors: float = 0.0
    slow: float = 0.0
    live_errors: float = 0.0
    live_accuracy: float | None = None
    ready: bool = True
    dies_at: float = 2.0
    signed: bool = True
    sane: bool = True


@dataclass
class VersionTags:
    """A registry version as far as a rollout looks at it."""

    tags: dict[str, str]
    created: float = 0.0


class FakeRegistry:
    """Aliases, tags and evidence of versions, in memory; `guard` surrounds every write."""

    def __init__(self, rows: Sequence[dict[str, Any]] = ()) -> None:
        self.rows = list(rows)
        self.of: dict[str, VersionTags] = {}
        self.alias: dict[str, str] = {}
        self.down = False
        self.guard: Callable[[], Any] = contextlib.nullcontext

    def version(self, version: str) -> VersionTags:
        if version not in self.of:
            raise TokkaError(f"there is no version {version}")
        return self.of[version]

    def aliases(self) -> dict[str, str]:
        self._answer()
        return dict(self.alias)

    def set_alias(self, alias: str, version: str) -> None:
        with self._write():
            self.alias[alias] = version

    def delete_alias(self, alias: str) -> None:
        with self._write():
            self.alias.pop(alias, None)

    def tag_version(self, version: str, tags: dict[str, str]) -> None:
        with self._write():
            self.of[version].tags |= tags

    def download_evidence(self, version: str, into: Path) -> None:
        into.mkdir(parents=True)
        kind = pa.float64() if self.rows and isinstance(self.rows[0]["target"], float) else pa.string()
        table = pa.Table.from_pylist(self.rows, pa.schema([("text", pa.string()), ("target", kind)]))
        pq.write_table(table, into / "replay.parquet")

    @contextlib.contextmanager
    def _write(self) -> Any:
        self._answer()
        with self.guard():
            yield

    def _answer(self) -> None:
        if self.down:
            raise TokkaError("MLflow does not answer")


class FakeAdmission:
    """What the tags of a fake registry say, as if it were signed: `tokka.gate`, `tokka.review`, `tokka.override`."""

    def __init__(self, registry: FakeRegistry, mode: str = "automatic") -> None:
        self.registry, self.mode = registry, mode
        self.digest_of: Callable[[str], str] = digest_of

    def bundle(self, version: str) -> Bundle:
        tags = self.registry.version(version).tags
        return Bundle(
            run_id=f"run-{version}", model=ENDPOINT, version=version, model_digest=self.digest_of(version),
            verdict="pass" if tags.get("tokka.gate") == "pass" else "refuse", override=tags.get("tokka.override", ""),
        )  # fmt: skip

    def standing(self, version: str) -> Standing:
        bundle, word = self.bundle(version), self.registry.version(version).tags.get("tokka.review", "")
        said = [self._review(bundle, word)] if word in ("approved", "refused") else []
        return decide_review(self.mode, Rule(), bundle, said, bundle.champion_digest, 0.0)

    def _review(self, bundle: Bundle, word: Any) -> Review:
        return Review(
            model=ENDPOINT, version=bundle.version, model_digest=bundle.model_digest, verdict=word, reviewer="ana",
            evidence_digest=bundle.digest, champion_digest="", time=0.0,
        )  # fmt: skip


class FakeTarget:
    """Processes and gateway: follows the record at once, answers as its models do; `guard` surrounds every change."""

    def __init__(self, models: dict[str, Model], clock: Clock, seed: int) -> None:
        self.models = models
        self.clock = clock
        self.state = State(endpoint=ENDPOINT)
        self.random = random.Random(seed)
        self.log: list[dict[str, Any]] = []
        self.down = False
        self.frozen = False
        self.values = False
        self.guard: Callable[[], Any] = contextlib.nullcontext

    def apply(self, state: State) -> None:
        if not self.frozen and state != self.state:
            with self.guard():
                self.state = state

    def restart(self) -> None:
        """What a new process knows: everything, since nothing is kept here."""

    def shows(self, state: State) -> bool:
        """Whether what serves is what a record says."""
        return self.state == state

    def observe(self) -> Observed:
        if self.down:
            raise TokkaError("the stack does not answer")
        names = {role: getattr(self.state, role) for role in ("champion", "challenger", "previous")}
        ready = tuple(revision.digest for revision in names.values() if revision and self._alive(revision))
        return Observed(
            generation=self.state.generation,
            champion=names["champion"].digest if names["champion"] else None,
            challenger=names["challenger"].digest if names["challenger"] else None,
            share=self.state.share,
            ready=ready,
        )

    def infer(self, digest: str, rows: Sequence[dict[str, Any]]) -> list[Answer]:
        if self.down:
            raise TokkaError("the stack does not answer")
        model = self.models[digest]
        return [self._answer(digest, model, row["text"], model.errors, model.accuracy) for row in rows]

    def send(self, rows: Sequence[dict[str, Any]], *, rate: float = 100.0, replayed: bool = True) -> None:
        """Requests through the gateway, with their labels as feedback."""
        for row in rows:
            self.clock.now += 1 / rate
            self._request(row["text"], row.get("target"), replayed)

    def _request(self, text: str, target: object, replayed: bool) -> None:
        state, identity = self.state, f"{self.random.getrandbits(64):016x}"
        canary = state.challenger is not None and self.random.random() < state.share
        revision = state.challenger if canary else state.champion
        assert revision is not None
        # The champion's workers back the challenger's up.
        served = revision if self._alive(revision) or state.champion is None else state.champion
        model = self.models[served.digest]
        errors = max(model.errors, model.live_errors)
        accuracy = model.accuracy if model.live_accuracy is None else model.live_accuracy
        answer = self._answer(served.digest, model, text, errors, accuracy, salt=identity)
        slow = self.random.random() < model.slow
        facts = {"prediction_id": identity, "time": self.clock.time(), "share": state.share, "replayed": replayed}
        gateway = {
            "assigned": canary,
            "canary": served == state.challenger,
            "version": served.version,
            "route": "predict",
        }
        status, latency = (500 if answer.error else 200), (900.0 if slow else 10.0)
        self.log.append({"kind": "request", **facts, **gateway, "status": status, "latency_ms": latency})
        if not answer.error:
            said = {"version": served.version, "digest": served.digest, "text": text, self._kind: self._said(answer)}
            self.log.append({"kind": "prediction", **facts, **said})
            if target is not None:
                told = {"prediction_id": identity, "time": self.clock.time(), self._kind: target}
                self.log.append({"kind": "feedback", **told})

    def reader(self, since: float) -> Callable[[], list[dict[str, Any]]]:
        """Reads the log on: each record is given once."""
        given = 0

        def read_on() -> list[dict[str, Any]]:
            nonlocal given
            new, given = self.log[given:], len(self.log)
            return [entry for entry in new if entry["time"] >= since]

        return read_on

    @property
    def _kind(self) -> str:
        return "value" if self.values else "label"

    def _said(self, answer: Answer) -> str | float | None:
        return answer.value if self.values else answer.label

    def _alive(self, revision: Revision) -> bool:
        model = self.models[revision.digest]
        on_trial = self.state.challenger == revision
        return model.ready and not (on_trial and self.state.share >= model.dies_at)

    def _answer(self, digest: str, model: Model, text: str, errors: float, accuracy: float, salt: str = "") -> Answer:
        if chance(digest, text, "error", salt) < errors:
            return Answer(error="500: it broke")
        # Hard messages are hard for every model, so two models of one accuracy agree.
        right = chance(text, "right") < accuracy
        if self.values:
            return Answer(value=value(text) + (0.0 if right else 40.0))
        label = truth(text) if right else LABELS[(LABELS.index(truth(text)) + 1) % len(LABELS)]
        return Answer(label=label if model.sane else "", score=0.8)


def truth(text: str) -> str:
    """The right label of a made-up message."""
    last = text.rsplit(" ", 1)[-1]
    return LABELS[(int(last) if last.isdigit() else len(last)) % len(LABELS)]


def value(text: str) -> float:
    """The right value of a made-up message."""
    return float(int(text.rsplit(" ", 1)[1]) % 97)


def chance(*parts: str) -> float:
    """A number in [0, 1) that is always the same for the same parts."""
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:6], "big") / 2**48


def digest_of(version: str) -> str:
    """The made-up digest of a version's model."""
    return hashlib.sha256(version.encode()).hexdigest()


@dataclass
class World:
    """Version 1 is the champion (unless `first`), version 2 is what is rolled out."""

    folder: Path
    challenger: Model = field(default_factory=Model)
    champion: Model = field(default_factory=Model)
    first: bool = False
    rows: int = 600
    values: bool = False
    canary: dict[str, Any] = field(default_factory=dict)
    seed: int = 7
    serves: type[FakeTarget] = FakeTarget

    def __post_init__(self) -> None:
        self.clock = Clock()
        models = {"1": self.champion, "2": self.challenger, "3": Model()}
        texts = [f"message {number}" for number in range(self.rows)]
        answer = value if self.values else truth
        self.registry = FakeRegistry([{"text": text, "target": answer(text)} for text in texts])
        self.registry.of = {version: VersionTags(dict(ADMITTED)) for version in models}
        self.target = self.serves({digest_of(name): model for name, model in models.items()}, self.clock, self.seed)
        self.target.values = self.values
        self.url = f"sqlite:///{self.folder}/record.db"
        self.record = Record(self.url, self.clock)
        self.params: Params = parse_params(
            {
                "task": {"type": "regression" if self.values else "classification"},
                "registry": {"model": ENDPOINT},
                "canary": {**QUICK, **self.canary},
            }
        )
        home = {"TOKKA_ROOT": str(self.folder), "TOKKA_HOME": "home"}
        self.settings = Settings.from_environment(home)
        if not self.first:
            self.record.compare_and_set(
                self.record.read(ENDPOINT), champion=Revision(version="1", digest=digest_of("1"))
            )
            self.registry.alias = {"champion": "1", "challenger": "2"}
            self.target.apply(self.state)

    @property
    def state(self) -> State:
        """What the record says now."""
        return self.record.read(ENDPOINT)

    def fetch(self, bundle: Bundle) -> Path:
        """As registry.publish.fetch_model: refuse what is not signed."""
        if not self.target.models[bundle.model_digest].signed:
            raise Refused(f"version {bundle.version} has no signature")
        return self.folder / bundle.model_digest

    def dying(self, at: int, after: bool) -> "DyingRecord":
        """A record that kills its process at a write; the target's and the registry's writes count as well."""
        record = DyingRecord(self.url, self.clock, at, after)
        self.registry.guard = self.target.guard = record.write
        return record

    def healed(self) -> Record:
        """A new process: nothing kills it."""
        self.registry.guard = self.target.guard = contextlib.nullcontext
        return Record(self.url, self.clock)

    def rollout_of(self, version: str = "2", record: Record | None = None, **changes: Any) -> Rollout:
        """A rollout with this world's collaborators, or others."""
        given: dict[str, Any] = {
            "version": version, "registry": self.registry, "record": record or self.record, "target": self.target,
            "params": self.params, "settings": self.settings, "clock": self.clock, "open_log": self.target.reader,
            "traffic": lambda rows: self.target.send(rows, rate=REPLAY_RATE), "fetch": self.fetch,
            "admission": FakeAdmission(self.registry, changes.get("params", self.params).registry.review),
        }  # fmt: skip
        return Rollout(**{**given, **changes})

    def rollout(self, version: str = "2", *, again: bool = False, **changes: Any) -> RolloutResult:
        """Run it to its end in this process."""
        return run_rollout(self.rollout_of(version, **changes), again=again)


class Killed(BaseException):
    """The process is gone: nothing of the project may catch it."""


class DyingRecord(Record):
    """A record whose process is killed before or after its nth write; also counts the writes."""

    def __init__(self, url: str, clock: Clock, at: int = -1, after: bool = False) -> None:
        super().__init__(url, clock)
        self.at, self.after, self.writes = at, after, 0

    def compare_and_set(self, expected: State, **changes: Any) -> State:
        with self.write():
            return super().compare_and_set(expected, **changes)

    def add_decision(self, state: State, decision: Any) -> None:
        with self.write():
            super().add_decision(state, decision)

    def heartbeat(self, state: State) -> None:
        with self.write():
            super().heartbeat(state)

    @contextlib.contextmanager
    def write(self) -> Any:
        """One write anywhere: to the record, or by the registry that shares this counter."""
        number, self.writes = self.writes, self.writes + 1
        if number == self.at and not self.after:
            raise Killed
        yield
        if number == self.at and self.after:
            raise Killed
