"""The review of a version: a pure rule over its tags, which people can set.

    review_version("3", params, settings)                            # "approved", "refused" or "waiting"
    approve("3", "ana@example.org", "looked at the slices", params, settings)

Shown and done by `tokka review list|show|approve|refuse`, and in MLflow's own page by setting the same tags.
"""

import json
import time
from collections.abc import Mapping
from typing import Literal, TypedDict

from tokka.errors import Refused, UsageError
from tokka.params import Params
from tokka.registry import entities
from tokka.registry.entities import VersionInfo
from tokka.registry.publish import open_registry
from tokka.settings import Settings

Verdict = Literal["approved", "refused", "waiting"]


class Line(TypedDict):
    """One version in the list."""

    version: str
    verdict: Verdict
    gate: str
    override: str
    reviewer: str
    comment: str
    aliases: list[str]
    created: float
    digest: str


class Details(Line):
    """One version with its card (`description`), tags and the history of its reviews."""

    run_id: str
    description: str
    tags: dict[str, str]
    reviews: list[object]


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
    """Whether the gate passed it, or the version records a reason for overriding the gate."""
    return tags.get(entities.GATE) == "pass" or bool(tags.get(entities.OVERRIDE, "").strip())


def review_version(version: str, params: Params, settings: Settings) -> Verdict:
    """The verdict on one version now."""
    return decide_review(params.registry.review, open_registry(params, settings).version(version).tags)


def list_versions(params: Params, settings: Settings) -> list[Line]:
    """Every version, newest first: number, verdict, gate, reviewer, aliases, time, digest."""
    return [_line(version, params) for version in open_registry(params, settings).versions()]


def show_version(version: str, params: Params, settings: Settings) -> Details:
    """One version with its card, tags and the history of its reviews."""
    found = open_registry(params, settings).version(version)
    return Details(
        **_line(found, params),
        run_id=found.run_id,
        description=found.description,
        tags=dict(found.tags),
        reviews=_history(found.tags),
    )


def approve(version: str, reviewer: str, comment: str, params: Params, settings: Settings) -> None:
    """Record a person's approval.

    Raises:
        Refused: the gate did not pass this version, and no reason to override it was recorded.
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
    registry = open_registry(params, settings)
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


def _history(tags: Mapping[str, str]) -> list[object]:
    try:
        found = json.loads(tags.get(entities.REVIEW_HISTORY, "[]"))
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _line(version: VersionInfo, params: Params) -> Line:
    tags = version.tags
    return Line(
        version=version.version,
        verdict=decide_review(params.registry.review, tags),
        gate=tags.get(entities.GATE, ""),
        override=tags.get(entities.OVERRIDE, ""),
        reviewer=tags.get(entities.REVIEWER, ""),
        comment=tags.get(entities.REVIEW_COMMENT, ""),
        aliases=list(version.aliases),
        created=version.created,
        digest=version.digest,
    )
