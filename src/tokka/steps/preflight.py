"""preflight: is everything reachable, writable and large enough? Fails in seconds, before anything costs."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from tokka import files, progress, provenance
from tokka.data.fetching import digest, fetch_snapshot, source_digest
from tokka.database import PATIENCE_S
from tokka.deployment import surroundings
from tokka.deployment.record import leases
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.deployment.record.record import Record
from tokka.deployment.remote import target_of
from tokka.errors import TokkaError
from tokka.evaluation.behaviour_suite import load_behaviour
from tokka.files import JsonObject, Tree
from tokka.gateway.haproxy import find_haproxy
from tokka.model.base import resolve_base
from tokka.notifications import addresses
from tokka.objects import is_remote
from tokka.params import Params, differences, from_form, parse_params, written
from tokka.registry.signing import check_public
from tokka.settings import Settings
from tokka.steps.gate import recalled
from tokka.steps.refuse import ENDPOINT, data_key
from tokka.training.setup.readable import readable

REQUIRED_FREE_BYTES = 2_000_000_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0


class Check(BaseModel):
    """One thing that was looked at; `hint` says what to do when it is not well."""

    name: str
    well: bool
    found: str
    hint: str = ""


class Plan(BaseModel):
    """What the later tasks of a run are told.

    verdict: new, made (the key has nothing left to do), or refused (the same key was refused before); reasons: why, and
    which version that was. inputs: for each cached step what its result follows from, and nothing else.
    """

    verdict: str
    key: str
    reasons: str
    made: JsonObject
    params: JsonObject
    inputs: dict[str, JsonObject]


def start(
    fields: Mapping[str, object], overrides: Mapping[str, object], settings: Settings, snapshot: str, job: str,
    page: Path, submitted: Mapping[str, str] | None = None, *, claims: bool = True,
) -> Plan:  # fmt: skip
    """Compose what a form and `overrides` say, plan the run, and write the page. Raises what `compose` and `run` do.

    `submitted`: key and digest of the rows (`source`) where the run was submitted; what differs here is said.
    """
    from tokka.evaluation.report.pages import preflight_page

    with progress.step("preflight"):
        params = from_form(settings.root, fields, overrides)
        looked_at = examine(params, settings)
        snapshot = snapshot or champion_snapshot(params, settings)
        found = plan(params, settings, snapshot, job, claims=claims)
        here = {**found.inputs["validate_data"], "key": found.key}
        for one in provenance.as_submitted(submitted or {}, here):
            looked_at.append(Check(**one._asdict()))
            if not one.well:
                progress.report("preflight", f"{one.name}: {one.found}; {one.hint}")
        progress.result("preflight", key=found.key, snapshot=snapshot, made=found.made)
        shown = {**found.model_dump(), "params": params.model_dump(mode="json", exclude_none=True)}
        files.write_text(page, preflight_page(shown, [check.model_dump() for check in looked_at]))
    return found


def champion_snapshot(params: Params, settings: Settings) -> str:
    """The labelled feedback that the champion was trained with, so that no later run forgets it."""
    champion = Record(settings.record_url).read(params.registry.model).champion
    return champion.snapshot if champion else ""


def plan(params: Params, settings: Settings, snapshot: str, job: str, *, claims: bool = True) -> Plan:
    """Say what each later task needs; `job` differs from run to run. TokkaError when something cannot be read.

    With `claims` the run claims its key, and learns what the same one has made before.
    """
    found = key(params, settings, snapshot)
    facts = known_facts(params, settings, snapshot)
    data = data_key(step_inputs(params, facts, job)["validate_data"])
    record = Record(settings.record_url, patience_s=PATIENCE_S)
    # What fails from here on leaves the key to whoever waits for it.
    with leases.kept(settings):
        refused, made = Claims(record).result(data), dict[str, object]()
        if refused is None and claims:
            made = claimed(found, settings, settings.job or job)
        verdict, reasons = recalled(refused or made)
        if settings.job and claims:
            Attempts(record).name(settings.job, found)
        if verdict != "new" and claims:
            outcome = "refused" if verdict == "refused" else "promoted"
            Attempts(record).finish(params.registry.model, outcome, settings.job, found)
        # Only now: whoever was waited for may have made another one champion.
        champion = record.read(params.registry.model).champion
        facts["champion"] = f"{champion.version} {champion.digest}" if champion else ""
        inputs, tree = step_inputs(params, facts, job), written(params)
        inputs["validate_data"] |= {ENDPOINT: params.registry.model}
        return Plan(verdict=verdict, key=found, reasons=reasons, made=made, params=tree, inputs=inputs)


def known_facts(params: Params, settings: Settings, snapshot: str) -> JsonObject:
    """What the inputs of the cached steps are made of, without the champion."""
    from tokka.data.preparation.unlabelled import unlabelled_digest

    return {
        "source": rows_digest(params, settings, snapshot),
        "practice": unlabelled_digest(params, settings),
        "base": resolve_base(params.model, settings.home / "base").digest,
        "champion": "",
        "key": evaluation_key(params, settings, snapshot),
        "snapshot": snapshot,
    }


# Of the facts that preflight finds, those that a step's result follows from; what made its input artifacts is told by
# their digests, since Kubeflow's cache knows artifacts by name alone.
STEP_FACTS = {
    "validate_data": ("source", "snapshot"),
    "preprocess": ("source",),
    "finetune": ("base", "practice"),
    "evaluate": ("champion", "key", "snapshot", "source"),
}


def rows_digest(params: Params, settings: Settings, snapshot: str) -> str:
    """The digest of all that validate_data reads, by the sections that it is given: practice is none of it."""
    own = parse_params(provenance.step_params("validate_data", params))
    return source_digest(own, settings, fetch_snapshot(snapshot, params, settings))


def step_inputs(params: Params, facts: Tree, job: str) -> dict[str, JsonObject]:
    """For each cached step its own sections of the params, its facts, and the version of its code.

    Without a version nobody can say that the code is the same: then the run's own `job` stands in its place.
    """
    return {
        step: {
            **step_sections(step, params),
            "code": provenance.step_code(step) or job,
            **{name: facts[name] for name in names},
        }
        for step, names in STEP_FACTS.items()
    }


def step_sections(step: str, params: Params) -> JsonObject:
    """What a step's own sections say beyond their defaults, and the digest of those: other ones are other inputs."""
    own, defaults = (provenance.step_params(step, one) for one in (params, Params()))
    return {"params": differences(own, defaults), "defaults": files.digest_json(defaults)[:16]}


def evaluation_key(params: Params, settings: Settings, snapshot: str = "") -> str:
    """The key of a candidate and its evaluation: what comes after, such as the gate's margins, does not count."""
    return key(parse_params(provenance.step_params("evaluate", params)), settings, snapshot)


@progress.step("preflight")
def run(params: Params, settings: Settings, snapshot: str = "", job: str = "") -> JsonObject:
    """Check everything, and claim the run's idempotency key for `job` (TOKKA_JOB, where that is set).

    Returns:
        key, and made: what another job has made of the same key, waited for if it is still at it; empty for whoever is
        to make it.

    TokkaError for the first thing that is not as it must be.
    """
    examine(params, settings)
    found = key(params, settings, snapshot)
    outcome: JsonObject = {"key": found, "snapshot": snapshot, "made": claimed(found, settings, settings.job or job)}
    progress.result("preflight", **outcome)
    return outcome


def claimed(key: str, settings: Settings, job: str) -> JsonObject:
    """What came of a key, or nothing once `job` may begin with it; waits while another job works on it."""
    if not job:
        return {}
    record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
    claims, pause = Claims(record), FIRST_PAUSE_S
    # Whoever waits lives: its attempt, begun before, would else count as given up.
    with leases.kept(settings):
        while True:
            answer, result = claims.take(key, job, leases.holder(settings))
            if answer != "wait":
                return result if answer == "made" else {}
            progress.report("preflight", f"another run works on the same key {key[:12]}: waiting for what it makes")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def examine(params: Params, settings: Settings) -> list[Check]:
    """Everything that was looked at; TokkaError for the first thing that is not as it must be."""
    looked_at = []
    for check in checks(params, settings):
        if not check.well:
            raise TokkaError(f"{check.name}: {check.found}", check.hint)
        looked_at.append(check)
    return looked_at


def key(params: Params, settings: Settings, snapshot: str = "") -> str:
    """The idempotency key: code, params, base model and data, as content.

    TokkaError when the data or the base model cannot be read.
    """
    base = resolve_base(params.model, settings.home / "base")
    source = source_digest(params, settings, fetch_snapshot(snapshot, params, settings))
    if params.evaluation.behaviour is not None:
        source = files.digest_json([source, digest(settings.root / params.evaluation.behaviour)])
    return provenance.run_key(params, source_digest=source, base_digest=base.digest)


def checks(params: Params, settings: Settings) -> Iterator[Check]:
    """Look at one thing after the other, cheapest first."""
    yield _check("settings", lambda: surroundings.places(params, settings))
    yield _check("runtime folder", lambda: _writable(settings.home))
    yield _check("disk", lambda: _disk(settings.home))
    yield _check("data", lambda: f"{params.data.source} (sha256 {source_digest(params, settings)[:12]})")
    yield _check("behaviour tests", lambda: _behaviour(params, settings))
    yield _check("notifications", lambda: addresses.check(params.notifications, settings))
    yield _check("base model", lambda: _base_model(params, settings))
    yield _check("tokenizer", lambda: readable(params, settings))
    yield _check("MLflow", lambda: surroundings.tracking(settings))
    yield _check("deployment record", lambda: surroundings.record(settings, params.registry.model))
    if params.finetuning.nodes > 1:
        yield _check("machines of the training", lambda: surroundings.nodes(params.finetuning, settings))
    if settings.in_pod:
        yield _check("public key", lambda: check_public(settings))
    for name, address in (("DVC remote", settings.remote), ("archive", settings.archive)):
        if is_remote(address):
            yield _check(name, partial(surroundings.storage, address, settings.home))
    yield _check("gateway", lambda: _gateway(params, settings))


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, well=True, found=look())
    except (TokkaError, OSError) as error:
        said = files.unreadable(error) if isinstance(error, OSError) else error
        return Check(name=name, well=False, found=said.message, hint=said.hint)


def _gateway(params: Params, settings: Settings) -> str:
    here = target_of(params.deployment, in_pod=settings.in_pod) == "local"
    return str(find_haproxy()) if here else "the cluster's own"


def _writable(home: Path) -> str:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return str(home)
    except OSError as error:
        raise TokkaError(f"{home} cannot be written: {error.strerror}", "set TOKKA_HOME to a folder of yours") from None


def _disk(home: Path) -> str:
    free, needed = shutil.disk_usage(home).free, int(os.environ.get("TOKKA_MINIMUM_FREE_BYTES", REQUIRED_FREE_BYTES))
    found = f"{free / 1e9:.1f} GB free at {home}, {needed / 1e9:.1f} GB needed"
    if free < needed:
        raise TokkaError(found, "free some space, or set TOKKA_HOME to another disk")
    return found


def _behaviour(params: Params, settings: Settings) -> str:
    if params.evaluation.behaviour is None:
        return "none are asked for"
    tests = load_behaviour(settings.root / params.evaluation.behaviour).tests
    return f"{len(tests)} in {params.evaluation.behaviour}"


def _base_model(params: Params, settings: Settings) -> str:
    base = resolve_base(params.model, settings.home / "base")
    return f"{base.name} (digest {base.digest[:12]})"
