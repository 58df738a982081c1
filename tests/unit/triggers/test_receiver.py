"""The receiver over real HTTP: a thousand webhooks, most of them not as they should be."""

import asyncio
import contextlib
import json
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fixtures.repositories import NAME, Repository, git, params, settings_of
from tests.unit.triggers.test_webhooks import signed
from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import UsageError
from tokka.params import parse_params
from tokka.processes import web_server
from tokka.triggers.commits import repositories
from tokka.triggers.queue import Queue
from tokka.triggers.receiver import PATH, application, new_secret, read_secrets, secret_file
from tokka.triggers.runner import Ran
from tokka.triggers.worker import Worker

HOSTS = ("github", "gitea", "gitlab token")
WEBHOOKS = 1_000


@contextlib.contextmanager
def serving(app):
    """The receiver on a free port, in a thread with a loop of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = web_server.bare(app, drain=5)
    thread = threading.Thread(target=lambda: asyncio.run(server._serve([listener])))
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join()


class Place:
    def __init__(self, tmp_path, record_url, **triggers):
        self.repository = Repository(tmp_path / "git")
        (tmp_path / "project").mkdir()
        self.settings = settings_of(tmp_path / "project", TOKKA_RECORD_URL=record_url)
        named = {"name": NAME, "url": str(self.repository.bare), "branches": ["main", "side-*"]}
        self.params = parse_params({"triggers": {"repositories": [named], **triggers}})
        self.path = secret_file(self.settings)
        self.path.parent.mkdir(parents=True)
        self.old, self.secret = new_secret(self.path).encode(), new_secret(self.path).encode()
        self.queue = Queue(RecordDatabase(record_url))
        self.app = application(
            self.queue, repositories(self.params, self.settings), self.params.triggers, self.path
        )  # fmt: skip

    def body(self, before, after, ref="refs/heads/main", name=NAME, host="github"):
        repository = {"project": {"path_with_namespace": name}} if "gitlab" in host else {
            "repository": {"full_name": name}}  # fmt: skip
        return json.dumps({"ref": ref, "before": before, "after": after, "url": "ext::sh -c id", **repository}).encode()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, f"sqlite:///{tmp_path}/record.db", max_body_bytes=20_000)


def post(client, body, headers):
    return client.post(PATH, content=body, headers=headers)


def test_secrets_rotate_and_an_old_one_ends_with_the_next(place):
    body = place.body("", place.repository.first)
    third = None
    with serving(place.app) as client:
        for number, secret in enumerate((place.old, place.secret)):
            body = place.body("a" * 40, f"{number:040x}".replace("0", "c"))
            assert post(client, body, signed("github", body, secret, str(number))).status_code == 202
        third = new_secret(place.path).encode()
        assert post(client, body, signed("github", body, place.old)).status_code == 401
        assert post(client, body, signed("github", body, third)).json() == {"state": "known"}
    assert read_secrets(place.path) == [third, place.secret]
    assert place.path.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_others_can_read_or_that_is_short_is_refused(place):
    place.path.chmod(0o640)
    with pytest.raises(UsageError, match="read by others"):
        read_secrets(place.path)
    place.path.chmod(0o600)
    place.path.write_text("short\n")
    with pytest.raises(UsageError, match="16 characters"):
        read_secrets(place.path)
    body = place.body("", place.repository.first)
    with serving(place.app) as client:
        answer = post(client, body, signed("github", body, b"short"))
    assert (answer.status_code, answer.json()) == (503, {"error": "not now"})


def test_who_is_not_authorised_is_told_nothing_and_a_large_body_is_not_read(place):
    body = place.body("", place.repository.first)
    with serving(place.app) as client:
        for headers in ({}, signed("github", body, b"x" * 20), {"x-gitlab-token": ""}):
            answer = post(client, body, headers)
            assert (answer.status_code, answer.json()) == (401, {"error": "unauthorised"})
        large = b" " * 20_001
        assert post(client, large, signed("github", large, place.secret)).status_code == 413
        assert client.post(PATH, content=iter([b" " * 15_000] * 100)).status_code == 413
        assert client.get(PATH).status_code == 405
        ping = b'{"zen": "x"}'
        told = post(client, ping, {**signed("github", ping, place.secret), "x-github-event": "ping"})
        assert told.json()["state"] == "ignored"
        forked = {**signed("github", body, place.secret), "x-github-event": "pull_request"}
        assert "only pushes" in post(client, body, forked).json()["reason"]
    assert place.queue.newest() == []


def test_of_a_thousand_webhooks_none_is_let_in_run_twice_or_lost(tmp_path, record_url):
    place, started = Place(tmp_path, record_url), []
    Worker(place.settings, place.params, lambda *_: pytest.fail("nothing was pushed yet")).run(once=True)
    real = [change(place.repository, number) for number in range(8)]
    sent = webhooks(place, real, random.Random(1701))
    with serving(place.app) as client, ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda one: post(client, one[1], one[2]).status_code, sent))

    def start(tree, found, key, commit):
        started.append((key, commit))
        return Ran(code=0, told={"canary": {"verdict": "promoted"}})

    for _ in range(2):
        Worker(place.settings, place.params, start).run(once=True)
    bad = [code for (kind, _, _), code in zip(sent, codes, strict=True) if kind in ("forged", "altered")]
    wanted, let_in = {after for _, _, after in real}, sum(code != 401 for code in bad)
    lost, twice = wanted - {commit for _, commit in started}, len(started) - len({key for key, _ in started})
    print(
        f"{len(sent)} webhooks, {len(bad)} forged or altered: {let_in} unauthorised let in, {twice} duplicate runs, "
        f"{len(lost)} lost; {len(started)} runs for {len(wanted)} contents"
    )
    assert (let_in, twice, lost) == (0, 0, set())
    assert {commit for _, commit in started} == wanted
    assert codes.count(401) == len(bad)
    assert codes.count(202) >= len(wanted)


def webhooks(place, real, chance):
    """A thousand deliveries as (kind, body, headers), in no order."""
    made = []
    for number in range(WEBHOOKS):
        (kind,) = chance.choices(["real", "replayed", "forged", "altered", "foreign"], (1, 3, 3, 2, 1))
        host, (ref, before, after) = chance.choice(HOSTS), real[number] if number < len(real) else chance.choice(real)
        kind = "real" if number < len(real) else kind
        name, secret = NAME, chance.choice([place.secret, place.old])
        if kind == "replayed":
            made.append((kind, *chance.choice([one[1:] for one in made if one[0] == "real"])))
            continue
        if kind == "forged":
            secret = chance.randbytes(24).hex().encode()
        elif kind == "altered":
            host = chance.choice(["github", "gitea"])
        elif kind == "foreign":
            name, ref = chance.choice([(NAME, "refs/heads/other"), ("other/project", ref)])
        body = place.body(before, after, ref, name=name, host=host)
        headers = signed(host, body, secret, delivery=f"{kind}-{number}")
        if kind == "altered":
            body = body.replace(after.encode(), f"{number:040x}".encode())
        made.append((kind, body, headers))
    chance.shuffle(made)
    return made


def change(repository, number):
    """A pushed branch of its own with a content of its own: (ref, before, after)."""
    git(repository.work, "checkout", "-q", "-b", f"side-{number}", "main")
    after = repository.commit({"params.yaml": params(finetuning={"seed": 100 + number})})
    repository.push(f"side-{number}")
    return f"refs/heads/side-{number}", "0" * 40, after
