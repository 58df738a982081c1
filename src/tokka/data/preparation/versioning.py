"""Preprocess the data of a run as a DVC stage: versioned, pushed to the remote, fetched rather than made twice.

The digest is over the rows' content. DVC knows files by md5 and does not verify its own cache, so every file of
the output is verified by sha256 before it is used.
"""

import json
import os
import shutil
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

import yaml

from tokka import files, progress, provenance
from tokka.data import rows
from tokka.data.preparation import dropped, preprocessing, stage
from tokka.data.preparation.splitting import SPLITS
from tokka.data.preparation.workspace import Workspace
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore

STEP = "preprocess"
QUARANTINE_LINES = 20


def preprocess(validated: Path, params: Params, settings: Settings, out: Path) -> dict[str, object]:
    """Prepare the folder that `validate_source` wrote, with DVC, into `out`; returns what versioning.json holds.

    Raises:
        Refused: the rows cannot be split or hold fewer than two classes.
        TokkaError: DVC failed, the remote does not take the data, or an output does not verify twice.
    """
    key, store = data_key(validated, params), StepStore(settings.home / "store")
    out.mkdir(parents=True, exist_ok=True)
    # One that was sent to another remote than is configured now is made, and sent, again.
    if store.fetch(STEP, key, into=out) and files.read_json(out / "versioning.json")["remote"] == settings.remote:
        progress.report(STEP, "the same data was prepared before", fraction=1.0)
        # The same rows may come of another file, of which other lines are left out.
        return {**files.read_json(out / "versioning.json"), "origin": "store", "dropped": _note_dropped(validated, out)}
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
    return {**result, "dropped": _note_dropped(validated, out)}


def data_key(validated: Path, params: Params) -> str:
    """The key of a preparation: params, code, environment and the bytes of its input."""
    inputs = [validated / name for name in stage.INPUTS]
    for path in inputs:
        if not path.is_file():
            raise TokkaError(f"{path} does not exist", "run `tokka stage validate_data` first")
    return provenance.step_key(STEP, params, *(files.digest_file(path) for path in inputs))


def verify(folder: Path, params: Params) -> str:
    """Compute the content digest of a prepared folder anew; TokkaError when it is not what the folder claims."""
    claimed, labels = (
        files.read_json(folder / "digest.json")["digest"],
        files.read_json(folder / "labels.json")["labels"],
    )
    splits = {name: rows.digest(rows.stream(folder / f"{name}.parquet", params.task)) for name in SPLITS}
    found = str(preprocessing.digest(splits, labels, params.task)["digest"])
    if found != claimed:
        raise TokkaError(f"{folder} has digest {found[:16]}, digest.json says {claimed[:16]}", "prepare the data again")
    return found


def _note_dropped(validated: Path, out: Path) -> dict[str, object]:
    """Write dropped.json beside the splits: what was left out on the way from the files to them."""
    place, first = validated / "validation.json", list[dict[str, object]]()
    with suppress(FileNotFoundError), (validated / "quarantine.jsonl").open(encoding="utf-8") as lines:
        first = [json.loads(line) for line in islice(lines, QUARANTINE_LINES)]
    validation = files.read_json(place) if place.is_file() else {}
    found = dropped.of(validation, files.read_json(out / "summary.json"), first)
    files.write_json(out / dropped.NAME, found)
    return found


def _reproduce(workspace: Workspace) -> Literal["computed", "fetched"]:
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


def _collect(workspace: Workspace, key: str, origin: str, params: Params, out: Path) -> dict[str, object]:
    made = workspace.folder / stage.PREPARED
    digest = verify(made, params)
    shutil.rmtree(out)
    shutil.copytree(made, out, ignore=shutil.ignore_patterns(files.MANIFEST))
    lock = (workspace.folder / "dvc.lock").read_text(encoding="utf-8")
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
