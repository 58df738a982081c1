"""Signatures over model folders: made when a model enters the registry, checked before any byte of it is used.

The key is an elliptic curve key (P-256) made on first use in TOKKA_HOME/keys; in a pod it is given, and none is made.
Who only verifies needs the public half alone. The signature covers every file but itself: model-signing's own default
would leave `.git*` paths out.
"""

import base64
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

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

    Refused when the folder holds a link or what is no file; TokkaError without a private key that others cannot read.
    """
    from model_signing import hashing, signing

    _plain_files(folder)
    target, staging = folder / SIGNATURE, folder.parent / f".{folder.name}.{os.getpid()}.sig"
    target.unlink(missing_ok=True)
    config = signing.Config().use_elliptic_key_signer(private_key=_private_key(settings))
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False))
    config.sign(folder, staging)
    staging.replace(target)
    return target


def verify(folder: Path, settings: Settings) -> dict[str, str]:
    """Check a folder against its signature; returns the sha256 of each file by its name.

    Refused when any file differs from what was signed, or the signature is missing, broken or by another key;
    TokkaError when there is no public key to check with.
    """
    signature, key = folder / SIGNATURE, settings.verify_key
    if not key.is_file():
        hint = "copy signing.pub from where the models were signed, or name it by TOKKA_VERIFY_KEY"
        raise TokkaError(f"there is no key at {key} to verify models with", hint)
    if not folder.is_dir() or not signature.is_file():
        raise Refused(f"{folder} has no signature", "only models that this pipeline has signed are used; train again")
    plain = {path.relative_to(folder).as_posix(): path for path in _plain_files(folder) if path != signature}
    found = {name: files.digest_file(path) for name, path in plain.items()}
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
    """What a signature vouches for: the sha256 of each file by its name; any exception when it is none of this key.

    A Sigstore bundle with a DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0.0), whose payload is an
    in-toto statement. Read here, because model-signing imports Sigstore's whole client before it checks a key: half of
    a worker's start, and 30 MB.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    envelope, public = json.loads(bundle)["dsseEnvelope"], load_pem_public_key(key)
    payload = base64.b64decode(envelope["payload"], validate=True)
    if envelope["payloadType"] != _IN_TOTO or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("not an in-toto statement signed with an elliptic curve key")
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    public.verify(signature, authenticated(_IN_TOTO, payload), ec.ECDSA(SHA256()))
    statement = json.loads(payload)
    resources = statement["predicate"]["resources"]
    if statement["predicateType"] != _MODEL_SIGNATURE or any(one["algorithm"] != "sha256" for one in resources):
        raise ValueError("not a list of files by sha256")
    return {one["name"]: one["digest"] for one in resources}


def authenticated(kind: str, payload: bytes) -> bytes:
    """The bytes that a signature covers: DSSE's pre-authentication encoding of a payload of this kind."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def canonical(document: Mapping[str, object]) -> bytes:
    """The one way to write a document down; ValueError for what is not finite."""
    text = json.dumps(dict(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sign_document(kind: str, document: Mapping[str, object], settings: Settings) -> str:
    """A DSSE envelope (JSON) around a document, signed with the key that signs models; raises as `sign`."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    payload, key = canonical(document), load_pem_private_key(_private_key(settings).read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TokkaError("the signing key is not the key of an elliptic curve", "restore it from a backup")
    return seal(kind, payload, key.sign(authenticated(kind, payload), ec.ECDSA(SHA256())))


def seal(kind: str, payload: bytes, signature: bytes) -> str:
    """A DSSE envelope (JSON)."""
    shown = {"payloadType": kind, "payload": base64.b64encode(payload).decode()}
    return json.dumps({**shown, "signatures": [{"sig": base64.b64encode(signature).decode()}]})


def open_envelope(kind: str, envelope: str) -> tuple[bytes, bytes]:
    """Payload and signature of a DSSE envelope of this kind, not verified; ValueError or KeyError when it is none."""
    found = json.loads(envelope)
    if found["payloadType"] != kind:
        raise ValueError(f"{found['payloadType']} instead of {kind}")
    payload, signature = found["payload"], found["signatures"][0]["sig"]
    return base64.b64decode(payload, validate=True), base64.b64decode(signature, validate=True)


def verify_document(kind: str, envelope: str, settings: Settings) -> bytes:
    """The payload of an envelope that the signing key has sealed; Refused for any other, TokkaError without a key."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(Path(check_public(settings)).read_bytes())
    try:
        payload, signature = open_envelope(kind, envelope)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, authenticated(kind, payload), ec.ECDSA(SHA256()))
    except Exception as error:  # as above: each means no
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"the signature does not hold: {reason}", "it was altered, or another key signed it") from None
    return payload


def _plain_files(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refused(f"{path} is a link or no plain file", "a model folder holds plain files only")
        found += [path] if stat.S_ISREG(mode) else []
    return found


def _private_key(settings: Settings) -> Path:
    """The key to sign with; both halves are made once when neither exists."""
    key, public = settings.signing_key, settings.verify_key
    if settings.in_pod:
        check_pair(settings)
        return key
    with files.locked(settings.home / "locks" / "signing-key.lock", LOCK_SECONDS):
        if not key.exists() and public.exists():
            raise TokkaError(
                f"{key} is missing while {public} exists, so nothing can be signed",
                f"restore the private key; removing {public} as well starts anew and disowns every signed version",
            )
        if not key.exists():
            _make_private_key(key)
        # A mounted secret belongs to root and has the mode that the cluster gives it: only our own file is judged.
        mode = key.stat().st_mode & 0o777
        if key.stat().st_uid == os.getuid() and mode & 0o077:
            raise TokkaError(f"{key} can be read by others (mode {mode:04o})", f"run: chmod 600 {key}")
        if not public.exists():
            files.write_bytes(public, _public_half(key))
    return key


def check_pair(settings: Settings) -> None:
    """See that what is to sign is the other half of what everybody verifies with; TokkaError when it is not.

    On a machine of one's own both are made on first use, and nothing is missing before.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key, public = settings.signing_key, settings.verify_key
    if not settings.in_pod and not (key.exists() and public.exists()):
        return
    check_public(settings)
    if not key.is_file():
        raise TokkaError(
            f"there is no private key at {key} (TOKKA_SIGNING_KEY) to sign models with",
            "mount the Secret with signing.key into the register task; a pod makes no key of its own",
        )
    if load_pem_public_key(_public_half(key)) != load_pem_public_key(public.read_bytes()):
        raise TokkaError(
            f"the private key at {key} is not the other half of the public key at {public}",
            "give TOKKA_SIGNING_KEY and TOKKA_VERIFY_KEY the two halves of one key",
        )


def check_public(settings: Settings) -> str:
    """The path of the public key; TokkaError when it is not there or is none."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path, hint = settings.verify_key, "mount the ConfigMap with signing.pub, and name the file by TOKKA_VERIFY_KEY"
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise TokkaError(f"there is no public key at {path} (TOKKA_VERIFY_KEY): {error.strerror}", hint) from None
    except (ValueError, TypeError) as error:
        raise TokkaError(f"{path} (TOKKA_VERIFY_KEY) is not a public key in PEM: {error}", hint) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TokkaError(f"{path} (TOKKA_VERIFY_KEY) is not a public key of an elliptic curve", hint)
    return str(path)


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
