"""What a rollout believes of a version: one signed document with the evaluation's digests and the gate's verdict.

It is made where the version is registered, out of what the gate wrote into the deployment record, and verified before
each use. Tags, aliases and pages in MLflow show it; nothing is read from them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tokka import files
from tokka.errors import Refused, TokkaError
from tokka.registry import signing
from tokka.registry.entities import Json, part
from tokka.settings import Settings

KIND = "application/vnd.tokka.evidence+json"
FILE = "bundle.json"
MISSING = "missing"


class Judgement(BaseModel):
    """What the gate decided, and on what: digests of model, test set, evaluation.json, and of what served then.

    `generation` is the record's at that moment; `figures` the judged metric of candidate and comparison; `author` who
    started the run, empty where that is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    model_digest: str
    data_digest: str = ""
    test_digest: str = ""
    evaluation_digest: str = ""
    metric: str = ""
    figures: dict[str, dict[str, float]] = {}
    champion_version: str = ""
    champion_digest: str = ""
    generation: int = 0
    author: str = ""
    verdict: Literal["pass", "refuse", "missing"] = "missing"
    reasons: tuple[str, ...] = ()
    rules: tuple[dict[str, str], ...] = ()


class Bundle(Judgement):
    """A judgement of a version of a model; `override`: why it was registered past the gate; `made`: since 1970."""

    format: Literal[1] = 1
    model: str
    version: str
    override: str = ""
    made: float = 0.0

    @property
    def digest(self) -> str:
        """The sha256 of what it says: what a reviewer approves. A rollout registers, and so signs, the same again."""
        return hashlib.sha256(signing.canonical(self.model_dump(mode="json", exclude={"made"}))).hexdigest()

    @property
    def was_admitted(self) -> bool:
        """Whether the gate passed it, or a reason for overriding the gate was given."""
        return self.verdict == "pass" or bool(self.override.strip())


def judgement(evidence: Path, run_id: str, decision: Json, *, generation: int = 0, author: str = "") -> Judgement:
    """Of an evidence folder and the gate's decision on it; an evaluation that cannot be read gives empty digests."""
    path = evidence / "evaluation.json"
    try:
        read = files.read_json(path)
    except TokkaError:
        read = None
    found: Json = read if isinstance(read, dict) else {}
    champion, comparison, metric = part(found, "champion"), part(part(found, "comparison"), "champion"), "metric"
    named = str(found.get(metric, ""))
    figures = {"candidate": part(part(part(found, "candidate"), "metrics"), named), "difference": comparison}
    rules, reasons = decision.get("rules"), decision.get("reasons")
    return Judgement(
        run_id=run_id, model_digest=str(part(found, "candidate").get("digest", "")), metric=named,
        generation=generation, author=author,
        data_digest=str(found.get("data_digest", "")), test_digest=str(part(found, "test").get("digest", "")),
        evaluation_digest=files.digest_file(path) if path.is_file() else "",
        figures={name: _figures(one) for name, one in figures.items() if one},
        champion_version=str(champion.get("version", "")), champion_digest=str(champion.get("digest", "")),
        verdict=_verdict(decision), reasons=tuple(map(str, reasons)) if isinstance(reasons, list | tuple) else (),
        rules=tuple(rules) if isinstance(rules, list | tuple) else (),
    )  # fmt: skip


def seal(bundle: Bundle, settings: Settings) -> str:
    """The signed envelope; raises as `signing.sign`."""
    return signing.sign_document(KIND, bundle.model_dump(mode="json"), settings)


def unseal(envelope: str, model: str, version: str, settings: Settings) -> Bundle:
    """The bundle of this version of this model; Refused when it is of another one, or not signed by our key."""
    try:
        bundle = Bundle.model_validate_json(signing.verify_document(KIND, envelope, settings))
    except ValidationError as error:
        raise Refused(f"the signed evidence of version {version} cannot be read: {error.errors()[0]['msg']}") from None
    except Refused as error:
        raise Refused(f"the evidence of version {version} is not what was signed: {error.message}", REGISTER) from None
    if (bundle.model, bundle.version) != (model, version):
        theirs = f"version {bundle.version} of {bundle.model}"
        raise Refused(f"the evidence beside version {version} of {model} is that of {theirs}", REGISTER)
    return bundle


REGISTER = "register the candidate again: tokka run --pipeline rollout --run-id RUN"


def _verdict(decision: Json) -> Literal["pass", "refuse", "missing"]:
    return "pass" if decision.get("verdict") == "pass" else "refuse" if decision else "missing"


def _figures(found: Mapping[str, object]) -> dict[str, float]:
    named = ("value", "difference", "low", "high", "rows")
    return {name: float(value) for name in named if isinstance(value := found.get(name), int | float)}
