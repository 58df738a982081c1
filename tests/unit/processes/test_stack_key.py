"""The stack's secret, and what is made of it."""

import pytest

from tokka.errors import TokkaError
from tokka.processes.stack_key import FILE, VOUCHED_S, StackKey


def test_it_is_made_once_for_its_owner_alone_and_says_which_ids_were_issued(tmp_path):
    key = StackKey.of(tmp_path)
    assert StackKey.of(tmp_path) == key == StackKey.read(tmp_path / FILE)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    name = key.issue("91cadb89-593c-4055-a65d-b08e97436e0e")
    assert key.issued(name) and key.issued(f"{name}.3")
    assert not any(map(key.issued, ("", "x", name[:-1], name + "0", name.lower(), "é-é")))
    assert key.opens(key.internal) and not key.opens("é")


def test_one_that_others_may_read_or_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TokkaError):
        StackKey.read(tmp_path / FILE)
    StackKey.of(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(TokkaError, match="others may read it"):
        StackKey.of(tmp_path)


def test_a_caller_is_vouched_for_as_who_it_is_and_for_some_minutes(tmp_path):
    key, now = StackKey.of(tmp_path), 1_000_000.0
    told = key.vouch("key-1", False, now)
    assert all(key.vouches(told, "key-1", False, now + apart) for apart in (-VOUCHED_S, 0.0, VOUCHED_S))
    assert not key.vouches(told, "key-1", True, now) and not key.vouches(told, "key-2", False, now)
    assert not key.vouches(told, "key-1", False, now + 3 * VOUCHED_S) and not key.vouches("é", "key-1", False, now)
    assert not StackKey.of(tmp_path / "other").vouches(told, "key-1", False, now)


def test_one_that_a_pod_mounts_may_be_its_groups_but_not_short(tmp_path):
    StackKey.of(tmp_path)
    (tmp_path / FILE).chmod(0o440)
    assert StackKey.read(tmp_path / FILE, mounted=True)
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(TokkaError, match="3 bytes are no secret"):
        StackKey.read(tmp_path / "short", mounted=True)
