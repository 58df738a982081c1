import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.data.corpus import Write, csv_of, params_for
from tokka.data import fetching, reading
from tokka.errors import TokkaError, UsageError
from tokka.params import Data
from tokka.settings import Settings


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server over the test's folder."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
    thread.join()


def test_paths_count_from_the_project(write: Write, settings: Settings, tmp_path: Path) -> None:
    inside = settings.model_copy(update={"root": tmp_path})
    assert fetching.fetch("a.csv", Data(), inside) == tmp_path / "a.csv"
    assert fetching.fetch("/x/a.csv", Data(), inside) == Path("/x/a.csv")


def test_download(server: str, write: Write, settings: Settings) -> None:
    write("a.csv", csv_of(30))
    path = fetching.fetch(f"{server}/a.csv?x=1", Data(), settings)
    assert path.name == "a.csv"
    assert path.read_text() == csv_of(30)


def test_download_stops_at_the_bound(server: str, write: Write, settings: Settings) -> None:
    write("a.csv", b"x" * 3_000_000)
    with pytest.raises(TokkaError, match=r"more than data\.max_bytes = 1,000"):
        fetching.fetch(f"{server}/a.csv", Data(max_bytes=1000), settings)
    assert not [path for path in (settings.home / "downloads").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["/no.csv", ""])
def test_address_that_gives_nothing_is_one_line(server: str, settings: Settings, name: str) -> None:
    address = f"{server}{name}" if name else "http://127.0.0.1:9/a.csv"
    with pytest.raises(TokkaError, match="cannot be fetched") as error:
        fetching.fetch(address, Data(), settings)
    assert "\n" not in error.value.message


@pytest.mark.parametrize("source", ["ftp://x/a.csv", "hf://datasets/owner/name/a.csv", "  "])
def test_sources_that_are_none(settings: Settings, source: str) -> None:
    with pytest.raises(UsageError):
        fetching.fetch(source, Data(), settings)


def test_source_digest_is_over_content(write: Write, settings: Settings) -> None:
    first = fetching.source_digest(params_for(write("a.csv", csv_of(30))), settings)
    assert fetching.source_digest(params_for(write("b.csv", csv_of(30))), settings) == first
    assert fetching.source_digest(params_for(write("a.csv", csv_of(31))), settings) != first
    feedback = write("f.jsonl", '{"text": "a", "label": "x"}\n')
    assert fetching.source_digest(params_for(write("a.csv", csv_of(30))), settings, feedback) != first


def test_first_row(write: Write, settings: Settings) -> None:
    assert reading.first_row(params_for(write("a.csv", "text,label\n ,x\nhello,y\n")), settings).text == "hello"
