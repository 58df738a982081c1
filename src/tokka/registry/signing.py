"""Signatures over model folders: made when a model enters the registry, checked before any byte of it is used.

    sign(folder, settings)       # writes folder/model.sig
    verify(folder, settings)     # Refused on a changed byte, an extra, missing or linked file, another key

The key is an elliptic curve key (P-256) made on first use in TOKKA_HOME/keys. Who only verifies needs the public
half alone. The signature covers every file but itself: model-signing's own default would leave `.git*` paths out.
"""

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

from tokka import files
from tokka.errors import Refused, TokkaError
from tokka.settings import Settings

SIGNATURE = "model.sig"
PRIVATE_KEY = "signing.key"
PUBLIC_KEY = "signing.pub"
LOCK_SECONDS = 120.0
_IN_TOTO, _MODEL_SIGNATURE = "application/vnd.in-toto+json", "https://model_signing/signature/v1.0"


def sign(folder: Path, settings: Settings) -> Path:
    """Sign a folder of plain files and return the signature's path; an old signature is replaced.

    Raises:
        Refused: the folder holds a link or something that is no file.
        TokkaError: there is no private key, or others may read it.
    """
    from model_signing import signing

    _require_plain(folder)
    key, _ = _keys(settings)
    target, staging = folder / SIGNATURE, folder.parent / f".{folder.name}.{os.getpid()}.sig"
    target.unlink(missing_ok=True)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(_hashing()).sign(folder, staging)
    staging.replace(target)
    return target


def verify(folder: Path, settings: Settings) -> dict[str, str]:
    """Check a folder against its signature; returns the sha256 of each file by its name.

    Raises:
        Refused: any file differs from what was signed, or the signature is missing, broken or by another key.
        TokkaError: there is no public key to check with.
    """
    signature, key = folder / SIGNATURE, _public_key(settings)
    if not folder.is_dir() or not signature.is_file():
        raise Refused(f"{folder} has no signature", "only models that this pipeline has signed are used; train again")
    _require_plain(folder)
    found = {
        path.relative_to(folder).as_posix(): files.digest_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path != signature
    }
    try:
        signed = _signed_digests(signature.read_bytes(), key.read_bytes())
        odd = [name for name in sorted(found.keys() | signed.keys()) if found.get(name) != signed.get(name)]
        if odd:
            raise ValueError(f"{odd[0]} differs")
    except Exception as error:  # a forged signature can fail anywhere, and each means no
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"{folder} is not what was signed: {reason}", "it was altered; fetch or train it again") from None
    return found


def _signed_digests(bundle: bytes, key: bytes) -> dict[str, str]:
    """What a signature vouches for: the sha256 of each file by its name.

    A Sigstore bundle with a DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0.0), whose payload is an
    in-toto statement. Read here, because model-signing imports Sigstore's whole client before it checks a key: half of
    a worker's start, and 30 MB.

    Raises:
        Exception: it is no such signature, or not of this key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    envelope, public = json.loads(bundle)["dsseEnvelope"], load_pem_public_key(key)
    payload = base64.b64decode(envelope["payload"], validate=True)
    if envelope["payloadType"] != _IN_TOTO or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("not an in-toto statement signed with an elliptic curve key")
    signed = b"DSSEv1 %d %b %d %b" % (len(_IN_TOTO), _IN_TOTO.encode(), len(payload), payload)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"], validate=True), signed, ec.ECDSA(SHA256()))
    statement = json.loads(payload)
    resources = statement["predicate"]["resources"]
    if statement["predicateType"] != _MODEL_SIGNATURE or any(one["algorithm"] != "sha256" for one in resources):
        raise ValueError("not a list of files by sha256")
    return {one["name"]: one["digest"] for one in resources}


def _hashing() -> Any:  # model_signing ships no types
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _require_plain(folder: Path) -> None:
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refused(f"{path} is a link or no plain file", "a model folder holds plain files only")


def _keys(settings: Settings) -> tuple[Path, Path]:
    """Private and public key, made once when neither exists."""
    folder = settings.home / "keys"
    key, public = folder / PRIVATE_KEY, folder / PUBLIC_KEY
    with files.locked(settings.home / "locks" / "signing-key.lock", LOCK_SECONDS):
        if not key.exists() and public.exists():
            raise TokkaError(
                f"{key} is missing while {public} exists, so nothing can be signed",
                f"restore the private key; removing {public} as well starts anew and disowns every signed version",
            )
        if not key.exists():
            _make_private_key(key)
        _require_private(key)
        if not public.exists():
            files.write_bytes(public, _public_half(key))
    return key, public


def _public_key(settings: Settings) -> Path:
    public = settings.home / "keys" / PUBLIC_KEY
    if not public.is_file():
        raise TokkaError(
            f"there is no key at {public} to verify models with",
            "copy signing.pub from where the models were signed",
        )
    return public


def _make_private_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    content = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write_bytes(path, content, mode=0o600)


def _public_half(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise TokkaError(f"{key} is not a private key in PEM: {error}", "restore it from a backup") from None
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _require_private(key: Path) -> None:
    # A mounted secret belongs to root and has the mode that the cluster gives it: only our own file is judged.
    status = key.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise TokkaError(f"{key} can be read by others (mode {status.st_mode & 0o777:04o})", f"run: chmod 600 {key}")
