"""The worker over real repositories: one run per content, whatever is pushed, and whatever dies."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.repositories import NAME, Repository, git, params, settings_of
from tests.fixtures.waiting import wait_for
from tokka import failpoints
from tokka.notifications.outbox import Outbox
from tokka.params import parse_params
from tokka.triggers import asking, hooks
from tokka.triggers.decision import Push
from tokka.triggers.runner import Ran
from tokka.triggers.worker import Worker

PROMOTED = {"key": "r" * 32, "version": "3", "canary": {"verdict": "promoted", "reasons": ["better"]}}
LATER = 100_000.0


class World:
    """A repository, the worker's project, and what was started: (content key, commit)."""

    def __init__(self, tmp_path, record_url):
        self.repository = Repository(tmp_path / "git")
        self.root = tmp_path / "project"
        self.root.mkdir()
        self.settings = settings_of(self.root, TOKKA_RECORD_URL=record_url)
        url = str(self.repository.bare)
        self.params = parse_params({"triggers": {"repositories": [{"name": NAME, "url": url, "branches": ["*"]}]}})
        self.started, self.answers = [], []

    def start(self, tree, found, key, commit):
        assert git(tree, "rev-parse", "HEAD") == commit
        assert git(tree, "status", "--porcelain") == ""
        self.started.append((key, commit))
        return self.answers.pop(0) if self.answers else Ran(code=0, told=PROMOTED)

    def worker(self):
        return Worker(self.settings, self.params, self.start)

    def install(self):
        hooks.install(self.repository.bare, NAME, hooks.spool(self.settings))
        self.work()

    def work(self):
        self.worker().run(once=True)
        keys = [key for key, _ in self.started]
        assert len(set(keys)) == len(keys) or self.retried
        return [commit for _, commit in self.started]

    retried = False

    def change(self, epochs, push=True, **more):
        commit = self.repository.commit({"params.yaml": params(finetuning={"epochs": epochs})}, **more)
        if push:
            self.repository.push()
        return commit

    def states(self):
        return {entry.push.after: (entry.state, entry.reason) for entry in self.worker().queue.newest(1000)}


@pytest.fixture
def world(tmp_path, record_url):
    return World(tmp_path, record_url)


@pytest.fixture
def laptop(tmp_path):
    return World(tmp_path, f"sqlite:///{tmp_path}/record.db")


def test_what_was_there_before_is_not_trained_and_the_next_change_is(world):
    world.install()
    assert world.work() == []
    world.repository.commit({"README.md": "two", "docs/guide.md": "more"})
    world.repository.push()
    world.work()
    commit = world.change(1)
    assert world.work() == [commit]
    state, reason = world.states()[commit]
    assert (state, reason) == ("done", "params.yaml finetuning changed")


def test_a_comment_a_readme_and_an_empty_commit_start_nothing(laptop):
    laptop.install()
    repository = laptop.repository
    text = (repository.work / "params.yaml").read_text()
    told = [repository.commit({"params.yaml": f"# of the data\n{text}"}), repository.commit({"README.md": "x"}),
            repository.commit({})]  # fmt: skip
    for commit in told:
        repository.push("-f", f"{commit}:refs/heads/main")
        assert laptop.work() == []
        assert laptop.states()[commit] == ("ignored", "nothing that a training follows from has changed")


def test_a_revert_an_amended_message_and_another_branch_start_nothing_again(world):
    world.install()
    first = world.change(1)
    world.work()
    second = world.change(2)
    world.work()
    git(world.repository.work, "revert", "--no-edit", "HEAD")
    world.repository.push()
    reverted = git(world.repository.work, "rev-parse", "HEAD")
    world.work()
    amended = world.repository.commit({}, "--amend", "--message", "another message")
    world.repository.push("--force", "main")
    git(world.repository.work, "checkout", "-q", "-b", "side")
    world.repository.push("side")
    assert world.work() == [first, second]
    states = world.states()
    assert "the same content was decided on before: promoted as version 3" in states[reverted][1]
    assert states[amended][0] == "ignored"


def test_a_force_push_takes_back_what_was_not_started_yet(laptop):
    laptop.install()
    gone = laptop.change(1)
    git(laptop.repository.work, "reset", "-q", "--hard", "HEAD~1")
    kept = laptop.repository.commit({"params.yaml": params(finetuning={"epochs": 2})})
    laptop.repository.push("--force", "main")
    assert laptop.work() == [kept]
    assert laptop.states()[gone][0] == "ignored"


def test_a_branch_that_is_deleted_starts_nothing_and_may_come_back(laptop):
    laptop.install()
    git(laptop.repository.work, "checkout", "-q", "-b", "side")
    commit = laptop.change(1, push=False)
    laptop.repository.push("side")
    laptop.repository.push("--delete", "side")
    assert laptop.work() == []
    laptop.repository.push("side")
    assert laptop.work() == [commit]


def test_a_merge_trains_what_it_brings(laptop):
    laptop.install()
    git(laptop.repository.work, "checkout", "-q", "-b", "side")
    laptop.change(1, push=False)
    git(laptop.repository.work, "checkout", "-q", "main")
    laptop.repository.commit({"README.md": "meanwhile"})
    git(laptop.repository.work, "merge", "-q", "--no-edit", "side")
    laptop.repository.push()
    assert laptop.work() == [git(laptop.repository.work, "rev-parse", "HEAD")]


def test_a_missed_hook_is_found_by_looking(world):
    world.work()
    commit = world.change(1)
    assert world.work() == [commit]
    (entry,) = world.worker().queue.newest()
    assert entry.push.source == "poll"


def test_an_older_commit_that_is_told_later_does_not_take_the_place_of_a_newer_one(laptop):
    laptop.work()
    older, newer = laptop.change(1, push=False), laptop.change(2)
    queue = laptop.worker().queue
    main = {"repository": NAME, "ref": "refs/heads/main", "source": "webhook"}
    queue.put(Push(before=older, after=newer, **main))
    laptop.work()
    queue.put(Push(before=laptop.repository.first, after=older, **main))
    assert laptop.work() == [newer]
    assert laptop.states()[older] == ("ignored", "a newer commit of the branch was decided on before")


def test_every_commit_that_was_pushed_by_itself_is_trained_in_order(world):
    world.install()
    pushed = [world.change(epochs) for epochs in range(1, 6)]
    wait_for(lambda: len(list(hooks.spool(world.settings).glob("*.push"))) == 5)
    assert world.work() == pushed


def test_concurrent_pushes_lose_none_and_train_none_twice(world):
    world.install()
    clones = {name: world.repository.clone(f"clone-{name}") for name in range(6)}

    def push(name, folder):
        git(folder, "checkout", "-q", "-b", f"branch-{name}")
        # Two branches each hold the same content.
        text = params(finetuning={"epochs": 1 + name // 2})
        world.repository.commit({"params.yaml": text, "README.md": str(name)}, at=folder)
        world.repository.push(f"branch-{name}", at=folder)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(push, clones, clones.values()))
    assert len(world.work()) == 3
    assert sorted(state for state, _ in world.states().values()) == ["done"] * 3 + ["ignored"] * 3


def test_of_two_workers_one_works_and_the_other_takes_over(laptop):
    laptop.install()
    entered, go_on = threading.Event(), threading.Event()
    commit = laptop.change(1)

    def slow(*arguments):
        entered.set()
        assert go_on.wait(30)
        return World.start(laptop, *arguments)

    first, second = Worker(laptop.settings, laptop.params, slow), laptop.worker()
    threads = [threading.Thread(target=one.run) for one in (first, second)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    go_on.set()
    wait_for(lambda: laptop.states().get(commit, ("",))[0] == "done")
    first.end()
    threads[0].join()
    later = laptop.change(2)
    wait_for(lambda: laptop.states().get(later, ("",))[0] == "done")
    second.end()
    threads[1].join()
    assert [one for _, one in laptop.started] == [commit, later]


DIES = """
import sys
from tests.unit.triggers.test_worker import *
root, bare, url, log = sys.argv[1:]
settings = settings_of(Path(root), TOKKA_RECORD_URL=url)
params = parse_params({"triggers": {"repositories": [{"name": NAME, "url": bare, "branches": ["*"]}]}})
def start(tree, found, key, commit):
    # As a run or a submission does: by its key there is one, however often it is asked for.
    Path(log, key).touch()
    return Ran(code=0, told=PROMOTED)
Worker(settings, params, start).run(once=True)
"""


@pytest.mark.parametrize("site", ["trigger:before:1", "trigger:after:1", "trigger-record:after:1", "record:none:1"])
def test_a_worker_that_is_killed_between_start_and_record_starts_nothing_twice(world, tmp_path, site):
    world.install()
    commit = world.change(1)
    plan, log = tmp_path / "plan", tmp_path / "log"
    plan.write_text(site)
    log.mkdir()
    command = [sys.executable, "-c", f"from pathlib import Path\n{DIES}", world.root, world.repository.bare,
               world.settings.record_url, log]  # fmt: skip
    environment = {**os.environ, failpoints.VARIABLE: str(plan)}
    codes = [subprocess.run(command, env=environment, check=False).returncode for _ in range(2)]
    assert codes == [0 if "none" in site else -signal.SIGKILL, 0]
    assert len(list(log.iterdir())) == 1
    assert world.states()[commit][0] == "done"
    assert "promoted" in git(world.repository.bare, "notes", "--ref", "tokka", "show", commit)


def test_a_failed_run_is_tried_again_and_then_given_up_until_it_is_pushed_again(laptop):
    laptop.install()
    laptop.retried = True
    failed = Ran(code=1, told={"error": "no disk"})
    laptop.answers = [failed] * 3
    commit = laptop.change(1)
    for _ in range(4):
        laptop.work()
        laptop.worker().queue.record.transact(lambda one: one.exec_driver_sql("UPDATE pushes SET due = 0"))
    assert [one for _, one in laptop.started] == [commit] * 3
    assert laptop.states()[commit] == ("failed", "failed 3 times: no disk")
    # Looking at the branch does not try it again; the next push, of whatever, does.
    again = laptop.repository.commit({"README.md": "try again"})
    laptop.repository.push()
    laptop.work()
    assert laptop.states()[again][0] == "done"


def test_refused_data_and_wrong_params_are_told_and_not_tried_again(laptop):
    laptop.install()
    laptop.answers = [Ran(code=3, told={"error": "validate_data: 900 of 1000 rows are empty"})]
    refused = laptop.change(1)
    wrong = laptop.repository.commit({"params.yaml": "finetuning: {epoch: 1}"})
    laptop.work()
    laptop.repository.push()
    laptop.work()
    assert laptop.states()[refused] == ("refused", "validate_data: 900 of 1000 rows are empty")
    assert "did you mean 'finetuning.epochs'?" in laptop.states()[wrong][1]
    mended = laptop.change(2)
    assert laptop.work() == [refused, mended]


def test_what_starts_nothing_is_told_once_and_why(laptop):
    laptop.install()
    commit = laptop.repository.commit({"README.md": "two"})
    laptop.repository.push()
    for _ in range(2):
        laptop.work()
    (row,) = Outbox(laptop.settings.record_url).rows()
    told = json.loads(row.event)
    assert (row.kind, told["why"]) == ("not_retrained", ["nothing that a training follows from has changed"])
    assert told["what"].startswith(f"{commit[:12]} was pushed to main of {NAME}")


def test_a_repository_that_is_away_is_waited_for(laptop):
    laptop.install()
    commit = laptop.change(1)
    away = laptop.repository.bare.rename(laptop.repository.bare.with_suffix(".away"))
    assert laptop.work() == []
    away.rename(laptop.repository.bare)
    laptop.worker().queue.record.transact(lambda one: one.exec_driver_sql("UPDATE pushes SET due = 0"))
    assert laptop.work() == [commit]


def test_what_is_not_named_starts_nothing(laptop):
    laptop.install()
    queue, other = laptop.worker().queue, {"before": "", "after": laptop.repository.first}
    queue.put(Push(repository="other/project", ref="refs/heads/main", **other))
    queue.put(Push(repository=NAME, ref="refs/tags/v1", **other))
    assert laptop.work() == []
    assert {entry.state for entry in queue.newest()} == {"ignored"}


def test_a_life_of_pushes_by_a_seeded_generator_has_one_run_per_content(world):
    world.install()
    chance, work = random.Random(17), world.repository.work
    for _ in range(25):
        kind = chance.choice(["change", "change", "readme", "amend", "revert", "reset", "work"])
        if kind == "change":
            world.change(chance.randint(1, 6), push=False)
        elif kind == "readme":
            world.repository.commit({"README.md": str(chance.random())})
        elif kind == "amend":
            world.repository.commit({}, "--amend", "--message", str(chance.random()))
        elif kind == "revert":
            git(work, "revert", "--no-edit", "HEAD", check=False)
            git(work, "revert", "--abort", check=False)
        elif kind == "reset" and int(git(work, "rev-list", "--count", "HEAD")) > 2:
            git(work, "reset", "-q", "--hard", "HEAD~1")
        world.repository.push("--force", "main")
        if kind == "work":
            world.work()
    # All hooks have written: the branch itself says what is left.
    world.work()
    head = git(work, "rev-parse", "HEAD")
    assert world.worker().queue.heads(NAME)["refs/heads/main"].seen == head
    assert world.started


def test_trigger_decides_on_the_projects_own_repository_and_starts_it_once(tmp_path):
    world = World(tmp_path, f"sqlite:///{tmp_path}/record.db")
    settings = settings_of(world.repository.work, TOKKA_HOME=str(tmp_path / "home"))
    plain = parse_params({})
    commit = world.change(1)
    dry = asking.ask(settings, plain, before="HEAD~1", dry=True, start=world.start)
    assert (dry["state"], dry["changes"]) == ("would start", ("params.yaml finetuning changed",))
    assert world.started == []
    told = asking.ask(settings, plain, before="HEAD~1", start=world.start)
    assert (told["state"], told["verdict"], told["commit"]) == ("done", "promoted", commit)
    again = asking.ask(settings, plain, before="HEAD~1", start=world.start)
    assert again["state"] == "done"
    assert [one for _, one in world.started] == [commit]


def test_a_project_in_a_folder_of_its_repository_is_trained_by_what_is_in_that_folder(tmp_path, record_url):
    repository = Repository(tmp_path / "git")
    project = repository.work / "models" / "desk"
    repository.commit({"models/desk/params.yaml": params(), "models/desk/data.csv.dvc": "md5: 1"})
    settings, started = settings_of(project, TOKKA_RECORD_URL=record_url, TOKKA_HOME=str(tmp_path / "home")), []

    def start(tree, found, key, commit):
        started.append((tree.name, sorted(path.name for path in tree.iterdir())))
        return Ran(code=0, told=PROMOTED)

    repository.commit({"params.yaml": params(finetuning={"epochs": 9}), "data.csv.dvc": "md5: 9"})
    outside = asking.ask(settings, parse_params({}), before="HEAD~1", dry=True, start=start)
    assert outside["reason"] == "nothing that a training follows from has changed"
    repository.commit({"models/desk/params.yaml": params(finetuning={"epochs": 2})})
    told = asking.ask(settings, parse_params({}), before="HEAD~1", start=start)
    assert (told["state"], told["changes"]) == ("done", ["params.yaml finetuning changed"])
    assert started == [("desk", ["data.csv.dvc", "params.yaml"])]


def test_a_folder_without_params_is_refused_in_words(world):
    world.install()
    world.params = parse_params(
        {"triggers": {"repositories": [{"name": NAME, "url": str(world.repository.bare), "folder": "models"}]}}
    )
    commit = world.change(3)
    assert world.work() == []
    state, reason = world.states()[commit]
    assert state == "refused"
    assert reason.startswith(f"commit {commit[:12]} has no params.yaml in the folder models of the repository")


def test_who_waits_for_the_run_of_another_push_is_told_so(laptop):
    laptop.install()
    said = []

    def start(tree, found, key, commit):
        queue = laptop.worker().queue
        other = Push(repository=NAME, ref="refs/heads/other", before="", after="c" * 40)
        queue.put(other)
        said.append(asking.told(queue.find(other), queue.under_way())["reason"])
        said.append(queue.under_way().reason)
        return Ran(code=0, told=PROMOTED)

    commit = laptop.change(3)
    Worker(laptop.settings, laptop.params, start).run(once=True)
    assert said[0] == f"it waits for the run of {commit[:12]} of {NAME}, which goes on: one at a time"
    assert said[1].startswith("its run goes on since 20")
    assert laptop.worker().queue.under_way() is None
