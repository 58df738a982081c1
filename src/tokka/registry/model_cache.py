"""Copies of models that may be loaded: home/models/<digest>, checked by signature and digest before each use."""

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tokka import files
from tokka.errors import Refused
from tokka.model.folder import model_digest
from tokka.registry import signing
from tokka.settings import Settings

LOCK_SECONDS = 120.0


def check(folder: Path, wanted: str, settings: Settings) -> None:
    """See that a folder is signed and is the model of this digest; else Refused."""
    signing.verify(folder, settings)
    found = model_digest(folder)
    if found != wanted:
        raise Refused(
            f"{folder} is another model than the registry names: digest {found[:16]}… instead of {wanted[:16]}…",
            "the registry's tag or its artifact was altered; register the candidate again",
        )


def verified_copy(settings: Settings, wanted: str) -> Path | None:
    """The served copy of this digest if there is one that verifies; needs no registry."""
    target = _place(settings, wanted)
    try:
        check(target, wanted, settings)
    except Refused:
        return None
    return target


def materialise(settings: Settings, wanted: str, download: Callable[[Path], None]) -> Path:
    """The verified served copy of this digest, downloaded when it is missing or does not verify.

    Refused when the download does not verify either; nothing is left in its place.
    """
    target = _place(settings, wanted)
    with files.locked(settings.home / "locks" / f"model-{wanted}.lock", LOCK_SECONDS):
        if target.exists() and verified_copy(settings, wanted):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".staging-"))
        try:
            download(staging)
            check(staging, wanted, settings)
            shutil.rmtree(target, ignore_errors=True)
            files.publish_folder(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


def _place(settings: Settings, wanted: str) -> Path:
    """The digest comes from a tag that anybody may set: it must not be able to name another folder."""
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise Refused(f"{wanted!r} is not a model digest", "only versions that were registered by tokka are used")
    return settings.home / "models" / wanted
