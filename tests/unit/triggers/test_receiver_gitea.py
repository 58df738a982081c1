"""A real Gitea: a push there is a signed webhook here, and what came of it is a status and a note there.

TOKKA_TEST_GITEA names its binary, TOKKA_TEST_GITEA_ROOT the folder of its templates for one that was built without.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.repositories import git, params, settings_of
from tests.fixtures.waiting import wait_for
from tests.unit.triggers.test_receiver import serving
from tokka.deployment.record.connection import RecordDatabase
from tokka.params import parse_params
from tokka.triggers.commits import repositories
from tokka.triggers.queue import Queue
from tokka.triggers.receiver import PATH, application, new_secret, secret_file
from tokka.triggers.runner import Ran
from tokka.triggers.worker import Worker

BINARY = os.environ.get("TOKKA_TEST_GITEA") or shutil.which("gitea")
SETTINGS = """
RUN_USER = {user}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
OFFLINE_MODE = true
DISABLE_SSH = true
{root}
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
ALLOWED_HOST_LIST = loopback
[webhook]
ALLOWED_HOST_LIST = loopback
[log]
LEVEL = error
"""


class Gitea:
    """A server of our own in a folder, with one user, `tokka`, and a token of theirs."""

    def __init__(self, folder: Path) -> None:
        self.port, root = free_port(), os.environ.get("TOKKA_TEST_GITEA_ROOT")
        self.command = [BINARY, "--config", f"{folder}/app.ini", "--work-path", str(folder)]
        self.url = f"http://127.0.0.1:{self.port}"
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = SETTINGS.format(
            user=user, port=self.port, folder=folder, root=f"STATIC_ROOT_PATH = {root}" if root else ""
        )  # fmt: skip
        (folder / "app.ini").write_text(text)
        self.run("migrate")
        own = ("--username", "tokka", "--password", "a long secret", "--email", "tokka@example.com")
        self.run("admin", "user", "create", "--admin", *own, "--must-change-password=false")
        made = self.run("admin", "user", "generate-access-token", "--username", "tokka", "--token-name", "t",
                        "--scopes", "all", "--raw")  # fmt: skip
        self.token = made.split()[-1]
        self.api = httpx.Client(base_url=f"{self.url}/api/v1", headers={"Authorization": f"token {self.token}"})

    def run(self, *arguments: str) -> str:
        return subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=True).stdout

    def answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.api.get("/version").is_success
        return False

    def ask(self, method: str, path: str, **body: object) -> object:
        answer = self.api.request(method, path, json=body or None)
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def gitea(tmp_path, monkeypatch):
    if BINARY is None:
        pytest.skip("gitea is not on this machine: TOKKA_TEST_GITEA names its binary")
    (tmp_path / "gitea").mkdir()
    server = Gitea(tmp_path / "gitea")
    home = tmp_path / "user"
    home.mkdir()
    (home / ".gitconfig").write_text("[credential]\n helper = store\n")
    (home / ".git-credentials").write_text(f"http://tokka:{server.token}@127.0.0.1%3a{server.port}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TOKKA_GIT_TOKEN", server.token)
    with (tmp_path / "gitea" / "log.txt").open("wb") as log:
        process = subprocess.Popen([*server.command, "web"], stdout=log, stderr=log)
    try:
        wait_for(server.answers, 120, "Gitea answers")
        yield server
    finally:
        process.terminate()
        process.wait(60)
        server.api.close()


def test_a_push_to_gitea_is_trained_once_and_told_there(gitea, tmp_path):
    secret = secret_file(settings_of(tmp_path))
    secret.parent.mkdir(parents=True)
    gitea.ask("POST", "/user/repos", name="helpdesk", default_branch="main")
    named = {"name": "tokka/helpdesk", "url": f"{gitea.url}/tokka/helpdesk.git", "host": "gitea",
             "api": f"{gitea.url}/api/v1"}  # fmt: skip
    wanted, settings = parse_params({"triggers": {"repositories": [named]}}), settings_of(tmp_path)
    queue, started = Queue(RecordDatabase(settings.record_url)), []

    def start(tree, found, key, commit):
        started.append(commit)
        return Ran(code=0, told={"canary": {"verdict": "promoted"}, "version": "3"})

    with serving(application(queue, repositories(wanted, settings), wanted.triggers, secret)) as client:
        hook = {"url": f"{client.base_url}{PATH}", "content_type": "json", "secret": new_secret(secret)}
        gitea.ask("POST", "/repos/tokka/helpdesk/hooks", type="gitea", config=hook, events=["push"], active=True)
        work = tmp_path / "work"
        work.mkdir()
        git(work, "init", "-q", "-b", "main")
        git(work, "remote", "add", "origin", named["url"])
        pushed = []
        for epochs in (1, 2):
            (work / "params.yaml").write_text(params(finetuning={"epochs": epochs}))
            git(work, "add", "--all")
            git(work, "commit", "-q", "-m", "a change")
            git(work, "push", "-q", "origin", "main")
            pushed.append(git(work, "rev-parse", "HEAD"))
            wait_for(lambda: len(queue.newest()) == len(pushed), 60, "the webhook came")
    Worker(settings, wanted, start).run(once=True)
    assert started == pushed
    assert {entry.push.source for entry in queue.newest()} == {"webhook"}
    for commit in pushed:
        # The newest of each context: it was pending before.
        (status,) = gitea.ask("GET", f"/repos/tokka/helpdesk/commits/{commit}/status")["statuses"]
        assert (status["status"], status["context"]) == ("success", "tokka/retraining")
        assert "promoted, version 3" in status["description"]
        git(work, "fetch", "-q", "origin", "refs/notes/tokka:refs/notes/tokka")
        assert "version: 3" in git(work, "notes", "--ref", "tokka", "show", commit)
