"""What a run stands on, really asked: the record, MLflow, object storage; and whether a pod's settings outlive it."""

import tempfile
from pathlib import Path

from tokka.deployment.record.connection import shown
from tokka.deployment.record.leases import Leases
from tokka.deployment.record.record import Record
from tokka.errors import TokkaError, redacted
from tokka.kubernetes import train_job
from tokka.kubernetes.api import Api
from tokka.objects import is_remote, prove
from tokka.params import Params
from tokka.registry.connection import Connection as Registry
from tokka.sections import Finetuning
from tokka.settings import Settings


def misplaced(params: Params, settings: Settings) -> list[str]:
    """What of these settings would not outlive a pod, each with how to give it; nothing outside a pod."""
    if not settings.in_pod:
        return []
    s3 = "give s3://BUCKET/PREFIX, and the storage by AWS_ENDPOINT_URL (ConfigMap tokka)"
    found = {
        f"TOKKA_RECORD_URL is {_kind(settings.record_url)}: give postgresql://… (Secret tokka-database)":
            not settings.record_url.startswith("postgres"),
        f"TOKKA_TRACKING_URI is {_kind(settings.tracking_uri)}: give http(s)://… (ConfigMap tokka)":
            not settings.tracking_uri.startswith(("http://", "https://")),
        f"TOKKA_REMOTE is {_kind(settings.remote)}: {s3}": not is_remote(settings.remote),
        f"TOKKA_ARCHIVE is {_kind(settings.archive)}: {s3}": not is_remote(settings.archive),
        f"TOKKA_VERIFY_KEY names no file ({settings.verify_key}): mount the ConfigMap tokka-verify":
            not settings.verify_key.is_file(),
        "deployment.target is local, the stack of a pod that ends: set it to auto or kserve":
            params.deployment.target == "local",
    }  # fmt: skip
    return [words for words, is_so in found.items() if is_so]


def _kind(place: str) -> str:
    return "SQLite" if place.startswith("sqlite") else "a folder" if place.startswith(("/", "file:")) else "elsewhere"


def places(params: Params, settings: Settings) -> str:
    """Where this runs; TokkaError in one message for all that would be lost with a pod."""
    if found := misplaced(params, settings):
        raise TokkaError(
            f"what a pod keeps is lost with it; {len(found)} settings to give: {'; '.join(found)}",
            "set them in the pod's environment: infra/kubernetes has the Secrets and ConfigMaps by these names",
        )
    return "in a pod; everything that lasts is outside" if settings.in_pod else "of this machine"


def storage(address: str, home: Path) -> str:
    """See that an address in S3 takes objects and gives them back."""
    with tempfile.TemporaryDirectory(dir=home, prefix=".prove-") as scratch:
        prove(address, Path(scratch))
    return f"{address} (written, read back, deleted)"


def nodes(asked: Finetuning, settings: Settings, api: Api | None = None) -> str:
    """See that this cluster and this account can train on several machines; outside a pod nothing can."""
    if not settings.in_pod:
        raise TokkaError(
            f"finetuning.nodes is {asked.nodes}, which needs Kubernetes, and this is no pod",
            f"set finetuning.nodes: 1; finetuning.devices: {asked.ranks} on one machine gives the same weights",
        )
    from tokka.kubernetes.connection import Connection, own_namespace

    space = own_namespace()
    return train_job.check(api or Connection(space), asked, space)


def tracking(settings: Settings) -> str:
    """See that MLflow answers and lets these credentials write."""
    connection, uri = Registry(settings), redacted(settings.tracking_uri)
    connection.check()
    if connection.artifact_root:
        return uri
    connection.prove()
    return f"{uri} (a tag set and deleted)"


def record(settings: Settings, endpoint: str) -> str:
    """See that the record takes a transaction that writes."""
    opened = Record(settings.record_url)
    Leases(opened).prove()
    state = opened.read(endpoint)
    return f"{shown(settings.record_url)} (generation {state.generation})"
