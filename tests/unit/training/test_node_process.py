"""Two machines, by the command that the pods run: the weights of one with two devices, also after an eviction."""

import signal
from functools import partial
from pathlib import Path

import pytest

from tests.fixtures.nodes import LONG_S, Nodes
from tests.fixtures.ports import free_port
from tests.fixtures.training import MakeParams
from tests.fixtures.waiting import wait_for
from tokka import files, objects, provenance
from tokka.errors import TokkaError, UsageError
from tokka.model.base import resolve_base
from tokka.params import Params
from tokka.settings import Settings
from tokka.store import StepStore
from tokka.training import trained_weights
from tokka.training.finetuning import finetune, training_key
from tokka.training.nodes.exchange import Exchange, Request
from tokka.training.nodes.rendezvous import Place

pytestmark = pytest.mark.slow
EPOCHS = 12


@pytest.fixture
def params(make_params: MakeParams) -> Params:
    return make_params(epochs=EPOCHS, early_stopping={"patience": EPOCHS}, nodes=2)


def offered(prepared: Path, params: Params, bucket: str, name: str, tmp_path: Path) -> Exchange:
    base = resolve_base(params.model, tmp_path / "base")
    key = training_key(params, "d" * 64, base.digest)
    exchange = Exchange.of(Settings.from_environment({"TOKKA_ARCHIVE": f"{bucket}/{name}"}), key)
    exchange.offer(Request(key, "d" * 64, params, prepared, base, None))
    return exchange


def is_kept(exchange: Exchange, epoch: int) -> bool:
    return (exchange.checkpoint() or (0,))[0] >= epoch


def weights(exchange: Exchange, into: Path) -> str:
    exchange.take(into)
    return files.digest_file(into / trained_weights.WEIGHTS)


def single(prepared: Path, params: Params, tmp_path: Path) -> str:
    """The weights of one machine with as many devices."""
    alone = provenance.on_one_machine(params)
    alone = alone.model_copy(update={"finetuning": alone.finetuning.model_copy(update={"devices": 2})})
    finetune(prepared, alone, tmp_path / "model", tmp_path / "work", store=StepStore(tmp_path / "store"), key="k")
    return files.digest_file(tmp_path / "store" / trained_weights.STEP / "k" / trained_weights.WEIGHTS)


def test_two_machines_make_the_weights_of_two_devices(
    prepared: Path, params: Params, bucket: str, tmp_path: Path
) -> None:
    """With one machine after the other taken away: what is left notices, and is started again.

    An undisturbed training is that of `nodes/test_submission.py`.
    """
    wanted = single(prepared, params, tmp_path / "single")
    evicted = offered(prepared, params, bucket, "evicted", tmp_path)
    for node, number, epoch in ((1, signal.SIGKILL, 2), (0, signal.SIGTERM, 5)):
        place = tmp_path / f"evicted{node}"
        with Nodes(evicted.address, 2, place, free_port()) as nodes:
            wait_for(partial(is_kept, evicted, epoch), LONG_S, what=partial(nodes.log, 0))
            nodes.kill(node, number)
            codes = nodes.wait()
        assert codes[node] == (-number if number == signal.SIGKILL else 128 + number)
        assert codes[1 - node] == 75, nodes.log(1 - node)
        assert not evicted.is_trained()
    with Nodes(evicted.address, 2, tmp_path / "again", free_port()) as again:
        assert again.wait() == [0, 0], again.log(0)
    assert "going on after epoch" in again.log(0)
    assert weights(evicted, tmp_path / "again" / "taken") == wanted
    assert evicted.checkpoint() is None


def test_what_would_be_refused_again_says_so_by_its_exit_code(
    prepared: Path,
    params: Params,
    bucket: str,
    tmp_path: Path,
) -> None:
    """Weights that are not what their digest says, and a TrainJob with another number of machines."""
    exchange = offered(prepared, params, bucket, "other", tmp_path)
    with Nodes(exchange.address, 1, tmp_path / "one", free_port()) as nodes:
        assert nodes.wait() == [65]
    assert "1 machines were started, and finetuning.nodes is 2" in nodes.log(0)
    contents = exchange.copy(prepared)
    objects.put(b"x" * contents["train.parquet"][1], f"{exchange.address}/files/{contents['train.parquet'][0]}")
    with pytest.raises(TokkaError, match="has the sha256"):
        exchange.request(tmp_path / "two")


def test_the_place_comes_from_torchruns_variables() -> None:
    given = {"PET_NNODES": "4", "PET_NODE_RANK": "3", "PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "29400"}
    assert Place.from_environment(given) == (4, 3, "job-node-0-0.job", 29400)
    for name in given:
        with pytest.raises(UsageError, match=name):
            Place.from_environment({**given, name: ""})
