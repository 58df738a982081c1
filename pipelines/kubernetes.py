"""What pipeline.yaml says, written on the tasks by kfp-kubernetes; the local runner ignores it.

`tokka compile --profile NAME` comes as TOKKA_PROFILE.
"""

import os

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.structures import ResourceSpec

from components import STEPS
from pipelines.form import ROOT
from pipelines.placement import Environment, Placement, Volume, load, seconds

# Whose result follows from its inputs alone. The others look at the world, or change it.
CACHED = ("validate_data", "preprocess", "finetune", "evaluate")
PLACEMENTS = load(ROOT, STEPS, os.environ.get("TOKKA_PROFILE", ""))


def place(task: PipelineTask) -> PipelineTask:
    """Give a task what its step asks for, and let it be taken from the cache where that is right."""
    step = task.component_spec.name.replace("-", "_")
    settings = PLACEMENTS[step]
    task.set_caching_options(step in CACHED)
    # Under this name a run holds its claims: the id that KFP puts on every pod of it.
    kubernetes.use_field_path_as_env(task, "TOKKA_JOB", "metadata.labels['pipeline/runid']")
    # By it the network policies know a step's pod.
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "tokka")
    _size(task, settings)
    _schedule(task, settings)
    for source in settings.environment:
        _variables(task, source)
    for source in settings.volumes:
        _files(task, source)
    if settings.scratch:
        name = settings.scratch.path.strip("/").replace("/", "-")
        kubernetes.empty_dir_mount(task, name, settings.scratch.path, size_limit=settings.scratch.size)
    return task


def _size(task: PipelineTask, settings: Placement) -> None:
    """What the task's own setters write; each of those reads the source of all callers first, a second of three."""
    container, gpu = task.container_spec, settings.gpu
    assert container is not None, "a step runs in a container"
    container.resources = ResourceSpec(
        cpu_request=settings.cpu.request, cpu_limit=settings.cpu.limit,
        memory_request=settings.memory.request, memory_limit=settings.memory.limit,
        accelerator_type=gpu.resource if gpu else None, accelerator_count=str(gpu.count) if gpu else None,
    )  # fmt: skip


def _schedule(task: PipelineTask, settings: Placement) -> None:
    again = settings.retries
    if again.most:
        task.set_retry(
            again.most, backoff_duration=f"{seconds(again.first_after)}s", backoff_factor=again.factor,
            backoff_max_duration=f"{seconds(again.within)}s",
        )  # fmt: skip
    kubernetes.set_timeout(task, seconds(settings.timeout))
    kubernetes.set_image_pull_policy(task, settings.image_pull_policy)
    kubernetes.set_security_context(
        task, run_as_user=settings.user, run_as_group=settings.user, run_as_non_root=True
    )  # fmt: skip
    for key, value in settings.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    if settings.node_affinity:
        expressions = [one.model_dump(mode="json") for one in settings.node_affinity]
        kubernetes.add_node_affinity(task, match_expressions=expressions)
    for one in settings.tolerations:
        kubernetes.add_toleration(task, key=one.key, operator=one.operator, value=one.value or None, effect=one.effect)


def _variables(task: PipelineTask, source: Environment) -> None:
    names = {key: key for key in source.keys}
    if source.secret:
        kubernetes.use_secret_as_env(task, source.secret, names, optional=True)
    else:
        kubernetes.use_config_map_as_env(task, str(source.config_map), names, optional=True)


def _files(task: PipelineTask, source: Volume) -> None:
    if source.secret:
        kubernetes.use_secret_as_volume(task, source.secret, source.path, optional=True)
    else:
        kubernetes.use_config_map_as_volume(task, str(source.config_map), source.path, optional=True)
