"""`specialise` with `finetuning.nodes: 2` up to the trained model, as pods: on Kubeflow Trainer, or on a stand-in.

Takes what test_faults.py takes. Where the cluster serves trainer.kubeflow.org, Trainer and JobSet make the nodes.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster import trainer
from tests.cluster.kubectl import Refused
from tests.cluster.moving import moved, with_images
from tests.cluster.test_faults import World, world  # noqa: F401
from tests.manifests.objects import Object, build
from tokka.kubernetes.train_job import OF_JOB

NODE = "app.kubernetes.io/name=training-node"


@pytest.fixture
def several(world: World, tmp_path: Path) -> Iterator[World]:  # noqa: F811
    """The world with Trainer and our component, whose policy knows no S3 but on port 443."""
    component = Path("infra/kubernetes/components/training").absolute()
    relative = Path("../" * (len(tmp_path.parts) - 1)) / component.relative_to("/")
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization"
    (tmp_path / "kustomization.yaml").write_text(f"{head}\ncomponents: [{relative}]\n")
    ours: list[Object] = [one for one in build(tmp_path) if one["kind"] != "NetworkPolicy"]
    with trainer.installed(world.cluster, world.spaces["kubeflow"]) as standin:
        world.cluster.apply(with_images(moved(ours, world.spaces), {"tokka/pipeline": world.launcher.image}))
        yield world
        assert standin is None or standin.restarts >= 1


@pytest.mark.timeout(1500)
def test_two_nodes_train_and_go_on_after_one_was_deleted(several: World) -> None:
    space, ended, deleted = several.spaces["kubeflow"], threading.Event(), list[str]()

    def evict() -> None:
        """Delete the second node once it has begun to take part."""
        while not ended.is_set() and not deleted:
            for one in several.cluster.get(space, "pods", "-l", NODE):
                name = one["metadata"]["name"]
                with suppress(Refused):
                    if "takes part" in several.cluster.run("logs", name, "-n", space):
                        several.cluster.run("delete", "pod", name, "-n", space, "--grace-period=1", "--wait=false")
                        deleted.append(name)
            time.sleep(0.5)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        several.launcher.patience = "--timeout=1200s"
        overrides = {"finetuning": {"nodes": 2, "early_stopping": {"patience": 8}}}
        given = {"endpoint": "nodes", "data_source": several.source, "strategy": "full", "review": "required",
                 "epochs": 8, "overrides": overrides}  # fmt: skip
        found = several.launcher.run(several.pipeline, uuid.uuid4().hex[:12], given, "finetune")
    finally:
        ended.set()
        thread.join()
    assert deleted and found["finetune"]["Output"]
    assert several.cluster.get(space, "trainjobs.trainer.kubeflow.org") == []
    several.cluster.run("wait", "--for=delete", "pod", "-l", OF_JOB, "-n", space, "--timeout=120s")
