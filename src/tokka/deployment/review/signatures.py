"""Reviews that say who decided: each reviewer signs with a key of their own (Ed25519), and a list says whose count.

A reviewer's private key lies in TOKKA_HOME/keys/reviewers/NAME.key of the machine where they work. Whose approval
counts is said by the operator: `review.approvers` in params.yaml (name to public key), or NAME.pub files in
TOKKA_HOME/keys/approvers of the machine that rolls out. MLflow's tags and events carry no user, with its authentication
as well as without: where the word `mlflow` stands in the place of a key, a server that runs `mlflow_users` signs for
them.
"""

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tokka import files
from tokka.errors import Refused, TokkaError, UsageError
from tokka.files import JsonObject
from tokka.registry import signing
from tokka.settings import Settings

KIND = "application/vnd.tokka.review+json"
LOCK_SECONDS = 60.0
DECIDED = "application/vnd.tokka.mlflow-decision+json"
# The word in the place of a key, and the reviewer whose key signs for those who have it.
MLFLOW, SERVER = "mlflow", "mlflow-server"
NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"


class Review(BaseModel):
    """One decision of a person, and what they saw: digests of model and evidence, and of the champion at that time.

    `by_tag`: taken from a tag in MLflow that anybody may write, where `review.trust` is open; else it is signed, by
    its reviewer, or, `in_mlflow`, by MLflow's server, which has asked them for their password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    model_digest: str
    evidence_digest: str
    champion_digest: str
    verdict: Literal["approved", "refused"]
    reviewer: str
    comment: str = ""
    time: float
    by_tag: bool = False
    in_mlflow: bool = False


class Decided(BaseModel):
    """What a user of MLflow decided there, with the comment and the model's digest that its tags had then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    model_digest: str
    verdict: Literal["approved", "refused"]
    user: str
    comment: str = ""
    time: float


def sign(review: Review, settings: Settings) -> JsonObject:
    """The review as it is kept, signed with the reviewer's own key; the key is made on first use, not in a pod.

    Whoever makes a key in the home that rolls out is its operator: their public half is allowed there at once.
    UsageError for a name that cannot be one of a file, TokkaError for a key that others can read.
    """
    return {"envelope": _seal(KIND, review, review.reviewer, settings)}


def sign_decided(decided: Decided, settings: Settings) -> str:
    """What a user decided in MLflow, signed by its server; raises as `sign`."""
    return _seal(DECIDED, decided, SERVER, settings)


def _seal(kind: str, content: BaseModel, signer: str, settings: Settings) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(_private_key(signer, settings).read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TokkaError(f"the key of {signer} is not an Ed25519 key", "remove it to have a new one made")
    payload = signing.canonical(content.model_dump(mode="json"))
    return signing.seal(kind, payload, key.sign(signing.authenticated(kind, payload)))


def read(entry: JsonObject, approvers: Mapping[str, str], *, trust_tags: bool) -> Review:
    """A review as it was kept; Refused when its signature does not hold, or is of somebody who is not on the list.

    `approvers`: name to public key (base64 of its 32 bytes).
    """
    try:
        if "decided" in entry:
            return _in_mlflow(entry, approvers)
        if "envelope" not in entry:
            review = Review.model_validate(entry)
            if not (trust_tags and review.by_tag):
                raise Refused(f"the review of {review.reviewer} is not signed", "sign it: tokka review approve VERSION")
            return review
        payload, signature = signing.open_envelope(KIND, str(entry["envelope"]))
        review = Review.model_validate_json(payload)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise Refused(f"a review cannot be read: {type(error).__name__}") from None
    if review.reviewer not in approvers or review.reviewer == SERVER:
        raise Refused(f"{review.reviewer} is not on the list of approvers", "add their public key to review.approvers")
    if approvers[review.reviewer] == MLFLOW:
        hint = "set the tag tokka.review there, or list a public key: tokka review key"
        raise Refused(f"{review.reviewer} approves in MLflow's page, by the list of approvers, and not by a key", hint)
    _verify(KIND, payload, signature, review.reviewer, approvers)
    return review.model_copy(update={"by_tag": False, "in_mlflow": False})


def read_decided(envelope: str, approvers: Mapping[str, str]) -> Decided:
    """What a user decided in MLflow; Refused unless its server has signed it, and they are an approver there."""
    try:
        payload, signature = signing.open_envelope(DECIDED, envelope)
        decided = Decided.model_validate_json(payload)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise Refused(f"who decided in MLflow cannot be read: {type(error).__name__}") from None
    if approvers.get(decided.user) != MLFLOW:
        hint = f"allow it in params.yaml: review.approvers: {{{decided.user}: {MLFLOW}}}"
        raise Refused(f"{decided.user} is no approver by MLflow's authentication", hint)
    if SERVER not in approvers:
        raise Refused(f"no key of an MLflow server is known ({SERVER})", f"tokka review key --reviewer {SERVER}, there")
    _verify(DECIDED, payload, signature, SERVER, approvers)
    return decided


def _in_mlflow(entry: JsonObject, approvers: Mapping[str, str]) -> Review:
    review, decided = Review.model_validate(entry["review"]), read_decided(str(entry["decided"]), approvers)
    named = Decided(
        model=review.model, version=review.version, model_digest=review.model_digest, verdict=review.verdict,
        user=review.reviewer, comment=review.comment, time=review.time,
    )  # fmt: skip
    if named != decided:
        raise Refused(f"the review of {review.reviewer} is not what they decided in MLflow")
    return review.model_copy(update={"by_tag": False, "in_mlflow": True})


def _verify(kind: str, payload: bytes, signature: bytes, signer: str, approvers: Mapping[str, str]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(approvers[signer], validate=True))
        key.verify(signature, signing.authenticated(kind, payload))
    except Exception as error:  # a forged signature can fail anywhere, and each means no
        raise Refused(f"the signature of {signer} does not hold: {type(error).__name__}") from None


def approvers(named: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Whose approval counts: those of params.yaml, and of the files at home; TokkaError when others may write there.

    A name in params.yaml goes before a file.
    """
    folder, found = settings.home / "keys" / "approvers", dict[str, str]()
    if folder.is_dir():
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise TokkaError(f"{folder} can be written by others", f"run: chmod 700 {folder}, as its owner")
        found = {path.stem: path.read_text(encoding="ascii").strip() for path in folder.glob("*.pub")}
    return {**found, **named}


def public_key(reviewer: str, settings: Settings) -> str:
    """The public half of a reviewer's key as it stands in `review.approvers`; raises as `sign`."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _public(load_pem_private_key(_private_key(reviewer, settings).read_bytes(), password=None))


def _private_key(reviewer: str, settings: Settings) -> Path:
    if not re.fullmatch(NAME, reviewer):
        raise UsageError(f"{reviewer!r} cannot be a reviewer's name", "use letters, digits and . _ @ -")
    path = settings.home / "keys" / "reviewers" / f"{reviewer}.key"
    with files.locked(settings.home / "locks" / "reviewers.lock", LOCK_SECONDS):
        if not path.exists():
            _make_key(path, settings.home / "keys" / "approvers" / f"{reviewer}.pub")
    if path.stat().st_mode & 0o077:
        raise TokkaError(f"{path} can be read by others", f"run: chmod 600 {path}")
    return path


def _make_key(path: Path, public: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    for folder in (path.parent, public.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if public.exists():
        raise TokkaError(
            f"{public} is there and its private half {path} is not: this reviewer works elsewhere",
            "approve from there, or with another name: --reviewer NAME",
        )
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write_bytes(path, content, mode=0o600)
    files.write_bytes(public, f"{_public(key)}\n".encode())


def _public(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not isinstance(key, Ed25519PrivateKey):
        raise TokkaError("a reviewer's key is not an Ed25519 key", "remove it to have a new one made")
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()
