import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka import files
from tokka.errors import TokkaError
from tokka.store import StepStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_the_digest_of_a_value_does_not_depend_on_the_order_of_its_keys(tree):
    assert files.digest_json(tree) == files.digest_json(dict(reversed(tree.items())))


def test_no_reader_agrees_on_nan_so_that_none_is_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"metric": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, 2)
    assert files.read_json(path) == 1


def sealed(folder):
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "deep" / "b").write_bytes(b"2")
    return files.seal(folder)


def damage(folder, what):
    match what:
        case "changed":
            (folder / "a").write_bytes(b"x")
        case "missing":
            (folder / "a").unlink()
        case "added":
            (folder / "c").write_bytes(b"3")
        case "linked":
            (folder / "a").unlink()
            (folder / "a").symlink_to(folder / "deep" / "b")
        case "no manifest":
            (folder / files.MANIFEST).unlink()


@pytest.mark.parametrize("what", ["changed", "missing", "added", "linked", "no manifest"])
def test_a_sealed_folder_notices_every_change(tmp_path, what):
    digest = sealed(tmp_path / "x")
    assert files.verify(tmp_path / "x") == digest
    damage(tmp_path / "x", what)
    with pytest.raises(TokkaError):
        files.verify(tmp_path / "x")


@pytest.mark.parametrize("what", ["changed", "missing", "added"])
def test_the_store_throws_away_what_does_not_verify(tmp_path, what):
    store, made = StepStore(tmp_path / "store"), tmp_path / "made"
    made.mkdir()
    (made / "a").write_bytes(b"1")
    assert not store.fetch("finetune", "key", tmp_path / "out")
    store.save("finetune", "key", made)
    assert store.fetch("finetune", "key", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    damage(tmp_path / "store" / "finetune" / "key", what)
    assert not store.fetch("finetune", "key", tmp_path / "again")
    store.save("finetune", "key", made)
    assert store.fetch("finetune", "key", tmp_path / "again")


def test_a_secret_file_is_closed_to_others_from_its_first_byte_on(tmp_path):
    files.write_bytes(tmp_path / "key", b"secret", mode=0o600)
    files.write_bytes(tmp_path / "state", b"quick", sync=False)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").read_bytes() == b"quick"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "state"]


def test_a_lock_has_one_holder_and_says_which_file_is_held(tmp_path):
    lock = tmp_path / "new" / "a.lock"
    with files.locked(lock), pytest.raises(TokkaError, match=r"a\.lock is held"), files.locked(lock, timeout=0.05):
        pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder, expected a file"),
        (lambda path: path.symlink_to(path.with_name("gone")), "is a link to .*gone, which does not exist"),
        (lambda path: None, "does not exist"),
        (os.mkfifo, "is no file"),
    ],
)
def test_what_is_no_file_is_named(tmp_path, make, words):
    make(tmp_path / "rows.csv")
    with pytest.raises(TokkaError, match=words):
        files.check_readable(tmp_path / "rows.csv")


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o000, 0o755), (0o644, 0o000)])
def test_a_file_that_this_user_may_not_read_is_named(tmp_path, file_mode, folder_mode):
    path = tmp_path / "theirs" / "rows.csv"
    files.write_text(path, "text\n")
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    is_root = os.geteuid() == 0
    try:
        if is_root:  # who may read everything
            os.seteuid(65534)
        with pytest.raises(TokkaError, match=r"rows\.csv: Permission denied") as caught:
            files.check_readable(path)
        assert f"uid {os.getuid()}" in caught.value.hint
    finally:
        if is_root:
            os.seteuid(0)
        path.parent.chmod(0o755)
