"""What came of a push, as each host's status and as a note."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.fixtures.repositories import Repository as Real
from tests.fixtures.repositories import git
from tokka.errors import TokkaError
from tokka.sections_serving import Repository
from tokka.triggers import telling
from tokka.triggers.decision import Push
from tokka.triggers.git import Mirror
from tokka.triggers.queue import Entry

PUSH = Push(repository="team/helpdesk", ref="refs/heads/main", before="a" * 40, after="b" * 40)
RESULT = {
    "verdict": "promoted",
    "version": "3",
    "key": "r" * 32,
    "data_digest": "d" * 64,
    "link": "https://m/",
    "reasons": ["x"],
}
DONE = Entry(1, PUSH, "done", "params.yaml finetuning changed", "k" * 32, RESULT, 0, 1.0)


@pytest.fixture
def host():
    """A host's API: what it was asked, and the codes that it answers with."""
    asked, codes = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, body, dict(self.headers)))
            self.send_response(codes.pop(0) if codes else 201)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api", asked, codes
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "path", "state", "header"),
    [
        ("github", f"/api/repos/team/helpdesk/statuses/{'b' * 40}", "success", ("authorization", "Bearer t")),
        ("gitea", f"/api/repos/team/helpdesk/statuses/{'b' * 40}", "success", ("authorization", "token t")),
        ("gitlab", f"/api/projects/team%2Fhelpdesk/statuses/{'b' * 40}", "success", ("private-token", "t")),
    ],
)
def test_each_host_is_told_in_its_own_words(host, monkeypatch, tmp_path, kind, path, state, header):
    url, asked, _ = host
    (tmp_path / "token").write_text("t\n")
    monkeypatch.setenv("TOKKA_GIT_TOKEN_FILE", str(tmp_path / "token"))
    telling.set_status(Repository(name="team/helpdesk", url="/r", host=kind, api=url), DONE)
    ((found, body, headers),) = asked
    assert (found, body["state"], body["target_url"]) == (path, state, "https://m/")
    assert {name.lower(): value for name, value in headers.items()}[header[0]] == header[1]
    assert "promoted, version 3" in body["description"]


def test_a_host_that_is_away_or_refuses_is_an_error_that_is_tried_again(host, monkeypatch):
    url, _, codes = host
    repository = Repository(name="team/helpdesk", url="/r", host="gitea", api=url)
    with pytest.raises(TokkaError, match="TOKKA_GIT_TOKEN is not set"):
        telling.set_status(repository, DONE)
    monkeypatch.setenv("TOKKA_GIT_TOKEN", "secret")
    codes.append(403)
    with pytest.raises(TokkaError, match="did not take a commit status: 403") as error:
        telling.set_status(repository, DONE)
    assert "secret" not in error.value.message + error.value.hint
    away = repository.model_copy(update={"api": "http://127.0.0.1:1/api"})
    with pytest.raises(TokkaError, match="did not answer"):
        telling.set_status(away, DONE)


@pytest.mark.parametrize(
    ("state", "verdict", "word"),
    [("done", "promoted", "success"), ("done", "rolled_back", "failure"), ("done", "refuse", "failure"),
     ("ignored", None, "success"), ("refused", None, "failure"), ("failed", None, "error"),
     ("started", "started", "pending")],
)  # fmt: skip
def test_the_word_of_a_status(state, verdict, word):
    assert telling.word(DONE._replace(state=state, result={"verdict": verdict})) == word


def test_a_note_names_all_that_made_a_version_and_reaches_the_repository(tmp_path):
    real = Real(tmp_path / "git")
    entry = DONE._replace(push=PUSH.model_copy(update={"after": real.first}))
    mirror = Mirror(tmp_path / "home", "team/helpdesk", str(real.bare))
    assert mirror.fetch("refs/heads/main")
    for text in ("another line\n", telling.note(entry)):
        mirror.note(real.first, text)
    shown = git(real.bare, "notes", "--ref", "tokka", "show", real.first)
    assert shown.splitlines()[0] == "tokka: retraining promoted, version 3: params.yaml finetuning changed"
    for part in (real.first, "k" * 32, "r" * 32, "d" * 64, "https://m/"):
        assert part in shown


def test_two_workers_that_note_at_once_lose_no_note(tmp_path):
    real = Real(tmp_path / "git")
    commits = [real.first, *(real.commit({"README.md": str(number)}) for number in range(2))]
    real.push()
    mirrors = [Mirror(tmp_path / str(number), "a", str(real.bare)) for number in range(2)]
    for mirror in mirrors:
        mirror.fetch("refs/heads/main")
    for mirror, commit in zip([*mirrors, mirrors[0]], commits, strict=True):
        mirror.note(commit, f"of {commit}")
    for commit in commits:
        assert git(real.bare, "notes", "--ref", "tokka", "show", commit) == f"of {commit}"
