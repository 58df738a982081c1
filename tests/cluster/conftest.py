"""A real cluster: the one that KUBECONFIG names. What is missing is skipped by name; nothing is left behind.

TOKKA_TEST_IMAGE             the image `pipeline`, known to the cluster's nodes
TOKKA_TEST_POSTGRESQL_IMAGE  images for the environment `dev`; the ones that it names where they can be pulled:
TOKKA_TEST_S3_IMAGE          postgres:17.6 and versity/versitygw:v1.8.0
TOKKA_TEST_RECORD_URL        a PostgreSQL (superuser) and an S3 endpoint outside the cluster, which its pods and this
TOKKA_TEST_S3                process reach, for the environment `staging`; AWS_ACCESS_KEY_ID and so on are its keys
TOKKA_TEST_SERVER_IMAGE      the image `server`, known to the cluster's nodes, for rollouts on KServe
TOKKA_TEST_HOST              an address of this machine that pods reach; this process reaches pods by theirs
TOKKA_TEST_GATEWAY           KServe's gateway as this process reaches it ("http://10.0.0.7:8080"), where the cluster
                             has a KServe and the status of its Gateway names no address

Where the cluster serves the API group serving.kserve.io, rollouts are tested on its own controller, which has to be
KServe after 0.20.0 in Standard mode with the Gateway API; its runtime and storage container `tokka` are ours
meanwhile.
"""

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.cluster.kubectl import Cluster, Refused

# Ours and Kubeflow's, with the Pod Security that each enforces.
LEVELS = {"tokka": "restricted", "kubeflow": "baseline"}


def variable(name: str) -> str:
    return os.environ.get(name) or pytest.skip(f"{name} is not set: see tests/cluster/conftest.py")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    variable("KUBECONFIG")
    found = Cluster()
    try:
        found.run("get", "--raw", "/readyz")
    except Refused as error:
        pytest.skip(f"the cluster that KUBECONFIG names does not answer: {error}")
    return found


@pytest.fixture(scope="module")
def spaces(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Namespaces made for a module: which stands for which."""
    names = {name: f"{name}-{uuid.uuid4().hex[:6]}" for name in LEVELS}
    try:
        for name, level in LEVELS.items():
            cluster.make_namespace(names[name], level)
        yield names
    finally:
        cluster.run("delete", "namespace", *names.values(), "--ignore-not-found", "--timeout=180s")
