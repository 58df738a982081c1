"""A run, a version and a dataset as frozen values, and the names of the tags and aliases in MLflow."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokka.errors import TokkaError, UsageError

KEY = "tokka.key"
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
OVERRIDE = "tokka.override"
REVIEW = "tokka.review"
REVIEWER = "tokka.reviewer"
REVIEW_COMMENT = "tokka.review_comment"
REVIEW_HISTORY = "tokka.review_history"
# Content digest of what a run was given to log: the same key with other content is another run.
CONTENT = "tokka.content"
# Set last, once everything is uploaded: a run without it was cut short.
LOGGED = "tokka.logged"
# The key that a run had until another run with other content took its place.
SUPERSEDED = "tokka.superseded_key"

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"

MODEL_FOLDER = "model"
EVIDENCE_FOLDER = "evidence"

# A JSON object that an earlier step wrote: evaluation.json, provenance.json, …; its shape is that step's.
Json = Mapping[str, Any]

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
    """One version of the registered model; `digest` is that of its model folder without the signature."""

    version: str
    run_id: str
    digest: str
    description: str
    created: float
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Any, aliases: tuple[str, ...] | None = None) -> "VersionInfo":
        """From MLflow's own entity; a search does not fill its aliases, so they can be given."""
        tags = dict(found.tags)
        return cls(
            version=str(found.version),
            run_id=found.run_id or "",
            digest=tags.get(MODEL_DIGEST, ""),
            description=found.description or "",
            created=found.creation_timestamp / 1000,
            tags=tags,
            aliases=tuple(sorted(found.aliases)) if aliases is None else aliases,
        )


def checked_key(key: str) -> str:
    """The key, when it can stand in an MLflow filter as it is.

    Raises:
        TokkaError: it holds anything but letters, digits, `.`, `_` and `-`.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", key):
        raise TokkaError(f"{key!r} is not an idempotency key", "keys are made by tokka.provenance.run_key")
    return key


def checked_version(version: str) -> str:
    """The version, when it is a positive number.

    Raises:
        UsageError: it is not.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise UsageError(f"{version!r} is not a version number", "list them with: tokka review list")
    return version
