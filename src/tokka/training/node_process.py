"""What each machine of a training runs: `python -m tokka.training.node_process s3://BUCKET/…/training/KEY`.

The first machine trains as a single one does, and keeps its work folder in object storage at each epoch's end; the
others start the ranks that it asks for. Who is started again goes on from what was kept, and all end with the weights
that an undisturbed training has.

| Exit code | |
|---|---|
| 0  | the trained weights are in object storage |
| 65 | refused, in words: it would be so again |
| 75 | a machine or a process is gone: all are to be started again |
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tokka import files, progress
from tokka.errors import Refused, TokkaError
from tokka.files import JsonObject
from tokka.kubernetes.train_job import EXIT_REFUSED
from tokka.model.base import base_digest
from tokka.settings import Settings
from tokka.store import StepStore
from tokka.training.finetuning import training_key
from tokka.training.fit.ddp import FOLDER, SPECIFICATION, Group, GroupBroken, Ranks
from tokka.training.nodes.exchange import Exchange, Request
from tokka.training.nodes.rendezvous import LOOK_S, FirstNode, FurtherNode, Place, connect, own_address, serve

EXIT_AGAIN = 75


def main(address: str) -> int:
    """Take part in the training whose objects are below `address`; the exit code."""
    signal.signal(signal.SIGTERM, _end)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        place, exchange = own_address(), Exchange(address)
        folder = Settings.from_environment().home / "nodes" / str(place.node)
        shutil.rmtree(folder, ignore_errors=True)
        if place.node:
            return _take_part(place, exchange, folder)
        return _lead(place, exchange, folder)
    except TokkaError as error:
        # The form in which the step finds the sentence in the end of a pod's log.
        print(f"error: {error.message}\n  → {error.hint}", file=sys.stderr, flush=True)
        return EXIT_AGAIN if isinstance(error, GroupBroken) else EXIT_REFUSED
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"error: the group of machines broke: {lines[0]}", file=sys.stderr, flush=True)
        return EXIT_AGAIN


def _lead(place: Place, exchange: Exchange, folder: Path) -> int:
    first, code = FirstNode(serve(place), place.nodes, exchange), EXIT_AGAIN
    try:
        request = _fetched(exchange, folder, place)
        _train(request, exchange, folder, first)
        code = 0
    except GroupBroken:
        raise
    except TokkaError:
        code = EXIT_REFUSED
        raise
    finally:
        first.leave(code)
    return code


def _train(request: Request, exchange: Exchange, folder: Path, first: FirstNode) -> None:
    from tokka.data.preparation.prepared import load
    from tokka.training import trained_weights
    from tokka.training.setup.training_setup import own_randomness_and_threads, prepare_training
    from tokka.training.train import train

    work, store = folder / "work", StepStore(folder / "store")
    if kept := exchange.checkpoint():
        epoch, contents = kept
        progress.report("finetune", f"going on after epoch {epoch}, which was kept")
        exchange.paste(contents, work)
    work.mkdir(parents=True, exist_ok=True)

    def keep(curve: dict[str, float]) -> None:
        exchange.keep(work, int(curve["epoch"]))

    with own_randomness_and_threads(request.params):
        setup = prepare_training(load(request.prepared), request.params, request.base, request.unlabelled)
        setup.others = first
        trained_weights.save(store, request.key, setup, train(setup, work, keep))
    entry = store.find(trained_weights.STEP, request.key)
    assert entry is not None, "it was saved just now"
    exchange.give(entry)


def _take_part(place: Place, exchange: Exchange, folder: Path) -> int:
    request = _fetched(exchange, folder, place)
    node = FurtherNode(connect(place), place.node)
    while not isinstance(told := node.next_group(), int):
        progress.report("finetune", f"machine {place.node + 1} of {place.nodes} takes part")
        exchange.paste({name: (digest, size) for name, (digest, size) in told["work"].items()}, folder / "work")
        _serve_group(told, place, request, node, folder / "work")
    return told


def _serve_group(told: JsonObject, place: Place, request: Request, node: FurtherNode, work: Path) -> None:
    """Run this machine's ranks of one group until they have ended, or are to end."""
    ranks_folder = work / FOLDER
    ranks_folder.mkdir()
    own = {"prepared": str(request.prepared), "unlabelled": str(request.unlabelled or ""), "work": str(work)}
    base = {**told["specification"]["base"], "path": str(request.base.path)}
    files.write_json(ranks_folder / SPECIFICATION, {**told["specification"], **own, "base": base})
    group = Group(place.nodes, request.params.finetuning.devices, told["port"], place.host)
    ranks = Ranks.start(ranks_folder, group, place.node)
    try:
        while not ranks.are_ready():
            time.sleep(LOOK_S)
        node.is_ready()
        while not (ranks.have_ended() or node.is_to_end()):
            time.sleep(LOOK_S)
        if ranks.have_ended() and (failure := ranks.failure()):
            raise failure
    except TokkaError as error:
        node.has_failed(error)
    finally:
        ranks.end()


def _fetched(exchange: Exchange, folder: Path, place: Place) -> Request:
    """What the training needs, on this machine, and checked: by its digests, and that this image computes the same."""
    request = exchange.request(folder)
    if place.nodes != request.params.finetuning.nodes:
        raise Refused(
            f"{place.nodes} machines were started, and finetuning.nodes is {request.params.finetuning.nodes}",
            "give the TrainJob as many: trainer.numNodes",
        )
    if base_digest(request.base.path) != request.base.digest:
        raise Refused(f"the base model in {exchange.address} is not {request.base.digest[:12]}", "it was altered")
    if training_key(request.params, request.learned, request.base.digest) != request.key:
        raise Refused(
            f"this machine's code or libraries are not those of the step that asked for {request.key[:12]}",
            "let the TrainJob have the image of the step",
        )
    return request


def _end(number: int, _: FrameType | None) -> NoReturn:
    """The first process of a container ignores what it does not handle; what was kept is whole at any moment."""
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
