"""What a step and its nodes give each other: whole or absent, altered by nobody, and no more of it than is needed."""

from pathlib import Path

import pytest

from tests.fixtures.training import MakeParams
from tokka import files, objects
from tokka.errors import TokkaError
from tokka.model.base import resolve_base
from tokka.training.nodes import folders
from tokka.training.nodes.exchange import Exchange, Request


@pytest.fixture
def request_(prepared: Path, make_params: MakeParams, tmp_path: Path) -> Request:
    params = make_params(nodes=2)
    return Request("k", "d" * 64, params, prepared, resolve_base(params.model, tmp_path), None)


@pytest.fixture
def exchange(request_: Request, tmp_path: Path) -> Exchange:
    found = Exchange(str(tmp_path / "archive" / "training" / "k"))
    found.offer(request_)
    return found


def blobs(exchange: Exchange) -> set[str]:
    return set(objects.names(objects.join(exchange.address, folders.BLOBS)))


def test_a_node_gets_what_the_step_has(exchange: Exchange, request_: Request, tmp_path: Path) -> None:
    found = exchange.request(tmp_path / "node")
    assert (found.key, found.learned, found.params) == (request_.key, request_.learned, request_.params)
    for name in ("train.parquet", "labels.json", "digest.json"):
        assert (found.prepared / name).read_bytes() == (request_.prepared / name).read_bytes()
    assert resolve_base(found.params.model.model_copy(update={"base": str(found.base.path)}), tmp_path).digest == (
        request_.base.digest
    )
    assert found.unlabelled is None


def test_texts_to_practise_on_go_along(request_: Request, tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text\nhello\n")
    exchange = Exchange(str(tmp_path / "other"))
    exchange.offer(request_._replace(unlabelled=table))
    found = exchange.request(tmp_path / "node").unlabelled
    assert found is not None and found.read_text() == table.read_text() and found.suffix == ".csv"


def test_of_checkpoints_the_last_one_is_kept_and_the_weights_alone_at_the_end(
    exchange: Exchange, tmp_path: Path
) -> None:
    given, work = blobs(exchange), tmp_path / "work"
    work.mkdir()
    assert exchange.checkpoint() is None
    for epoch in (1, 2):
        (work / "last.ckpt").write_text(f"epoch {epoch}")
        (work / ".half.tmp").write_text("half")
        exchange.keep(work, epoch)
        assert len(blobs(exchange) - given) == 1
    epoch, contents = exchange.checkpoint() or (0, {})
    exchange.paste(contents, tmp_path / "again")
    assert epoch == 2 and [one.name for one in (tmp_path / "again").iterdir()] == ["last.ckpt"]
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "weights.safetensors").write_text("weights")
    files.seal(tmp_path / "entry")
    assert not exchange.is_trained()
    exchange.give(tmp_path / "entry")
    assert exchange.is_trained() and exchange.checkpoint() is None and len(blobs(exchange) - given) == 1
    exchange.take(tmp_path / "taken")
    assert (tmp_path / "taken" / "weights.safetensors").read_text() == "weights"
    exchange.discard()
    assert objects.names(exchange.address) == []


def test_what_was_altered_is_refused(exchange: Exchange, tmp_path: Path) -> None:
    digest = sorted(blobs(exchange))[0]
    address = objects.join(objects.join(exchange.address, folders.BLOBS), digest)
    objects.put(b"x" * len(Path(address).read_bytes()), address)
    with pytest.raises(TokkaError, match="has the sha256"):
        exchange.request(tmp_path / "node")
    objects.put(b"x" * 10_000_000, address)
    with pytest.raises(TokkaError, match="has more than"):
        exchange.request(tmp_path / "node")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_no_file_is_written_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(TokkaError, match="outside of its folder"):
        folders.fetch(str(tmp_path), {name: ("0" * 64, 1)}, tmp_path / "into")
