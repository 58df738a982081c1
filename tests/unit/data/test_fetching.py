import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.data.corpus import Write, csv_of, params_for
from tokka import objects
from tokka.data import fetching, reading
from tokka.errors import TokkaError, UsageError
from tokka.params import Params
from tokka.sections import Data
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


@pytest.mark.parametrize("field", ["source", "validation", "test"])
def test_a_file_that_is_not_there_is_named_by_its_field(
    field: str, write: Write, settings: Settings, tmp_path: Path
) -> None:
    here = str(write("a.csv", "text,label\nhello,greeting\n"))
    data = Data.model_validate({"source": here, field: str(tmp_path / "nothing.csv")})
    params = Params().model_copy(update={"data": data})
    with pytest.raises(TokkaError, match=rf"data\.{field}: .*nothing\.csv does not exist"):
        fetching.source_digest(params, settings)


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


def test_an_object_in_s3_is_fetched_and_bounded(bucket: str, tmp_path: Path) -> None:
    where = Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})
    (tmp_path / "rows.csv").write_text("text,label\nhello,a\n")
    objects.write(tmp_path / "rows.csv", f"{bucket}/data/rows.csv")
    found = fetching.fetch(f"{bucket}/data/rows.csv", Data(), where)
    assert (found.name, found.read_text()) == ("rows.csv", "text,label\nhello,a\n")
    assert fetching.fetch_snapshot("", params_for("x.csv"), where) is None
    assert fetching.fetch_snapshot(f"{bucket}/data/rows.csv", params_for("x.csv"), where) == found
    with pytest.raises(TokkaError, match="more than"):
        fetching.fetch(f"{bucket}/data/rows.csv", Data(max_bytes=10), where)
    with pytest.raises(TokkaError, match="no such object"):
        fetching.fetch(f"{bucket}/data/other.csv", Data(), where)


def test_an_object_in_s3_is_copied_once_until_it_changes(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})
    address, copied, blocks = f"{bucket}/data/rows.csv", list[str](), objects.blocks

    def counted(source: str) -> Iterator[bytes]:
        copied.append(source)
        return blocks(source)

    monkeypatch.setattr(objects, "blocks", counted)
    for content in ("text,label\na,b\n", "text,label\nc,d\n"):
        (tmp_path / "rows.csv").write_text(content)
        objects.write(tmp_path / "rows.csv", address)
        for _ in range(3):
            found = fetching.fetch(address, Data(), where)
            assert found.read_text() == content
    assert len(copied) == 2
    found.write_text("text,label\nc,e\n")
    assert fetching.fetch(address, Data(), where).read_text() == content, "a copy that was altered is none"
    with pytest.raises(TokkaError, match=r"more than data\.max_bytes"):
        fetching.fetch(address, Data(max_bytes=3), where)
