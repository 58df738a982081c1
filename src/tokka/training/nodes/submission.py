"""The step's side of a training on several machines: a TrainJob, which is waited for, and the weights that it made."""

from collections.abc import Callable

from tokka import progress
from tokka.kubernetes.api import Api
from tokka.kubernetes.train_job import TrainJobs, train_job
from tokka.settings import Settings
from tokka.store import StepStore
from tokka.training.nodes.exchange import Exchange, Request

STEP, TRAINING = "finetune", "training"
COMMAND = ("python", "-P", "-m", "tokka.training.node_process")


def train_on_nodes(request: Request, settings: Settings, store: StepStore, api: Api | None = None) -> None:
    """Put the trained weights of a request into the store: those that its nodes have made before, or make now.

    A step that is started again finds the TrainJob of the one before, and waits for the same; one that is terminated
    leaves it at work, and the next run of the same key takes what it makes.

    TokkaError when the nodes fail, in their words.
    """
    exchange = Exchange.of(settings, request.key)
    if not exchange.is_trained():
        exchange.offer(request)
        _run(request, exchange, settings, api or _connected())
    with store.entry(TRAINING, request.key) as folder:
        exchange.take(folder)


def discard(settings: Settings, key: str, api: Api | None = None) -> None:
    """Remove the TrainJob of a training and its objects, once what it made is kept elsewhere."""
    TrainJobs(api or _connected(), _say).remove(name_of(key))
    Exchange.of(settings, key).discard()


def name_of(key: str) -> str:
    """The name of the TrainJob of a training."""
    return f"tokka-{key[:20]}"


def _run(request: Request, exchange: Exchange, settings: Settings, api: Api) -> None:
    jobs, params = TrainJobs(api, _say), request.params.finetuning
    command = (*COMMAND, exchange.address)
    jobs.run(
        train_job(name_of(request.key), command, params.nodes, params.devices, jobs.own_pod(), settings.job),
        _epochs(exchange, params.epochs),
    )


def _epochs(exchange: Exchange, most: int) -> Callable[[], None]:
    """What says that another epoch was kept."""
    said = 0

    def look() -> None:
        nonlocal said
        kept = exchange.checkpoint()
        if kept and kept[0] != said:
            said = kept[0]
            progress.report(STEP, f"epoch {said} of {most} is kept", fraction=0.9 * said / most)

    return look


def _say(words: str) -> None:
    progress.report(STEP, words)


def _connected() -> Api:
    from tokka.kubernetes.connection import Connection, own_namespace

    return Connection(own_namespace())
