"""Commits are noticed by the file's stamps, whoever makes them, however often; reading is none."""

import sqlite3
import subprocess
import sys
import time

import pytest

from tokka import database
from tokka.database import Commits

WRITE = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('insert into t values (1)'); c.commit()"


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "record.db"
    connection = sqlite3.connect(made)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    return made


def quiet(commits):
    """Wait until the last stamp is old enough to be told from the next one."""
    deadline = time.monotonic() + 10
    while commits.seen():
        time.sleep(database.RESOLUTION_NS / 1e9)
        commits.mark()
        assert time.monotonic() < deadline


def test_what_another_process_commits_is_seen_and_what_is_read_is_not(path):
    commits = Commits(f"sqlite:///{path}")
    assert commits.is_watchable and commits.seen()
    quiet(commits)
    sqlite3.connect(path).execute("select * from t").fetchall()
    assert not commits.seen()
    subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
    assert commits.seen()
    quiet(commits)
    assert not commits.seen()


def test_no_commit_of_a_fast_row_is_missed(path):
    """Each is followed by a look at once, within the resolution of the file's clock."""
    commits, writer = Commits(f"sqlite:///{path}"), sqlite3.connect(path)
    for _ in range(300):
        writer.execute("insert into t values (1)")
        writer.commit()
        assert commits.seen()
        commits.mark()
    writer.close()
    quiet(commits)


def test_a_file_that_comes_later_and_a_server(tmp_path):
    commits = Commits(f"sqlite:///{tmp_path}/mlflow.db")
    commits.mark()
    assert not commits.seen()
    sqlite3.connect(tmp_path / "mlflow.db").execute("create table t (a)")
    assert commits.seen()
    server = Commits("postgresql+psycopg://somebody@there/record")
    assert not server.is_watchable and not server.seen()
    assert not Commits("http://there:5000").is_watchable and not Commits("./mlruns").is_watchable
