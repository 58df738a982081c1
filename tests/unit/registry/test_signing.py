"""A signature holds for exactly the folder that was signed, with exactly the key that signed it."""

import base64
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.registry.conftest import make_model, make_settings
from tokka.errors import Refused, TokkaError
from tokka.registry import signing
from tokka.settings import Settings


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    root = tmp_path_factory.mktemp("signing")
    settings = make_settings(root / "home")
    folder = make_model(root / "model")
    (folder / ".gitattributes").write_text("signed as well")
    signing.sign(folder, settings)
    return folder, settings


@pytest.fixture
def copy(signed: tuple[Path, Settings], tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed[0], tmp_path / "copy"))


def test_what_was_signed_verifies_also_under_another_name(copy: Path, signed: tuple[Path, Settings]) -> None:
    signing.verify(copy, signed[1])


def change_byte(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"X")


def add_hidden_file(folder: Path) -> None:
    (folder / ".gitignore").write_text("")


def add_pickle(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "weights.pkl").write_bytes(b"\x80\x04.")


def change_git_file(folder: Path) -> None:
    (folder / ".gitattributes").write_text("changed")


def remove_file(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def link_file(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    (folder / "tokenizer.json").rename(target)
    (folder / "tokenizer.json").symlink_to(target)


def link_signature(folder: Path) -> None:
    target = folder.parent / "elsewhere.sig"
    (folder / signing.SIGNATURE).rename(target)
    (folder / signing.SIGNATURE).symlink_to(target)


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def remove_signature(folder: Path) -> None:
    (folder / signing.SIGNATURE).unlink()


def break_signature(folder: Path) -> None:
    path = folder / signing.SIGNATURE
    path.write_text(
        path.read_text().replace('"payload": "', '"payload": "AAAA').replace('"payload":"', '"payload":"AAAA')
    )


def empty_signature(folder: Path) -> None:
    (folder / signing.SIGNATURE).write_bytes(b"")


def rename_file(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer2.json")


@pytest.mark.parametrize(
    "tamper",
    [
        change_byte,
        add_hidden_file,
        add_pickle,
        change_git_file,
        remove_file,
        rename_file,
        link_file,
        link_signature,
        add_pipe,
        remove_signature,
        break_signature,
        empty_signature,
    ],
)
def test_tampering_is_refused(tamper: object, copy: Path, signed: tuple[Path, Settings]) -> None:
    assert callable(tamper)
    tamper(copy)
    with pytest.raises(Refused):
        signing.verify(copy, signed[1])


def test_a_signature_by_another_key_is_refused(copy: Path, signed: tuple[Path, Settings], tmp_path: Path) -> None:
    stranger = make_settings(tmp_path / "stranger")
    signing.sign(copy, stranger)
    signing.verify(copy, stranger)
    with pytest.raises(Refused, match="not what was signed"):
        signing.verify(copy, signed[1])


def test_a_missing_folder_is_refused(signed: tuple[Path, Settings], tmp_path: Path) -> None:
    with pytest.raises(Refused):
        signing.verify(tmp_path / "absent", signed[1])


def test_a_folder_with_a_link_is_not_signed(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(Refused, match="link"):
        signing.sign(folder, make_settings(tmp_path / "home"))


def test_the_key_is_made_once_and_closed_to_others(signed: tuple[Path, Settings], tmp_path: Path) -> None:
    keys = signed[1].home / "keys"
    before = (keys / signing.PRIVATE_KEY).read_bytes()
    signing.sign(make_model(tmp_path / "other"), signed[1])
    assert (keys / signing.PRIVATE_KEY).read_bytes() == before
    assert (keys / signing.PRIVATE_KEY).stat().st_mode & 0o777 == 0o600
    assert keys.stat().st_mode & 0o077 == 0


def test_a_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "home")
    folder = make_model(tmp_path / "model")
    signing.sign(folder, settings)
    (settings.home / "keys" / signing.PRIVATE_KEY).chmod(0o644)
    with pytest.raises(TokkaError, match="0644"):
        signing.sign(folder, settings)


def test_a_lost_private_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "home")
    folder = make_model(tmp_path / "model")
    signing.sign(folder, settings)
    (settings.home / "keys" / signing.PRIVATE_KEY).unlink()
    signing.verify(folder, settings)
    with pytest.raises(TokkaError, match="nothing can be signed"):
        signing.sign(folder, settings)


def test_without_a_public_key_nothing_verifies(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="no key"):
        signing.verify(copy, make_settings(tmp_path / "empty"))


def test_the_signing_library_agrees_about_what_was_signed(copy: Path, signed: tuple[Path, Settings]) -> None:
    from model_signing import hashing, verifying

    listed = hashing.Config().set_ignored_paths(paths=[signing.SIGNATURE], ignore_git_paths=False)
    key = signed[1].home / "keys" / signing.PUBLIC_KEY
    checker = verifying.Config().use_elliptic_key_verifier(public_key=key).set_hashing_config(listed)
    checker.verify(copy, copy / signing.SIGNATURE)
    assert set(signing.verify(copy, signed[1])) == {one.name for one in copy.iterdir()} - {signing.SIGNATURE}


def test_a_statement_that_was_altered_is_refused(copy: Path, signed: tuple[Path, Settings]) -> None:
    """The list of files is changed with the file, so that only the signature itself can tell."""
    path = copy / signing.SIGNATURE
    bundle = json.loads(path.read_text())
    before = hashlib.sha256((copy / "tokenizer.json").read_bytes()).hexdigest()
    (copy / "tokenizer.json").write_text("another")
    after = hashlib.sha256(b"another").hexdigest()
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode()
    assert before in payload
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(before, after).encode()).decode()
    path.write_text(json.dumps(bundle))
    with pytest.raises(Refused, match="not what was signed"):
        signing.verify(copy, signed[1])


def in_pod(tmp_path: Path, source: Settings) -> Settings:
    """A pod that is given both halves of a key of elsewhere, as files."""
    for key in (source.signing_key, source.verify_key):
        (tmp_path / key.name).write_bytes(key.read_bytes())
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "TOKKA_SIGNING_KEY": str(tmp_path / signing.PRIVATE_KEY)}
    return make_settings(tmp_path / "pod", **environment, TOKKA_VERIFY_KEY=str(tmp_path / signing.PUBLIC_KEY))


def test_a_pod_signs_with_the_key_it_is_given(signed: tuple[Path, Settings], tmp_path: Path) -> None:
    pod, folder = in_pod(tmp_path, signed[1]), make_model(tmp_path / "model")
    signing.check_pair(pod)
    signing.sign(folder, pod)
    signing.verify(folder, signed[1])
    assert not (pod.home / "keys").exists()


def test_a_pod_makes_no_key_of_its_own(signed: tuple[Path, Settings], tmp_path: Path) -> None:
    pod, folder = in_pod(tmp_path, signed[1]), make_model(tmp_path / "model")
    pod.signing_key.unlink()
    for use in (lambda: signing.check_pair(pod), lambda: signing.sign(folder, pod)):
        with pytest.raises(TokkaError, match="TOKKA_SIGNING_KEY"):
            use()
    pod.verify_key.unlink()
    with pytest.raises(TokkaError, match="TOKKA_VERIFY_KEY"):
        signing.check_public(pod)
    assert not pod.signing_key.exists() and not (pod.home / "keys").exists()


def test_a_private_key_of_another_public_one_signs_nothing(signed: tuple[Path, Settings], tmp_path: Path) -> None:
    pod, stranger = in_pod(tmp_path, signed[1]), make_settings(tmp_path / "stranger")
    signing.sign(make_model(tmp_path / "model"), stranger)
    pod.verify_key.write_bytes(stranger.verify_key.read_bytes())
    with pytest.raises(TokkaError, match="not the other half"):
        signing.check_pair(pod)
    pod.verify_key.write_text("no key")
    with pytest.raises(TokkaError, match="not a public key"):
        signing.check_public(pod)
