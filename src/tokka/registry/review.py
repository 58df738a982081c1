"""Has somebody approved this version? The rule is pure; what it looks at are tags that people can set.

    review_version("3", params, settings)                            # "approved", "refused" or "waiting"
    approve("3", "ana@example.org", "looked at the slices", params, settings)

Shown and done by `tokka review list|show|approve|refuse`, and in MLflow's own page by setting the same tags.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from tokka.errors import Refused, UsageError
from tokka.params import Params
from tokka.registry import entities
from tokka.registry.entities import VersionInfo
from tokka.registry.mlflow_client import Registry
from tokka.settings import Settings

Verdict = Literal["approved", "refused", "waiting"]


def decide_review(mode: str, tags: Mapping[str, str]) -> Verdict:
    """What a version's tags say under `registry.review` = mode.

    A refusal by a person always holds. A version that no gate let through, and no override either, is refused.
    An approval needs its reviewer's name; any other word than `approved` is no approval.
    """
    review = tags.get(entities.REVIEW, "").strip()
    if review == "refused" or not was_admitted(tags):
        return "refused"
    if mode == "automatic":
        return "approved"
    return "approved" if review == "approved" and tags.get(entities.REVIEWER, "").strip() else "waiting"


def was_admitted(tags: Mapping[str, str]) -> bool:
    """The gate passed it, or somebody let it past the gate and said why."""
    return tags.get(entities.GATE) == "pass" or bool(tags.get(entities.OVERRIDE, "").strip())


def review_version(version: str, params: Params, settings: Settings) -> Verdict:
    """The verdict on one version now.

    Raises:
        TokkaError: there is no such version, or MLflow does not answer.
    """
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    return decide_review(params.registry.review, registry.version(version).tags)


def list_versions(params: Params, settings: Settings) -> list[dict[str, Any]]:
    """Every version, newest first: number, verdict, gate, reviewer, aliases, time, digest."""
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    return [_line(version, params) for version in registry.versions()]


def show_version(version: str, params: Params, settings: Settings) -> dict[str, Any]:
    """One version with its card, tags and the history of its reviews."""
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    found = registry.version(version)
    return {**asdict(found), **_line(found, params), "reviews": _history(found.tags)}


def approve(version: str, reviewer: str, comment: str, params: Params, settings: Settings) -> None:
    """Record a person's approval.

    Raises:
        Refused: no gate ever judged this version, or it refused it and nobody gave a reason to override that.
        UsageError: no reviewer's name; no comment although the gate refused the version or a person did.
    """
    _record("approved", version, reviewer, comment, params, settings)


def refuse(version: str, reviewer: str, comment: str, params: Params, settings: Settings) -> None:
    """Record a person's refusal; it stops rollouts that have not begun, not one that is under way.

    Raises:
        UsageError: no reviewer's name or no comment.
    """
    _record("refused", version, reviewer, comment, params, settings)


def _record(verdict: Verdict, version: str, reviewer: str, comment: str, params: Params, settings: Settings) -> None:
    registry = Registry(settings, params.registry.model)
    registry.prepare()
    tags = registry.version(version).tags
    if verdict == "approved" and not was_admitted(tags):
        raise Refused(
            f"version {version} of {registry.model} was never passed by the gate",
            "run the pipeline, or register it with a reason to override the gate",
        )
    against = verdict == "refused" or tags.get(entities.GATE) != "pass" or tags.get(entities.REVIEW) == "refused"
    _require_words(verdict, reviewer, comment if against else comment or "none")
    entry = {"verdict": verdict, "reviewer": reviewer.strip(), "comment": comment.strip(), "time": time.time()}
    registry.tag_version(
        version,
        {
            # The verdict last: a crash in between leaves the old one, never a verdict without its name.
            entities.REVIEW_HISTORY: json.dumps([*_history(tags), entry]),
            entities.REVIEWER: reviewer.strip(),
            entities.REVIEW_COMMENT: comment.strip(),
            entities.REVIEW: verdict,
        },
    )


def _require_words(verdict: str, reviewer: str, comment: str) -> None:
    if not reviewer.strip():
        raise UsageError(f"a version is {verdict} by somebody: no name was given", "add --reviewer NAME")
    if not comment.strip():
        raise UsageError(f"a version that was refused, or is to be {verdict} now, needs a reason", "add --comment TEXT")


def _history(tags: Mapping[str, str]) -> list[Any]:
    try:
        found = json.loads(tags.get(entities.REVIEW_HISTORY, "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _line(version: VersionInfo, params: Params) -> dict[str, Any]:
    tags = version.tags
    return {
        "version": version.version,
        "verdict": decide_review(params.registry.review, tags),
        "gate": tags.get(entities.GATE, ""),
        "override": tags.get(entities.OVERRIDE, ""),
        "reviewer": tags.get(entities.REVIEWER, ""),
        "comment": tags.get(entities.REVIEW_COMMENT, ""),
        "aliases": list(version.aliases),
        "created": version.created,
        "digest": version.digest,
    }
