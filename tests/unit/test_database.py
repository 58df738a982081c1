"""Commits are seen by the file's stamps; a server that is away is waited for; a lost answer is no second commit."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import MetaData, Table, create_engine
from sqlalchemy.exc import DBAPIError

from tests.fakes.world import Clock
from tests.fixtures.waiting import wait_for
from tokka import database
from tokka.database import Commits
from tokka.deployment.record.attempts import Attempts
from tokka.deployment.record.record import Record
from tokka.deployment.record.state import Revision
from tokka.deployment.record.tables import attempts
from tokka.errors import TokkaError

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
    wait_for(lambda: commits.mark() or not commits.seen())


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


def test_a_server_that_is_away_is_one_line_and_is_waited_for_by_who_has_the_time(postgres):
    url, clock = postgres.database(), Clock()
    impatient, patient = Record(url, clock), Record(url, clock, patience_s=60.0)
    state = patient.compare_and_set(patient.read("desk"), champion=Revision(version="1", digest="a" * 64))
    postgres.stop()
    try:
        for use in (lambda: impatient.read("desk"), lambda: Record(url)):
            with pytest.raises(TokkaError, match="does not answer") as caught:
                use()
            assert "secret" not in str(caught.value) and "\n" not in caught.value.message
            assert "host, user and password of TOKKA_RECORD_URL" in caught.value.hint
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(patient.compare_and_set, state, reason="after all")
            postgres.start()
            assert waiting.result().generation == 2
    finally:
        postgres.start()
    assert impatient.read("desk").reason == "after all"


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("the database system is starting up", True),
        ("the database system is shutting down", True),
        ("the database system is in recovery mode", True),
        ("the database system is not yet accepting connections", True),
        ("the database system is not accepting connections", True),
        ("sorry, too many clients already", True),
        ('too many connections for role "tokka"', True),
        ("remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
        ('password authentication failed for user "tokka"', False),
        ('database "nothing" does not exist', False),
        ('role "nobody" does not exist', False),
    ],
)
def test_which_refusals_of_a_server_are_waited_for(said, passes):
    refused = psycopg.OperationalError(f'connection to server at "127.0.0.1", port 5432 failed: FATAL:  {said}')
    assert database.is_away(DBAPIError("", {}, refused)) == passes


def test_a_refusal_is_not_waited_for(postgres):
    with pytest.raises(TokkaError, match="does not exist"):
        Record(postgres.url("nothing"), patience_s=600.0)


def test_a_commit_whose_answer_was_lost_is_not_made_twice(record_url, monkeypatch):
    """The server went away between the commit and its answer."""
    record, lost = Record(record_url), []
    transact = database.transact

    def lose(engine, work, patience_s):
        found = transact(engine, work, patience_s)
        if not lost and isinstance(found, type(None)):
            lost.append(found)
            return transact(engine, work, patience_s)
        return found

    monkeypatch.setattr("tokka.deployment.record.connection.transact", lose)
    state = record.compare_and_set(record.read("desk"), champion=Revision(version="1", digest="a" * 64))
    assert lost and record.read("desk") == state
    assert len(record.history("desk")) == 1


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks(record_url):
    engine = create_engine(database.server_url(record_url))
    old = MetaData()
    Table("attempts", old, *(column._copy() for column in attempts.columns if column.name != "job"))
    old.create_all(engine)
    engine.dispose()
    ledger = Attempts(Record(record_url))
    ledger.begin("desk", "drift", "k", "one")
    ledger.finish("desk", "promoted", "one")
    assert [one.outcome for one in ledger.all("desk")] == ["promoted"]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresqls_own_form_of_a_url_means_psycopg(scheme):
    assert database.server_url(f"{scheme}://a:b@db/tokka").drivername == "postgresql+psycopg"
    assert database.server_url("sqlite:////tmp/a.db").drivername == "sqlite"
