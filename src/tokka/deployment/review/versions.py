"""Versions as people look at them and decide on them: the list, one version whole, and the decision itself."""

from typing import Literal, TypedDict

from tokka import progress
from tokka.deployment.record.record import Record
from tokka.deployment.review import admission, signatures
from tokka.deployment.review.admission import SignedAdmission, Standing, Verdict
from tokka.deployment.review.signatures import Review
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import Params
from tokka.registry import entities
from tokka.registry.bundle import Bundle
from tokka.registry.entities import VersionInfo
from tokka.registry.publish import open_registry
from tokka.settings import Settings


class Line(TypedDict):
    """One version in the list; `request` is what somebody asks for by tag, and nothing follows from."""

    version: str
    verdict: Verdict
    reason: str
    gate: str
    override: str
    reviewer: str
    comment: str
    request: str
    aliases: list[str]
    created: float
    digest: str


class Details(Line):
    """One version with its card (`description`), its tags, its signed evidence, and its reviews, oldest first."""

    run_id: str
    description: str
    tags: dict[str, str]
    evidence: dict[str, object]
    reviews: list[dict[str, object]]
    problems: list[str]


def list_versions(params: Params, settings: Settings) -> list[Line]:
    """Every version, newest first."""
    admitted = SignedAdmission(Record(settings.record_url), params, settings)
    return [_line(version, admitted) for version in open_registry(params, settings).versions()]


def show_version(version: str, params: Params, settings: Settings) -> Details:
    """One version whole; TokkaError when there is none."""
    found = open_registry(params, settings).version(version)
    admitted = SignedAdmission(Record(settings.record_url), params, settings)
    evidence, reviews, problems = dict[str, object](), list[Review](), list[str]()
    try:
        bundle = admitted.bundle(version)
        evidence = {**bundle.model_dump(mode="json"), "digest": bundle.digest}
        reviews, problems = admitted.reviews(bundle)
    except Refused as error:
        problems = [error.message]
    return Details(
        **_line(found, admitted), run_id=found.run_id, description=found.description, tags=dict(found.tags),
        evidence=evidence, reviews=[one.model_dump(mode="json") for one in reviews], problems=problems,
    )  # fmt: skip


def decide(
    verdict: Literal["approved", "refused"], version: str, reviewer: str, comment: str, params: Params,
    settings: Settings,
) -> Review:  # fmt: skip
    """Sign a person's approval or refusal and keep it in the record; MLflow's tags show it.

    UsageError without a name, or without a comment to a refusal or past the gate. Refused when the approval would not
    hold: the model was refused before, the gate never let it pass, the champion has moved since the evaluation, the
    approver is the author under `review.four_eyes`, or is on no list of approvers.
    """
    reviewer, comment = reviewer.strip(), comment.strip()
    if not reviewer:
        raise UsageError(f"a version is {verdict} by somebody: no name was given", "add --reviewer NAME")
    record = Record(settings.record_url)
    admitted = SignedAdmission(record, params, settings)
    bundle = admitted.bundle(version)
    if not comment and (verdict == "refused" or bundle.verdict != "pass"):
        raise UsageError(f"a version that the gate refused, or is to be {verdict} now, needs a reason", COMMENT)
    review = admitted.make(bundle, verdict, reviewer, comment)
    entry = signatures.sign(review, settings)
    _check(review, entry, bundle, admitted, params, settings)
    admitted.evidence.add_review(version, bundle.model_digest, entry)
    try:
        show(review, params, settings)
        admitted.show_trail(bundle)
    except TokkaError as error:
        progress.report("review", f"it is recorded, and MLflow does not show it: {error.message}")
    return review


COMMENT = "add --comment TEXT"


def _check(
    review: Review, entry: dict[str, object], bundle: Bundle, admitted: SignedAdmission, params: Params,
    settings: Settings,
) -> None:  # fmt: skip
    """See that a review would hold, before it is kept."""
    listed = signatures.approvers(params.review.approvers, settings)
    signatures.read(entry, listed, trust_tags=False)
    known, _ = admitted.reviews(bundle)
    found = admission.decide_review(
        "required", params.review, bundle, [*known, review], review.champion_digest, review.time
    )
    if found.verdict != review.verdict:
        raise Refused(f"version {review.version} cannot be {review.verdict}: {found.reason}")


def show(review: Review, params: Params, settings: Settings) -> None:
    """Show a review as tags in MLflow."""
    tags = {
        entities.REVIEWER: review.reviewer, entities.REVIEW_COMMENT: review.comment, entities.REVIEW: review.verdict,
    }  # fmt: skip
    open_registry(params, settings).tag_version(review.version, tags)


def _line(version: VersionInfo, admitted: SignedAdmission) -> Line:
    asked, gate, override, digest = admission.request(version), "", "", version.digest
    try:
        bundle, found = admitted.bundle(version.version), admitted.standing(version.version)
        gate, override, digest = bundle.verdict, bundle.override, bundle.model_digest
    except TokkaError as error:
        found = Standing("refused", error.message)
    same = asked is None or asked[0] == found.verdict
    return Line(
        version=version.version, verdict=found.verdict, reason=found.reason, gate=gate, override=override,
        reviewer=found.reviewer, comment=found.comment,
        request="" if same or asked is None else f"{asked[0]} by tag, which is a request: tokka review approve|refuse",
        aliases=list(version.aliases), created=version.created, digest=digest,
    )  # fmt: skip
