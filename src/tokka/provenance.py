"""What made a version: the digests that identify code, base model and data, and the key over them all.

A commit that edits only the README changes the commit id, which is recorded beside the key, and not the key.
"""

import functools
import getpass
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from tokka import files
from tokka.files import JsonObject, Tree
from tokka.params import Params

# Sections that decide what a step computes: a step's key covers its own and those of the steps before it.
STEP_SECTIONS = {
    "validate_data": ("task", "data", "validation"),
    "preprocess": ("task", "data", "preprocessing"),
    # The weights, and the model folder with its exported forms.
    "training": ("task", "data", "preprocessing", "model", "adaptation", "finetuning"),
    "finetune": ("task", "data", "preprocessing", "model", "adaptation", "finetuning", "export"),
    # And what `step_params` adds: of the gate and the registry it needs a few values.
    "evaluate": (
        "task",
        "data",
        "validation",
        "preprocessing",
        "model",
        "adaptation",
        "finetuning",
        "export",
        "evaluation",
    ),
}
# The code that a step runs: a change elsewhere in the package does not make its output stale.
STEP_CODE = {
    "validate_data": ("data",),
    "preprocess": ("data",),
    "training": ("data", "model", "training"),
    "finetune": ("data", "model", "training"),
    "evaluate": ("data", "model", "training", "evaluation", "registry"),
}
# Of other sections than its own: which metric is compared at which error rate, and what the model is called.
EVALUATED_BY = {"gate": {"metric", "alpha", "must_beat"}, "registry": {"model"}}
# Steps that are given rows, and never read where these came from.
GIVEN_ROWS = ("preprocess", "finetune")
LIBRARIES = ("torch", "transformers", "lightning", "pyarrow", "great-expectations", "scikit-learn", "onnxruntime")


@functools.cache
def code_version(*folders: str) -> str:
    """A digest of the package's own source: all of it, or the named sub-packages."""
    root = Path(__file__).parent
    paths = sorted(path for name in folders or (".",) for path in (root / name).rglob("*.py"))
    return files.digest_json({path.relative_to(root).as_posix(): files.digest_file(path) for path in paths})[:16]


@functools.cache
def environment_versions() -> dict[str, str]:
    """Exact versions of what computes, since the same source on another torch gives other weights."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def params_digest(params: Params, sections: tuple[str, ...] = ()) -> str:
    """A digest of the named sections (default all); where the data lies counts by content, not by path."""
    # Who starts a run, and who is told of it, makes no other run of it.
    tree = params.model_dump(mode="json", include=set(sections) or None, exclude={"notifications", "triggers"})
    for name in ("source", "validation", "test"):
        tree.get("data", {}).pop(name, None)
    if "adaptation" in tree:
        # Without practice its other values decide nothing.
        none = params.adaptation.method == "none"
        tree["adaptation"] = {"method": "none"} if none else {**tree["adaptation"], "source": None}
    return files.digest_json(tree)


def step_key(step: str, params: Params, *inputs: str) -> str:
    """The key of one compute step: its parameters, its code, its environment and the digests of its inputs."""
    code = code_version(*STEP_CODE[step])
    parts = [step, params_digest(params, STEP_SECTIONS[step]), code, environment_versions(), *inputs]
    return files.digest_json(parts)[:32]


def author() -> str:
    """Who started the run: TOKKA_AUTHOR, or the account on this machine; empty where neither is known."""
    try:
        return os.environ.get("TOKKA_AUTHOR", "").strip() or getpass.getuser()
    except (KeyError, OSError):
        return ""


def step_params(step: str, params: Params) -> JsonObject:
    """A cached step's own sections of the params, as a tree that `parse_params` reads."""
    kept = dict.fromkeys(STEP_SECTIONS[step], True) | (EVALUATED_BY if step == "evaluate" else {})
    tree: JsonObject = params.model_dump(mode="json", exclude_none=True, include=kept)
    if step in GIVEN_ROWS:
        tree["data"] = {name: value for name, value in tree["data"].items() if name != "source"}
    return tree


def step_code(step: str) -> str:
    """The version of the code that a step runs, and of the libraries below it; empty when the source is not there."""
    code = code_version(*STEP_CODE[step])
    return files.digest_json([code, environment_versions()])[:16] if code else ""


def run_key(params: Params, *, source_digest: str, base_digest: str) -> str:
    """The idempotency key of a whole run, 32 hexadecimal digits."""
    parts = [params_digest(params), code_version(), environment_versions(), source_digest, base_digest]
    return files.digest_json(parts)[:32]


def as_trained(params: Params, precision: str) -> Params:
    """The params with what `precision: auto` chose in its place, since another timing might choose otherwise.

    `precision`: of tokka.json or the lineage; empty for a model that was not trained here.
    """
    if not precision:
        return params
    finetuning = params.finetuning.model_copy(update={"precision": precision})
    return params.model_copy(update={"finetuning": finetuning})


def on_one_machine(params: Params) -> Params:
    """The params with `finetuning.nodes: 1`: for what is trained beside the model that is to be made."""
    return params.model_copy(update={"finetuning": params.finetuning.model_copy(update={"nodes": 1})})


def git_commit(root: Path) -> str:
    """The commit of the project's checkout, with `-dirty` when files differ; empty outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("-dirty" if commit and git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""


# Of a submission: where it is found, how it is called, and what to do where it is another one.
SUBMITTED = (
    ("key", "key of the submission", "submit from the commit that the image is built of, with the same libraries"),
    ("source", "data of the submission", "the rows have changed since, and the new ones are trained on"),
)


class Compared(NamedTuple):
    """One thing that was submitted: what it is called, whether it is the same here, in words, and what to do if not."""

    name: str
    well: bool
    found: str
    hint: str


def as_submitted(submitted: Mapping[str, str], here: Tree) -> Iterator[Compared]:
    """Whether what was submitted is what is found here: told, since what is here decides."""
    for place, name, hint in SUBMITTED:
        if wanted := submitted.get(place, ""):
            same, other = wanted == here[place], here[place][:12]
            found = f"{wanted[:12]}, as submitted" if same else f"{wanted[:12]} was submitted, here it is {other}"
            yield Compared(name, same, found, "" if same else hint)
