"""Preprocess the data of a run as a DVC stage: versioned, pushed to the remote, fetched rather than made twice.

    result = preprocess(validated, params, settings, out)
    result["digest"], result["lock"], result["origin"]     # computed | fetched | store

The digest is over the rows' content. DVC knows files by md5 and does not verify its own cache, so every file of
the output is verified by sha256 before it is used.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Literal

import yaml

from tokka import files, progress, provenance
from tokka.data import rows
from tokka.data.preparation import prepared, preprocessing, stage
from tokka.data.preparation.splitting import SPLITS
from tokka.data.preparation.workspace import Workspace
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore

STEP = "preprocess"
Origin = Literal["computed", "fetched"]


def preprocess(validated: Path, params: Params, settings: Settings, out: Path) -> dict[str, Any]:
    """Prepare the folder that `validate_source` wrote, with DVC, into `out`.

    Returns:
        digest, splits (their digests), summary, lock (text of dvc.lock), dvc_md5 (of the output folder), remote,
        origin, key, environment. `out` holds the prepared data, dvc.lock and versioning.json.

    Raises:
        Refused: the rows cannot be split or hold fewer than two classes.
        TokkaError: DVC failed, the remote does not take the data, or an output does not verify twice.
    """
    key, store = data_key(validated, params), StepStore(settings.home / "store")
    out.mkdir(parents=True, exist_ok=True)
    # One that was sent to another remote than is configured now is made, and sent, again.
    if store.fetch(STEP, key, into=out) and files.read_json(out / "versioning.json")["remote"] == settings.remote:
        progress.report(STEP, "the same data was prepared before", fraction=1.0)
        return {**files.read_json(out / "versioning.json"), "origin": "store"}
    workspaces = settings.home / "workspaces"
    with files.locked(workspaces / f"{key}.lock"):
        # A folder of its own: children of a killed run may still be writing into theirs.
        for stale in workspaces.glob(f"{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        workspace = Workspace(workspaces / f"{key}-{os.getpid()}", settings)
        workspace.make(validated, params, provenance.environment_versions() | {"code": provenance.code_version("data")})
        origin = _reproduce(workspace)
        progress.report(STEP, f"pushing to {settings.remote}")
        workspace.push()
        result = _collect(workspace, key, origin, params, out)
        shutil.rmtree(workspace.folder)
    store.save(STEP, key, out)
    return result


def data_key(validated: Path, params: Params) -> str:
    """The key of a preparation: params, code, environment and the bytes of its input."""
    inputs = [validated / name for name in ("rows.parquet", "test.parquet")]
    for path in inputs:
        if not path.is_file():
            raise TokkaError(f"{path} does not exist", "run `tokka stage validate_data` first")
    return provenance.step_key(STEP, params, *(files.digest_file(path) for path in inputs))


def verify(folder: Path, params: Params) -> str:
    """Compute the content digest of a prepared folder anew and compare it with what it claims.

    Raises:
        TokkaError: they differ.
    """
    data = prepared.load(folder)
    splits = {name: rows.from_table(data.split(name), params.task) for name in SPLITS}
    found = str(preprocessing.digest(splits, list(data.labels), params.task)["digest"])
    if found != data.digest:
        raise TokkaError(
            f"{folder} has digest {found[:16]}, digest.json says {data.digest[:16]}", "prepare the data again"
        )
    return found


def _reproduce(workspace: Workspace) -> Origin:
    progress.report(STEP, "asking the DVC remote")
    known = workspace.fetch_runs()
    computed = workspace.reproduce("--pull") if known else workspace.reproduce()
    try:
        files.verify(workspace.folder / stage.PREPARED)
    except TokkaError as error:
        # A cache or a remote gave changed bytes: none of them is used.
        progress.report(STEP, f"{error.message}: made again")
        workspace.forget_cache()
        computed = workspace.reproduce("--force", "--no-run-cache")
        files.verify(workspace.folder / stage.PREPARED)
    return "computed" if computed else "fetched"


def _collect(workspace: Workspace, key: str, origin: Origin, params: Params, out: Path) -> dict[str, Any]:
    made = workspace.folder / stage.PREPARED
    digest = verify(made, params)
    shutil.rmtree(out)
    shutil.copytree(made, out, ignore=shutil.ignore_patterns(files.MANIFEST))
    lock = workspace.lock_text()
    files.write_text(out / "dvc.lock", lock)
    result = {
        "digest": digest,
        "splits": files.read_json(out / "digest.json")["splits"],
        "summary": files.read_json(out / "summary.json"),
        "lock": lock,
        "dvc_md5": str(yaml.safe_load(lock)["stages"][STEP]["outs"][0]["md5"]),
        "remote": workspace.settings.remote,
        "origin": origin,
        "key": key,
        "environment": files.read_json(workspace.folder / "environment.json"),
    }
    files.write_json(out / "versioning.json", result)
    return result
