"""Hooks in real repositories: what they write, what they cost, and that no push fails by them."""

import os
import statistics
import subprocess
import time

import pytest

from tests.fixtures.repositories import NAME, Repository, git, settings_of
from tests.fixtures.waiting import wait_for
from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import UsageError
from tokka.triggers import hooks
from tokka.triggers.queue import Queue


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "git")


@pytest.fixture
def place(tmp_path):
    return hooks.spool(settings_of(tmp_path))


def written(place, count=1):
    return wait_for(lambda: len(found := sorted(place.glob("*.push"))) >= count and found)


def test_a_push_to_a_bare_repository_is_written_down_for_its_owner_alone(repository, place):
    assert [one.state for one in hooks.install(repository.bare, NAME, place)] == ["ours"]
    commit = repository.commit({"README.md": "two"})
    git(repository.work, "tag", "v1")
    repository.push("main", "v1")
    (path,) = written(place)
    assert path.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    (push,) = hooks.read(path)
    assert (push.repository, push.ref, push.before, push.after) == (NAME, "refs/heads/main", repository.first, commit)


def test_a_commit_a_merge_and_a_rebase_in_a_checkout_are_written_down(repository, place):
    hooks.install(repository.work, NAME, place)
    commit = repository.commit({"README.md": "two"})
    (path,) = written(place)
    assert [(one.ref, one.before, one.after) for one in hooks.read(path)] == [("refs/heads/main", "", commit)]
    amended = repository.commit({}, "--amend")
    git(repository.work, "checkout", "-q", "-b", "side", "HEAD~1")
    repository.commit({"side": "1"})
    git(repository.work, "checkout", "-q", "main")
    git(repository.work, "merge", "-q", "side")
    wanted = {commit, amended, *(git(repository.work, "rev-parse", name) for name in ("side", "HEAD"))}
    wait_for(lambda: {one.after for path in place.glob("*.push") for one in hooks.read(path)} == wanted)


def test_a_hook_that_was_there_goes_on_and_comes_back(repository, place, tmp_path):
    path, seen = repository.bare / "hooks" / "post-receive", tmp_path / "seen"
    path.write_text(f"#!/bin/sh\ncat > {seen}\necho said by the earlier hook\n")
    path.chmod(0o755)
    before = path.read_text()
    assert [one.state for one in hooks.install(repository.bare, NAME, place)] == ["chained"]
    assert [one.state for one in hooks.install(repository.bare, NAME, place)] == ["chained"]
    repository.commit({"README.md": "two"})
    assert "said by the earlier hook" in git(repository.work, "push", "origin", "main", check=False)
    assert seen.read_text().endswith("refs/heads/main\n")
    written(place)
    assert [one.state for one in hooks.uninstall(repository.bare)] == ["foreign"]
    assert path.read_text() == before
    assert hooks.uninstall(repository.work)[0].state == "absent"


@pytest.mark.parametrize("harm", ["no folder", "read only", "a file in its place"])
def test_no_push_fails_when_nothing_can_be_written(repository, place, harm):
    hooks.install(repository.bare, NAME, place)
    if harm == "read only":
        place.chmod(0o500)
    else:
        place.rmdir()
    if harm == "a file in its place":
        place.write_text("")
    repository.commit({"README.md": "two"})
    assert repository.push() == ""


def test_a_folder_with_blanks_and_quotes_in_its_name_will_do(repository, tmp_path):
    place = tmp_path / "it's a $(touch /tmp/never) folder"
    hooks.install(repository.bare, NAME, place)
    repository.commit({"README.md": "two"})
    repository.push()
    written(place)


def test_what_a_hook_wrote_is_queued_once_and_rubbish_is_not(repository, place, record_url):
    hooks.install(repository.bare, NAME, place)
    repository.commit({"README.md": "two"})
    repository.push()
    written(place)
    (place / "0-rubbish.push").write_bytes(b"\xff\xfe\n no no no\n1 2 refs/heads/main\n")
    (place / "1-empty.push").touch()
    queue = Queue(RecordDatabase(record_url))
    assert hooks.drain(place, queue) == 1
    assert not list(place.glob("*.push"))
    assert hooks.drain(place, queue) == 0
    assert [entry.push.source for entry in queue.due()] == ["hook"]


def test_what_is_no_repository_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no git repository"):
        hooks.install(tmp_path, NAME, tmp_path / "spool")


def test_the_hook_takes_milliseconds_and_no_python(repository, place):
    hooks.install(repository.bare, NAME, place)
    path = repository.bare / "hooks" / "post-receive"
    assert "python" not in path.read_text()
    took = []
    for number in range(30):
        line = f"{repository.first} {number:040x} refs/heads/main\n"
        began = time.perf_counter()
        subprocess.run([path], input=line, text=True, cwd=repository.bare, env=dict(os.environ), check=True)
        took.append(time.perf_counter() - began)
    written(place, 30)
    print(f"the hook: median {statistics.median(took) * 1000:.1f} ms, longest {max(took) * 1000:.1f} ms of 30")
    # A Python that starts takes longer than this by itself; a busy machine is allowed for.
    assert statistics.median(took) < 0.1
