"""Rollouts on a real stack with a real registry, killed where a plan says; `Crashes.run` does one and measures it.

crashes = Crashes(world); crashes.prepare()
outcome = crashes.run(Point("alias", "before", 1))
outcome.converged_s, outcome.failed
"""

import multiprocessing
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fixtures.models import make_model
from tests.fixtures.visitors import QUESTION, Answer, Visitors
from tests.fixtures.waiting import PATIENCE_S, wait_for
from tests.fixtures.world import NAME, World
from tokka import failpoints
from tokka.deployment.loop import run_rollout
from tokka.deployment.record import owner
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import State
from tokka.deployment.rollout import Rollout, through_gateway
from tokka.errors import TokkaError
from tokka.gateway.gateway import NAMES_MAP, NOBODY, SOCKET
from tokka.gateway.runtime_api import RuntimeApi
from tokka.params import Params
from tokka.registry import entities
from tokka.registry.bundle import Bundle, seal
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings
from tokka.stack import stack, workers
from tokka.stack.local_target import LocalTarget

CANARY = {
    "shadow_rows": 20, "steps": (0.3,), "step_requests": 20, "quality_margin": 0.4, "watch_s": 2.0,
    "minimum_wait_s": 0.2, "warm_up_s": 300.0, "maximum_wait_s": 300.0, "slow_ms": 5000.0, "error_margin": 1.0,
    "slow_margin": 1.0,
}  # fmt: skip
LIMIT_S = 10.0
ROLES = ("champion", "challenger", "previous")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.crash_world", "mlflow", "sqlalchemy.dialects.sqlite"])


@dataclass(frozen=True)
class Point:
    """The nth write of a kind in the rollout of a version, and the moment just before or just after it.

    Version 2 is promoted; 3 is proven worse in the shadow, and rolled back. `successor` is the moment of the next write
    to the record at which whoever makes it is killed as well: the daemon, or who goes on with a watch.
    """

    site: str
    moment: str
    number: int
    version: str = "2"
    successor: str = ""

    def __str__(self) -> str:
        return "+".join(self.plans)

    @property
    def plans(self) -> tuple[str, ...]:
        """For crash_points, one after the other."""
        first = f"{self.site}:{self.moment}:{self.number}"
        return (first, f"record:{self.successor}:1") if self.successor else (first,)


@dataclass
class Outcome:
    """What became of one killed rollout.

    reached: whether the rollout came to the point at all. converged_s: seconds from the kill until everything agreed,
    infinite when it did not within the limit. strangers: answers of a version that the record did not name then.
    """

    point: Point
    reached: bool = False
    converged_s: float = float("inf")
    differences: list[str] = field(default_factory=list)
    asked: int = 0
    failed: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    champion: str = ""


def make_models(folder: Path) -> dict[str, Path]:
    """Digest to folder: a first model, another one that answers as it does, and one that answers otherwise."""
    kinds = {"1": {"seed": 1}, "2": {"seed": 1, "temperature": 2.0}, "3": {"seed": 3}}
    return {make_model(folder / name, **kind): folder / name for name, kind in kinds.items()}


def drive(home: str, port: int, params: Params, version: str, plan: Path, said: Path) -> None:
    """A rollout in a process of its own; its verdict is written into a file."""
    os.environ[failpoints.VARIABLE] = str(plan)
    settings = Settings.from_environment({"TOKKA_HOME": home, "TOKKA_ROOT": home, "TOKKA_PORT": str(port)})
    rollout = Rollout(
        version=version, registry=Registry(settings, NAME), record=Record(settings.record_url),
        target=LocalTarget(settings, params), params=params, settings=settings, traffic=through_gateway(settings),
    )  # fmt: skip
    said.write_text(run_rollout(rollout, again=True).verdict)


class Crashes:
    """One running stack, with version 1 as champion whenever a run begins.

    Args:
        world: a home whose stack does not run yet.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.params = world.params.model_copy(update={"canary": world.params.canary.model_copy(update=CANARY)})
        self.registry = Registry(world.settings, NAME)
        self.folder = world.settings.home / "crash"
        self.plan = self.folder / "plan"
        self._plans = (self.plan, self.plan.with_name("plan.next"))
        self._generation = 0

    def prepare(self) -> None:
        """Register the versions, and start the stack, whose processes look at the plan as well."""
        self.folder.mkdir(parents=True)
        self.world.install("1")
        with _plan_in_environment(self.plan):
            self.world.up()
        self._register()
        self.reset()
        self.world.wait(lambda: not self.differences())

    def run(self, point: Point, linger_s: float = 0.0, limit_s: float = LIMIT_S, requests: int = 0) -> Outcome:
        """Roll out, be killed, wait until everything agrees and `linger_s` longer, and put version 1 back.

        Args:
            requests: at the least so many are asked meanwhile.
        """
        outcome = Outcome(point)
        done = self.plan.with_name(f"{self.plan.name}.done")
        done.unlink(missing_ok=True)
        with Visitors(self.world.url, self._generation_in_force) as visitors:
            # The next one first: it may be needed as soon as there is one.
            for path, plan in reversed(list(zip(self._plans, point.plans, strict=False))):
                path.write_text(plan)
            driver = self.start(point.version)
            self._wait_until_killed(driver)
            outcome.reached = self._is_consumed()
            for path in self._plans:
                path.unlink(missing_ok=True)
            killed = done.stat().st_ctime if outcome.reached else time.time()
            while (found := self.differences()) and time.time() < killed + limit_s:
                time.sleep(0.05)
            outcome.differences = found
            outcome.converged_s = float("inf") if found else time.time() - killed
            time.sleep(linger_s)
            # A driver that lives goes on to its end.
            driver.join(PATIENCE_S)
            outcome.champion = self.state.champion.version
            wait_for(lambda: len(visitors.answers) >= requests, what="requests")
        self._judge(outcome, visitors.answers)
        self.reset()
        return outcome

    def start(self, version: str, *, watch_s: float = CANARY["watch_s"], said: Path | None = None) -> Any:
        """A driver in a process of its own."""
        settings = self.world.settings
        canary = self.params.canary.model_copy(update={"watch_s": watch_s})
        params = self.params.model_copy(update={"canary": canary})
        facts = (str(settings.home), settings.port, params, version, self.plan, said or self.folder / "verdict")
        driver = FORKS.Process(target=drive, args=facts, daemon=True)
        driver.start()
        return driver

    @property
    def state(self) -> State:
        return self.world.record.read(NAME)

    def differences(self) -> list[str]:
        """What does not agree: record, aliases, the gateway's maps and slots, and the workers; empty once all do."""
        try:
            state, aliases = self.state, self.registry.aliases()
            info = self.world.info()
            api = RuntimeApi(self.world.settings.home / "stack", SOCKET)
            names, slots = api.map(NAMES_MAP), api.slots()
        except (TokkaError, AssertionError) as error:
            return [repr(error)]
        named = {role: getattr(state, role) for role in ROLES if getattr(state, role)}
        keys = {role: workers.key(named[role]) if role in named else NOBODY for role in ROLES[:2]}
        ports = {slot.port for slot in slots if slot.backend == "champion" and slot.enabled and slot.running}
        running = sorted((one.version, one.state) for one in info.workers)
        count = self.world.params.serving.workers
        wanted = sorted((one.version, "ready") for one in named.values() for _ in range(count))
        beliefs = {
            "owner": (state.phase != "idle" and owner.is_dead(state), False),
            "aliases": (aliases, {role: one.version for role, one in named.items()}),
            "map": (names, {**keys, "rollout": state.rollout or NOBODY, "share": f"{state.share:.4f}"}),
            "generation": (info.generation, state.generation),
            "slots": (ports, {one.port for one in info.workers if one.version == state.champion.version}),
            "workers": (running, wanted),
        }
        return [f"{name}: {found} instead of {hoped}" for name, (found, hoped) in beliefs.items() if found != hoped]

    def reset(self) -> None:
        """Version 1 serves alone, and everything agrees on it."""
        one = self.world.revisions["1"]
        self.world.change(champion=one, previous=None, challenger=None, share=0.0, phase="idle")
        self.world.wait(lambda: not self.differences())

    def _wait_until_killed(self, driver: Any) -> None:
        """Until all were killed, or nobody will be: some writes come after the driver's end, until all agree."""
        wait_for(lambda: self._is_consumed() or not (driver.is_alive() or self.differences()), 2 * PATIENCE_S)

    def _is_consumed(self) -> bool:
        """Whether somebody has died of every plan; the next one becomes the first by a rename."""
        return not any(path.exists() for path in self._plans[::-1])

    def _generation_in_force(self) -> int:
        """The record's generation that the daemon has put into force, as it said last."""
        info = stack.status(self.world.settings)
        self._generation = info.generation if info else self._generation
        return self._generation

    def _judge(self, outcome: Outcome, answers: list[Answer]) -> None:
        history = self.world.record.history(NAME, 1000)[::-1]
        assert [entry["generation"] for entry in history] == list(range(1, len(history) + 1))
        assert all(entry["champion"] for entry in history), "nobody served"
        outcome.asked = len(answers)
        outcome.failed = [answer.error for answer in answers if answer.error]
        outcome.strangers = [
            f"{answer.version} instead of {sorted(named)}"
            for answer in answers
            if not answer.error and answer.version not in (named := _named(history, answer))
        ]

    def _register(self) -> None:
        """What version 1 says is the truth: version 2 says the same, version 3 does not."""
        texts = [{"text": f"{QUESTION} number {number}"} for number in range(60)]
        answers = self.world.target.infer(self.world.revisions["1"].digest, texts)
        rows = [{**row, "target": one.label} for row, one in zip(texts, answers, strict=True)]
        evidence = self.folder / "evidence"
        evidence.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), evidence / "replay.parquet")
        self.registry.prepare()
        for version, revision in self.world.revisions.items():
            tags = {entities.MODEL_DIGEST: revision.digest, entities.GATE: "pass", entities.REVIEW: "automatic"}
            run_id = self.registry.log_run(
                f"key-{version}", params={}, metrics={}, tags=tags, folder_evidence=evidence,
                folder_model=self.world.settings.home / "models" / revision.digest,
                dataset=entities.Dataset("crash", "0" * 64),
            )  # fmt: skip
            assert self.registry.register(run_id, description="", tags=tags) == version
            bundle = Bundle(model=NAME, version=version, run_id=run_id, model_digest=revision.digest, verdict="pass")
            sealed = seal(bundle, self.world.settings)
            Evidence(self.world.record, NAME).keep(version, revision.digest, sealed)


def _named(history: list[dict[str, Any]], answer: Answer) -> set[str]:
    """The versions that the record named from what was in force when a request was sent until it was answered."""
    states = [entry for entry in history if entry["generation"] >= answer.mark and entry["updated"] <= answer.came]
    return {
        entry[role]["version"] for entry in states for role in ("champion", "challenger", "previous") if entry[role]
    }


@contextmanager
def _plan_in_environment(plan: Path):
    # This process has passed a crash point already, without a plan: it is nobody's victim.
    os.environ[failpoints.VARIABLE] = str(plan)
    try:
        yield
    finally:
        del os.environ[failpoints.VARIABLE]
