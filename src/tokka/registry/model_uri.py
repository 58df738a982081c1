"""A served model's address, `tokka://ENDPOINT/VERSION/DIGEST`, and the files behind it.

KServe calls the storage container that claims `tokka://` with the address and a folder, before a predictor starts.
Version and digest are in it because KServe takes two predictors of one address for the same model.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from tokka import files
from tokka.errors import Refused, UsageError
from tokka.settings import Settings

SCHEME = "tokka://"
_FORM = re.compile(rf"{SCHEME}(?P<endpoint>[^/]+)/(?P<version>\d+)/(?P<digest>[0-9a-f]{{64}})")


class ModelUri(NamedTuple):
    """One version of an endpoint's model, with the digest that its folder must have."""

    endpoint: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.endpoint}/{self.version}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> "ModelUri":
        """Read an address; UsageError when it is none."""
        if found := _FORM.fullmatch(text):
            return cls(**found.groupdict())
        raise UsageError(f"{text!r} is no address of a model", f"the form is {SCHEME}ENDPOINT/VERSION/DIGEST")


def fetch_model(uri: str, folder: Path, settings: Settings) -> ModelUri:
    """Put a model's files into a folder, verified by signature and digest.

    Refused, and the folder left as it was, when the registry names another digest for this version, or the files are
    not what was signed; TokkaError when MLflow does not answer.
    """
    # A model server needs the form of the address alone.
    from tokka.params import parse_params
    from tokka.registry.publish import fetch_version

    wanted = ModelUri.parse(uri)
    params = parse_params({"registry": {"model": wanted.endpoint}})
    found = fetch_version(wanted.version, params, settings)
    if found.name != wanted.digest:
        raise Refused(
            f"version {wanted.version} of {wanted.endpoint} has the digest {found.name[:16]}… in its signed evidence, "
            f"and not {wanted.digest[:16]}…",
            "the InferenceService is of another registry, or was altered",
        )
    _copy(found, folder)
    return wanted


def _copy(source: Path, folder: Path) -> None:
    """File by file, each whole: the folder is a mount of its own, which cannot be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as place:
        staged = Path(place) / "model"
        shutil.copytree(source, staged)
        for path in sorted(staged.iterdir()):
            target = folder / path.name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            path.replace(target)
    files.sync_folder(folder)
