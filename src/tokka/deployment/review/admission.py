"""May a version be rolled out: a pure rule over its signed evidence and its reviews, and where both are found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from tokka import progress
from tokka.deployment.record.evidence import Evidence
from tokka.deployment.record.record import Record
from tokka.deployment.review import signatures
from tokka.deployment.review.signatures import MLFLOW, Review
from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject
from tokka.params import Params
from tokka.registry import bundle as bundles
from tokka.registry import entities
from tokka.registry.bundle import Bundle
from tokka.registry.entities import VersionInfo
from tokka.registry.model_cache import verified_copy
from tokka.sections_serving import Review as Rule
from tokka.settings import Settings

Verdict = Literal["approved", "refused", "waiting"]
HOUR = 3600.0
# The alias and the tag that people set in MLflow's own page.
ALIAS = "approved"
# MLflow keeps 5000 characters of a tag.
LONGEST_TRAIL = 4900


@dataclass(frozen=True)
class Standing:
    """The verdict on one version now, why, and by whom."""

    verdict: Verdict
    reason: str
    reviewer: str = ""
    comment: str = ""


class Admission(Protocol):
    """What a rollout asks before it believes in a version."""

    def bundle(self, version: str) -> Bundle:
        """Its signed evidence; Refused when there is none that holds."""

    def standing(self, version: str) -> Standing:
        """The verdict on it now; Refused as `bundle`."""


def decide_review(
    mode: str, rule: Rule, bundle: Bundle, reviews: Sequence[Review], champion: str, now: float
) -> Standing:  # fmt: skip
    """What evidence and reviews say; `champion` is the digest of what serves, empty for nothing.

    A refusal is of the model, under whatever version number, and holds for ever. What no gate passed, and no recorded
    reason either, is refused. An approval holds for the evidence that was seen, while the champion is the one that
    the candidate was compared with, until it expires.
    """
    if refusal := next((one for one in reviews if one.verdict == "refused"), None):
        return Standing("refused", f"{refusal.reviewer} refused this model: {refusal.comment}", *_who(refusal))
    if not bundle.was_admitted:
        return Standing("refused", f"the gate did not pass it: {'; '.join(bundle.reasons) or 'no decision'}")
    if mode == "automatic":
        return Standing("approved", "registry.review is automatic")
    approval = next((one for one in reversed(reviews) if one.version == bundle.version), None)
    if approval is None:
        return Standing("waiting", "nobody has approved it yet")
    if problem := _void(rule, bundle, approval, champion, now):
        return Standing("waiting", f"the approval of {approval.reviewer} does not hold: {problem}", *_who(approval))
    return Standing("approved", f"approved by {approval.reviewer}", *_who(approval))


def _void(rule: Rule, bundle: Bundle, approval: Review, champion: str, now: float) -> str:
    if (approval.model, approval.model_digest) != (bundle.model, bundle.model_digest):
        return "it is of another model"
    if approval.evidence_digest != bundle.digest:
        return "the evidence has changed since; look again and approve again"
    if moved := champion_moved(bundle, champion):
        return moved
    if rule.four_eyes and not bundle.author:
        return "review.four_eyes is on, and the run does not name its author"
    if rule.four_eyes and approval.reviewer == bundle.author:
        return "review.four_eyes is on, and the author of a run does not approve it"
    if rule.expires_hours is not None and now - approval.time > rule.expires_hours * HOUR:
        return f"it is older than review.expires_hours ({rule.expires_hours:g}); approve again"
    return ""


def champion_moved(bundle: Bundle, champion: str) -> str:
    """Why the comparison says nothing any more; empty when the champion is the one that was compared with."""
    if bundle.champion_digest == champion or bundle.model_digest == champion:
        return ""
    then = f"the champion was {bundle.champion_digest[:12] or 'none'} when it was evaluated"
    again = f"tokka review evaluate {bundle.version}"
    return f"{then}, now {champion[:12] or 'none'} serves; evaluate it against that one: {again}"


class SignedAdmission:
    """The evidence and reviews in the deployment record; evidence that it lacks is read from MLflow, signed as well."""

    def __init__(self, record: Record, params: Params, settings: Settings) -> None:
        self._record, self._params, self._settings = record, params, settings
        self._model = params.registry.model
        self.evidence = Evidence(record, self._model)

    def bundle(self, version: str) -> Bundle:
        """Its signed evidence; Refused when there is none that holds."""
        from tokka.registry.publish import fetch_evidence

        envelope = self.evidence.envelope(version)
        if not envelope:
            try:
                path = fetch_evidence(bundles.FILE, version, self._params, self._settings)
            except TokkaError as error:
                raise Refused(f"version {version} has no signed evidence: {error.message}", bundles.REGISTER) from None
            envelope = path.read_text(encoding="utf-8")
        return bundles.unseal(envelope, self._model, version, self._settings)

    def served(self, version: str, digest: str) -> Path:
        """The verified model of what the record says serves, also when MLflow has lost its version.

        Refused when there is none of this digest that verifies.
        """
        from tokka.registry import publish

        if digest and (found := verified_copy(self._settings, digest)) is not None:
            return found
        wanted = digest or self.bundle(version).model_digest
        return publish.fetch_model(self.run_of(version), wanted, self._params, self._settings)

    def run_of(self, version: str) -> str:
        """The run that made a version, also of one that MLflow has lost; TokkaError when nobody knows it."""
        from tokka.registry import publish

        if envelope := self.evidence.envelope(version):
            return bundles.unseal(envelope, self._model, version, self._settings).run_id
        return publish.open_registry(self._params, self._settings).version(version).run_id

    def standing(self, version: str) -> Standing:
        """The verdict on it now. What was decided in MLflow is kept as a review first, where it counts.

        That is where its server has signed who decided, or `review.trust` is open.
        """
        bundle, rule = self.bundle(version), self._params.review
        if self._params.registry.review == "required" and rule.trust == "open":
            self._take_tag(bundle)
        elif self._params.registry.review == "required" and MLFLOW in self._approvers().values():
            self._take_decided(bundle)
        found, _ = self.reviews(bundle)
        return decide_review(
            self._params.registry.review, rule, bundle, found, self._champion(), self._record.clock.time()
        )

    def reviews(self, bundle: Bundle) -> tuple[list[Review], list[str]]:
        """The reviews of a model that hold, oldest first; and what is wrong with those that do not."""
        listed = self._approvers()
        held, odd = [], []
        for entry in self.evidence.reviews(bundle.model_digest):
            try:
                held.append(signatures.read(entry, listed, trust_tags=self._params.review.trust == "open"))
            except Refused as error:
                odd.append(error.message)
        return held, odd

    def show_trail(self, bundle: Bundle) -> None:
        """Show who decided, when and on what, as a tag of the version; TokkaError when MLflow does not answer."""
        from tokka.registry.publish import open_registry

        held, _ = self.reviews(bundle)
        shown = {entities.REVIEW_HISTORY: trail([one for one in held if one.version == bundle.version])}
        open_registry(self._params, self._settings).tag_version(bundle.version, shown)

    def make(self, bundle: Bundle, verdict: Literal["approved", "refused"], reviewer: str, comment: str) -> Review:
        """A review of what is seen now."""
        return Review(
            model=bundle.model, version=bundle.version, model_digest=bundle.model_digest,
            evidence_digest=bundle.digest, champion_digest=self._champion(), verdict=verdict, reviewer=reviewer,
            comment=comment, time=self._record.clock.time(),
        )  # fmt: skip

    def _champion(self) -> str:
        champion = self._record.read(self._model).champion
        return champion.digest if champion else ""

    def _approvers(self) -> dict[str, str]:
        return signatures.approvers(self._params.review.approvers, self._settings)

    def _take_decided(self, bundle: Bundle) -> None:
        """Keep what an approver decided in MLflow as a review, once; what does not hold stays a request."""
        from tokka.registry.publish import open_registry

        envelope = open_registry(self._params, self._settings).version(bundle.version).tags.get(entities.DECIDED_BY)
        known = self.evidence.reviews(bundle.model_digest)
        if not envelope or any(one.get("decided") == envelope for one in known):
            return
        try:
            said = signatures.read_decided(envelope, self._approvers())
            review = self.make(bundle, said.verdict, said.user, said.comment)
            review = review.model_copy(update={"time": said.time, "in_mlflow": True})
            entry: JsonObject = {"decided": envelope, "review": review.model_dump(mode="json")}
            signatures.read(entry, self._approvers(), trust_tags=False)
        except Refused:
            return
        self._keep(bundle, entry)

    def _take_tag(self, bundle: Bundle) -> None:
        """Keep what the tag says as a review, once."""
        from tokka.registry.publish import open_registry

        asked = request(open_registry(self._params, self._settings).version(bundle.version))
        known, _ = self.reviews(bundle)
        last = next((one for one in reversed(known) if one.version == bundle.version), None)
        if asked is None or (last is not None and last.verdict == asked[0]):
            return
        review = self.make(bundle, *asked).model_copy(update={"by_tag": True})
        self._keep(bundle, review.model_dump(mode="json"))

    def _keep(self, bundle: Bundle, entry: JsonObject) -> None:
        self.evidence.add_review(bundle.version, bundle.model_digest, entry)
        try:
            self.show_trail(bundle)
        except TokkaError as error:
            progress.report("review", f"it is recorded, and MLflow does not show it: {error.message}")


def trail(reviews: Sequence[Review]) -> str:
    """Who decided, when and on what, a line for each, the newest first, as far as MLflow keeps that much."""
    lines, length = list[str](), 0
    for one in reversed(reviews):
        when = datetime.fromtimestamp(one.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        how = "by tag" if one.by_tag else "in MLflow" if one.in_mlflow else "signed"
        seen = f"evidence {one.evidence_digest[:12]}, model {one.model_digest[:12]}"
        seen += f", champion {one.champion_digest[:12] or 'none'}"
        line = f"{when}: {one.verdict} by {one.reviewer} ({how}), seen: {seen}. {' '.join(one.comment.split())}".strip()
        length += len(line) + 1
        if length > LONGEST_TRAIL:
            break
        lines.append(line)
    return "\n".join(lines)


def request(version: VersionInfo) -> tuple[Literal["approved", "refused"], str, str] | None:
    """What somebody asks for by tag or alias in MLflow: verdict, the name and the comment that they give."""
    tags: Mapping[str, str] = version.tags
    word = tags.get(entities.REVIEW, "").strip().lower()
    name, comment = tags.get(entities.REVIEWER, "").strip(), tags.get(entities.REVIEW_COMMENT, "").strip()
    if word == "refused":
        return "refused", name or "somebody (tag in MLflow)", comment
    if word == "approved" or ALIAS in version.aliases:
        return "approved", name or "somebody (tag in MLflow)", comment
    return None


def _who(review: Review) -> tuple[str, str]:
    return review.reviewer, review.comment
