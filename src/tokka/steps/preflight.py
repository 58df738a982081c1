"""preflight: is everything reachable, writable and large enough? Fails in seconds, before anything costs.

key = preflight.run(params, snapshot="", settings=settings)
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel

from tokka import files, progress, provenance
from tokka.data.fetching import digest, source_digest
from tokka.deployment.record.record import Record
from tokka.errors import TokkaError
from tokka.evaluation.behaviour_suite import load_behaviour
from tokka.gateway.haproxy import find_haproxy
from tokka.model.base import resolve_base
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
    base = resolve_base(params.model, settings.home / "base")
    source = source_digest(params, settings, Path(snapshot) if snapshot else None)
    if params.evaluation.behaviour is not None:
        source = files.digest_json([source, digest(settings.root / params.evaluation.behaviour)])
    return provenance.run_key(params, source_digest=source, base_digest=base.digest)


def checks(params: Params, settings: Settings) -> Iterator[Check]:
    """Look at one thing after the other, cheapest first."""
    yield _check("runtime folder", lambda: _writable(settings.home))
    yield _check("disk", lambda: _disk(settings.home))
    yield _check("data", lambda: _data(params, settings))
    yield _check("behaviour tests", lambda: _behaviour(params, settings))
    yield _check("base model", lambda: _base_model(params, settings))
    yield _check("MLflow", lambda: _tracking(settings))
    yield _check("deployment record", lambda: _record(settings, params.registry.model))
    yield _check("gateway", lambda: str(find_haproxy()))


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, well=True, found=look())
    except TokkaError as error:
        return Check(name=name, well=False, found=error.message, hint=error.hint)


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


def _data(params: Params, settings: Settings) -> str:
    return f"{params.data.source} (sha256 {source_digest(params, settings)[:12]})"


def _behaviour(params: Params, settings: Settings) -> str:
    if params.evaluation.behaviour is None:
        return "none are asked for"
    tests = load_behaviour(settings.root / params.evaluation.behaviour).tests
    return f"{len(tests)} in {params.evaluation.behaviour}"


def _base_model(params: Params, settings: Settings) -> str:
    base = resolve_base(params.model, settings.home / "base")
    return f"{base.name} (digest {base.digest[:12]})"


def _tracking(settings: Settings) -> str:
    parts = urlsplit(settings.tracking_uri)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        if parts.scheme in {"http", "https"}:
            socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except OSError as error:
        hint = "start the server, or unset MLFLOW_TRACKING_URI to use SQLite in TOKKA_HOME"
        raise TokkaError(f"{settings.tracking_uri} does not answer: {error}", hint) from None
    return settings.tracking_uri


def _record(settings: Settings, endpoint: str) -> str:
    try:
        state = Record(settings.record_url).read(endpoint)
    except Exception as error:  # whatever a database driver raises, the user gets one line
        found = f"{settings.record_url} cannot be read: {' '.join(str(error).split())[:200]}"
        raise TokkaError(found, "check TOKKA_RECORD_URL") from None
    return f"{settings.record_url} (generation {state.generation})"
