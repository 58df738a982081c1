"""The model folder: tokka.json, what it lists, and nothing else; a changed byte is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokka import files
from tokka.errors import Refused

CONFIG = "tokka.json"
SIGNATURE = "model.sig"
FILES = ("model.safetensors", "config.json", "tokenizer.json", "model.onnx", "model.int8.onnx")
Form = Literal["int8", "fp32", "torch"]
FORM_FILES: dict[Form, str] = {"torch": "model.safetensors", "fp32": "model.onnx", "int8": "model.int8.onnx"}


class Strict(BaseModel):
    """Frozen, and no key that we did not write."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BaseName(Strict):
    """The general model that this one was made from."""

    name: str
    digest: str


class Entry(Strict):
    """A file as it was when the model was made."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class ModelConfig(Strict):
    """tokka.json: all that serving has to know.

    temperature divides the logits of a classifier; feature_scale multiplies the unit-length pooled vector; padding is
    the id that fills a row. precision is what the model was trained in: `tokka reproduce` takes the same. strategy is
    what of the base model was trained; frozen: the head alone.
    """

    format: Literal["tokka/1"] = "tokka/1"
    task: Literal["classification", "regression"]
    labels: tuple[str, ...]
    text_pair: bool
    max_tokens: int = Field(ge=4, le=512)
    pooling: Literal["mean", "cls"]
    feature_scale: float = Field(gt=0)
    temperature: float = Field(gt=0)
    token_types: bool
    padding: int = Field(ge=0)
    base: BaseName
    # Of what it was trained on: the gate refuses a model that is judged on other data.
    data_digest: str = ""
    precision: Literal["bf16", "32", ""] = ""
    strategy: str = ""
    # By level of confidence: the least probability of a class in the prediction set.
    conformal: dict[str, float] = {}
    serve: Form
    files: dict[str, Entry]


def write_model_config(folder: Path, config: Mapping[str, object]) -> ModelConfig:
    """List the files of a folder and write tokka.json, sealed by a digest of its own content."""
    present = [name for name in FILES if (folder / name).is_file()]
    entries = {
        name: Entry(sha256=files.digest_file(folder / name), bytes=(folder / name).stat().st_size) for name in present
    }
    model = ModelConfig.model_validate({**config, "files": entries})
    tree = model.model_dump(mode="json")
    files.write_json(folder / CONFIG, {**tree, "seal": files.digest_json(tree)})
    return model


def read_model_config(folder: Path) -> ModelConfig:
    """Read tokka.json and check its seal; Refused when it is missing, was altered, or holds what we did not write."""
    if not (folder / CONFIG).is_file():
        raise Refused(f"{folder} is no model folder: it has no {CONFIG}", "name the output of finetune")
    tree = files.read_json(folder / CONFIG)
    seal = tree.pop("seal", None) if isinstance(tree, dict) else None
    if seal is None or seal != files.digest_json(tree):
        raise Refused(f"{folder / CONFIG} was altered after the model was made", "fetch or train the model again")
    try:
        return ModelConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"{folder / CONFIG}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def verify_model(folder: Path, digests: Mapping[str, str] | None = None) -> ModelConfig:
    """Check that the folder holds exactly what tokka.json lists, byte for byte (a signature may lie beside it).

    `digests` are the sha256 of its files by name, if just read. Refused when one is extra, missing or changed.
    """
    config = read_model_config(folder)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    if unknown := (set(config.files) - set(FILES)) | (present - set(config.files) - {CONFIG, SIGNATURE}):
        raise Refused(f"{folder / min(unknown)} does not belong in a model folder", "remove it")
    for name, entry in config.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise Refused(f"{path} is missing or no plain file", "fetch or train the model again")
        digest = digests.get(name) if digests else files.digest_file(path)
        if path.stat().st_size != entry.bytes or digest != entry.sha256:
            raise Refused(f"{path} has changed since the model was made", "fetch or train the model again")
    return config


def model_digest(folder: Path) -> str:
    """The identity of a model: 64 hexadecimal digits over tokka.json and, through it, every file that verifies.

    The signature is not part of it, so that signing does not change what it signs.
    """
    return config_digest(verify_model(folder))


def config_digest(config: ModelConfig) -> str:
    """The digest that `model_digest` gives for a folder that verifies against this tokka.json."""
    # A field that a later Tokka adds, with its default, must not rename the models that were made before.
    return files.digest_json(config.model_dump(mode="json", exclude_unset=True))
