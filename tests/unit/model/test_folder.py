"""A model folder is what tokka.json says, byte for byte."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tokka.errors import Refused, UsageError
from tokka.model.folder import FILES, model_digest, read_model_config, verify_model
from tokka.model.predictor import load_predictor

Trained = tuple[Path, dict[str, Any]]


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "model"))


def test_holds_what_the_contract_lists(trained: Trained) -> None:
    assert {path.name for path in trained[0].iterdir()} == {*FILES, "tokka.json"}
    assert trained[1]["digest"] == model_digest(trained[0])


def test_digest_is_of_content_and_not_of_the_signature(folder: Path, trained: Trained) -> None:
    (folder / "model.sig").write_text("signed")
    assert model_digest(folder) == model_digest(trained[0])


@pytest.mark.parametrize("name", [*FILES, "tokka.json"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_changed_byte_is_refused(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(Exception) as caught:
        load_predictor(folder)
    assert caught.type.__module__ == "tokka.errors"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Refused, match=name):
        verify_model(folder)


@pytest.mark.parametrize("name", ["evil.pkl", "sub/pytorch_model.bin", "notes.txt", ".hidden"])
def test_an_extra_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(Refused, match="does not belong"):
        load_predictor(folder)


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (folder / "tokenizer.json").rename(target)
    (folder / "tokenizer.json").symlink_to(target)
    with pytest.raises(Refused, match="no plain file"):
        verify_model(folder)


def test_an_added_key_is_refused_even_with_a_fresh_seal(folder: Path) -> None:
    from tokka import files

    tree = json.loads((folder / "tokka.json").read_text())
    del tree["seal"]
    tree["loader"] = "os.system"
    files.write_json(folder / "tokka.json", {**tree, "seal": files.digest_json(tree)})
    with pytest.raises(Refused, match="loader"):
        read_model_config(folder)


def test_no_model_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no model folder"):
        load_predictor(tmp_path)


def test_a_form_that_was_not_exported(folder: Path, tmp_path: Path) -> None:
    from tokka.model.folder import write_model_config

    config = read_model_config(folder).model_dump(mode="json", exclude={"files"})
    for name in ("model.onnx", "model.int8.onnx"):
        (folder / name).unlink()
    write_model_config(folder, {**config, "serve": "torch"})
    assert load_predictor(folder).form == "torch"
    with pytest.raises(UsageError, match="no int8 form"):
        load_predictor(folder, "int8")
