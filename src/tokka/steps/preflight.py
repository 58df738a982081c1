"""preflight: is everything reachable, writable and large enough? Fails in seconds, before anything costs.

key = preflight.run(params, snapshot="", settings=settings)
"""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

from tokka import files, progress, provenance
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings

REQUIRED_FREE_BYTES = 2_000_000_000


class Check(BaseModel):
    """One thing that was looked at; `hint` says what to do when it is not well."""

    name: str
    well: bool
    found: str
    hint: str = ""


def run(params: Params, settings: Settings, snapshot: str = "") -> str:
    """Check everything and return the idempotency key of the run.

    Raises:
        TokkaError: the first thing that is not as it must be.
    """
    with progress.step("preflight"):
        for check in checks(params, settings):
            if not check.well:
                raise TokkaError(f"{check.name}: {check.found}", check.hint)
        found = key(params, settings, snapshot)
        progress.result("preflight", key=found, snapshot=snapshot)
        return found


def key(params: Params, settings: Settings, snapshot: str = "") -> str:
    """The idempotency key: code, params, base model and data, as content.

    Raises:
        TokkaError: the data or the base model cannot be read.
    """
    from tokka.data.fetching import digest, source_digest
    from tokka.model.base import resolve_base

    base = resolve_base(params.model, settings.home / "base")
    source = source_digest(params, settings, Path(snapshot) if snapshot else None)
    if params.evaluation.behaviour is not None:
        source = files.digest_json([source, digest(settings.root / params.evaluation.behaviour)])
    return provenance.run_key(params, source_digest=source, base_digest=base.digest)


def checks(params: Params, settings: Settings) -> Iterator[Check]:
    """Look at one thing after the other, cheapest first."""
    yield _writable(settings.home)
    yield _disk(settings.home)
    yield _data(params, settings)
    yield _behaviour(params, settings)
    yield _base_model(params, settings)
    yield _tracking(settings)
    yield _record(settings, params.registry.model)
    yield _gateway_program()


def _writable(home: Path) -> Check:
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        found = f"{home} cannot be written: {error.strerror}"
        return Check(name="runtime folder", well=False, found=found, hint="set TOKKA_HOME to a folder of yours")
    return Check(name="runtime folder", well=True, found=str(home))


def _disk(home: Path) -> Check:
    free, needed = shutil.disk_usage(home).free, int(os.environ.get("TOKKA_MINIMUM_FREE_BYTES", REQUIRED_FREE_BYTES))
    found = f"{free / 1e9:.1f} GB free at {home}, {needed / 1e9:.1f} GB needed"
    return Check(
        name="disk", well=free >= needed, found=found, hint="free some space, or set TOKKA_HOME to another disk"
    )


def _data(params: Params, settings: Settings) -> Check:
    from tokka.data.fetching import source_digest

    try:
        digest = source_digest(params, settings)
    except TokkaError as error:
        return Check(name="data", well=False, found=error.message, hint=error.hint)
    return Check(name="data", well=True, found=f"{params.data.source} (sha256 {digest[:12]})")


def _behaviour(params: Params, settings: Settings) -> Check:
    from tokka.evaluation.behaviour_suite import load_behaviour

    if params.evaluation.behaviour is None:
        return Check(name="behaviour tests", well=True, found="none are asked for")
    try:
        tests = load_behaviour(settings.root / params.evaluation.behaviour).tests
    except TokkaError as error:
        return Check(name="behaviour tests", well=False, found=error.message, hint=error.hint)
    return Check(name="behaviour tests", well=True, found=f"{len(tests)} in {params.evaluation.behaviour}")


def _base_model(params: Params, settings: Settings) -> Check:
    from tokka.model.base import resolve_base

    try:
        base = resolve_base(params.model, settings.home / "base")
    except TokkaError as error:
        return Check(name="base model", well=False, found=error.message, hint=error.hint)
    return Check(name="base model", well=True, found=f"{base.name} (digest {base.digest[:12]})")


def _tracking(settings: Settings) -> Check:
    parts = urlsplit(settings.tracking_uri)
    hint = "start the server, or unset MLFLOW_TRACKING_URI to use SQLite in TOKKA_HOME"
    if parts.scheme not in {"http", "https"}:
        return Check(name="MLflow", well=True, found=settings.tracking_uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            return Check(name="MLflow", well=True, found=settings.tracking_uri)
    except OSError as error:
        found = f"{settings.tracking_uri} does not answer: {error}"
        return Check(name="MLflow", well=False, found=found, hint=hint)


def _record(settings: Settings, endpoint: str) -> Check:
    from tokka.deployment.record.record import Record

    try:
        state = Record(settings.record_url).read(endpoint)
    except Exception as error:  # whatever a database driver raises, the user gets one line
        found = f"{settings.record_url} cannot be read: {' '.join(str(error).split())[:200]}"
        return Check(name="deployment record", well=False, found=found, hint="check TOKKA_RECORD_URL")
    return Check(name="deployment record", well=True, found=f"{settings.record_url} (generation {state.generation})")


def _gateway_program() -> Check:
    from tokka.gateway.haproxy import find_haproxy

    try:
        return Check(name="gateway", well=True, found=str(find_haproxy()))
    except TokkaError as error:
        return Check(name="gateway", well=False, found=error.message, hint=error.hint)
