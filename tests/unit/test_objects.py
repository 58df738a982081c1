"""Objects in S3: whole or absent, of bounded size, and every refusal in words."""

import http.server
import threading

import pytest

from tests.fixtures.ports import free_port
from tokka import objects
from tokka.errors import TokkaError, UsageError


@pytest.fixture
def sent(tmp_path):
    path = tmp_path / "sent"
    path.write_bytes(bytes(range(256)) * 9000)
    return path


def test_what_is_written_is_read_listed_and_deleted(bucket, sent, tmp_path):
    address = f"{bucket}/some/folder/name"
    objects.write(sent, address)
    objects.write(sent, f"{bucket}/other/name")
    assert objects.names(f"{bucket}/some") == ["folder/name"]
    objects.read(address, tmp_path / "back", most=10_000_000)
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()
    objects.delete(address)
    objects.delete(address)
    assert objects.names(f"{bucket}/some") == []
    objects.prove(bucket, tmp_path)
    assert objects.names(bucket) == ["other/name"]


def test_what_is_too_large_leaves_no_file(bucket, sent, tmp_path):
    objects.write(sent, f"{bucket}/name")
    with pytest.raises(TokkaError, match="more than 1,000 bytes"):
        objects.read(f"{bucket}/name", tmp_path / "back", most=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]


def test_a_folder_is_a_place_for_objects_too(sent, tmp_path):
    objects.write(sent, f"{tmp_path}/archive/name")
    assert objects.names(f"{tmp_path}/archive") == ["name"]
    objects.prove(f"{tmp_path}/archive", tmp_path)
    with pytest.raises(TokkaError, match="cannot be read"):
        objects.read(f"{tmp_path}/archive/other", tmp_path / "back", most=9)


@pytest.mark.parametrize("address, words", [("/name", "no such object"), ("-other/name", "there is no bucket")])
def test_what_is_not_there_is_named(bucket, address, words, tmp_path):
    with pytest.raises(TokkaError, match=words):
        objects.read(f"{bucket}{address}", tmp_path / "back", most=9)


def test_an_address_without_a_name_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="names no object"):
        objects.read("s3://bucket", tmp_path / "back", most=9)


def test_no_credentials(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    objects.forget_client()
    with pytest.raises(TokkaError, match="there are no credentials") as caught:
        objects.names(bucket)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.fixture
def answering(monkeypatch, bucket):
    """Storage that answers everything with one status; the list of its requests."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def answer(status):
        server.status = status
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        objects.forget_client()
        return asked

    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_refusal_is_not_tried_again(bucket, answering):
    asked = answering(403)
    with pytest.raises(TokkaError, match="refuses these credentials"):
        objects.names(bucket)
    assert len(asked) == 1


def test_an_overloaded_storage_is_asked_again(bucket, answering, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 3)
    asked = answering(503)
    with pytest.raises(TokkaError, match="overloaded or broken"):
        objects.names(bucket)
    assert len(asked) == 3


def test_an_endpoint_that_is_away(bucket, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    objects.forget_client()
    with pytest.raises(TokkaError, match="listed by http") as caught:
        objects.names(bucket)
    assert "AWS_ENDPOINT_URL" in caught.value.hint
