"""A run, a version and a dataset as frozen values, and the names of the tags and aliases in MLflow."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokka.errors import TokkaError, UsageError
from tokka.registry.connection import Foreign

KEY = "tokka.key"
# KEY is of the candidate and its evaluation; this one is of the run that judged it, with the gate's values and all.
RUN_KEY = "tokka.run_key"
# The page of the Kubeflow run that made a version.
KFP_RUN = "tokka.kfp_run"
COMMIT = "tokka.commit"
DATA_DIGEST = "tokka.data_digest"
MODEL_DIGEST = "tokka.model_digest"
BASE_DIGEST = "tokka.base_digest"
CODE_VERSION = "tokka.code_version"
SNAPSHOT = "tokka.snapshot"
SYNTHETIC = "tokka.synthetic"
# The form that is evaluated and served (int8, fp32, torch), and the export profile that it belongs to.
FORM = "tokka.form"
PROFILE = "tokka.profile"
GATE = "tokka.gate"
# The digest of the model that served when a candidate was evaluated; `none` for nothing.
CHAMPION = "tokka.champion_digest"
OVERRIDE = "tokka.override"
REVIEW = "tokka.review"
REVIEWER = "tokka.reviewer"
REVIEW_COMMENT = "tokka.review_comment"
# Who set REVIEW, signed by an MLflow server that asks for passwords.
DECIDED_BY = "tokka.decided_by"
# Who decided, when and on what, as the record has it: a line for each, the newest first.
REVIEW_HISTORY = "tokka.review_history"
# Content digest of what a run was given to log: the same key with other content is another run.
CONTENT = "tokka.content"
# Set last, once everything is uploaded: a run without it was cut short.
LOGGED = "tokka.logged"
# The key that a run had until another run with other content took its place.
SUPERSEDED = "tokka.superseded_key"

MODEL_FOLDER = "model"
EVIDENCE_FOLDER = "evidence"

# A JSON object that an earlier step wrote: evaluation.json, provenance.json, …; its shape is that step's.
Json = Mapping[str, object]

# A metric to log: one value, or a curve of (optimizer step, value).
Figure = float | list[tuple[int, float]]


@dataclass(frozen=True)
class Dataset:
    """The data that a run learned from: a name to show, its whole content digest, where the raw rows came from."""

    name: str
    digest: str
    source: str = ""
    test_rows: int = 0


@dataclass(frozen=True)
class RunInfo:
    """One MLflow run; `status` is MLflow's own word (RUNNING, FINISHED, FAILED, KILLED)."""

    run_id: str
    status: str
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionInfo:
    """A registered version: the digest of its model folder without the signature, `created` in seconds since 1970."""

    version: str
    run_id: str = ""
    digest: str = ""
    description: str = ""
    created: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Foreign, aliases: Iterable[str]) -> "VersionInfo":
        """From MLflow's own entity, whose aliases a search does not fill."""
        tags = dict(found.tags)
        return cls(
            version=str(found.version),
            run_id=found.run_id or "",
            digest=tags.get(MODEL_DIGEST, ""),
            description=found.description or "",
            created=found.creation_timestamp / 1000,
            tags=tags,
            aliases=tuple(sorted(aliases)),
        )


def part(document: Json, name: str) -> Json:
    """The object of this name in a document; empty when there is none."""
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def rows(document: Json, name: str) -> list[Json]:
    """The objects of a list of this name in a document; empty when there is none."""
    found = document.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def number(document: Json, name: str) -> float:
    """The number of this name in a document; 0 when there is none."""
    found = document.get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def checked_key(key: str) -> str:
    """The key; TokkaError when it cannot stand in an MLflow filter as it is."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", key):
        raise TokkaError(f"{key!r} is not an idempotency key", "keys are made by tokka.provenance.run_key")
    return key


def checked_version(version: str) -> str:
    """The version; UsageError when it is no positive number."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise UsageError(f"{version!r} is not a version number", "list them with: tokka review list")
    return version
