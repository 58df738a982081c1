"""A pipeline's versions on Kubeflow: one per commit, uploaded once and used again."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from tokka import files, provenance
from tokka.errors import TokkaError
from tokka.files import JsonObject
from tokka.runs import ir, kubeflow
from tokka.runs.kfp_server import Exists, Foreign, KfpServer, equals
from tokka.settings import Settings

# How a version's description begins, before the digest of what was uploaded.
MARK = "compiled file, sha256 "
COMMIT_DIGITS, FILE_DIGITS = 12, 8


class Build(NamedTuple):
    """How the pipelines are compiled: the profile of the cluster's settings, and the image that the steps run in."""

    profile: str = ""
    image: str = ""


AS_COMPILED = Build()


class Upload(BaseModel):
    """A pipeline version that is on the server: its ids, its name, and what was compiled."""

    pipeline_id: str
    version_id: str
    version: str
    document: JsonObject


def upload_pipeline(pipeline: str, settings: Settings, server: KfpServer, build: Build = AS_COMPILED) -> Upload:
    """Compile the pipeline here and now and see that the server has it, as a version that is named by the commit.

    TokkaError when it does not compile, or the name on the server is that of another pipeline.
    """
    with tempfile.TemporaryDirectory(prefix="tokka-ir-") as folder:
        path = kubeflow.compile_one(pipeline, settings.root, Path(folder), profile=build.profile, image=build.image)
        document, digest = ir.read(path), files.digest_file(path)
        commit = provenance.git_commit(settings.root)
        pipeline_id = _pipeline_id(pipeline, server) or _create(pipeline, server)
        version = _version(pipeline_id, commit, digest, path, server)
    return Upload(
        pipeline_id=pipeline_id,
        version_id=version.pipeline_version_id,
        version=version.name or version.display_name,
        document=document,
    )


def version_name(commit: str, digest: str, existing: Mapping[str, str]) -> str:
    """The name of the version of a commit whose compiled file has this digest.

    `existing`: the digests of the versions that are there, by name. A checkout with changes, or another file of the
    same commit (another profile, another SDK), has the file's digest in its name as well.
    """
    clean, short = commit.removesuffix("-dirty")[:COMMIT_DIGITS] or "no-commit", digest[:FILE_DIGITS]
    if clean == commit[:COMMIT_DIGITS] and not commit.endswith("-dirty") and existing.get(clean, digest) == digest:
        return clean
    return f"{clean}{'-dirty' if commit.endswith('-dirty') else ''}-{short}"


def digests(versions: Iterable[Foreign]) -> dict[str, str]:
    """The digests of compiled files by version name, as the descriptions have them; empty for foreign versions."""
    described = {version.name or version.display_name: str(version.description or "") for version in versions}
    return {
        name: text.removeprefix(MARK).split()[0] if text.startswith(MARK) else "" for name, text in described.items()
    }


def _pipeline_id(pipeline: str, server: KfpServer) -> str:
    """The id of the pipeline of this name; empty when there is none, TokkaError when it is another's."""
    service = server.service("Pipeline")
    options = {"filter": equals("name", pipeline), **server.namespace}
    listing = service.pipeline_service_list_pipelines
    found = next(server.pages(f"look for pipeline {pipeline}", listing, "pipelines", **options), None)
    if found is None:
        return ""
    versions = server.call(
        f"look at pipeline {pipeline}",
        service.pipeline_service_list_pipeline_versions,
        found.pipeline_id,
        page_size=1,
        sort_by="created_at desc",
    )
    names = {ir.name(version.pipeline_spec or {}) for version in versions.pipeline_versions or ()}
    if names - {pipeline}:
        raise TokkaError(
            f"the pipeline {pipeline!r} at {server.settings.host} is not Tokka's: it holds {', '.join(names)}",
            "rename or delete it there, or give TOKKA_KFP_NAMESPACE a namespace of your own",
        )
    return str(found.pipeline_id)


def _create(pipeline: str, server: KfpServer) -> str:
    """Make the pipeline, without a version; an upload would make one by the pipeline's name beside the commit's."""
    make, wanted = server.service("Pipeline").pipeline_service_create_pipeline, {"name": pipeline, **server.namespace}
    try:
        made = server.call(f"make pipeline {pipeline}", make, server.make("Pipeline", display_name=pipeline, **wanted))
    except Exists:
        # Another machine was quicker, or the name is taken where this namespace does not show it.
        found = _pipeline_id(pipeline, server)
        if found:
            return found
        raise
    return str(made.pipeline_id)


def _version(pipeline_id: str, commit: str, digest: str, path: Path, server: KfpServer) -> Foreign:
    """The version of this commit and file; it is uploaded when it is not there."""
    listing = server.service("Pipeline").pipeline_service_list_pipeline_versions

    def versions() -> dict[str, Foreign]:
        found = server.pages("look for the version", listing, "pipeline_versions", pipeline_id=pipeline_id)
        return {version.name or version.display_name: version for version in found}

    existing = versions()
    name = version_name(commit, digest, digests(existing.values()))
    if name in existing:
        return existing[name]
    send, described = server.service("PipelineUpload").upload_pipeline_version, f"{MARK}{digest} commit {commit}"
    try:
        return server.call(
            f"upload version {name}", send, str(path), name=name, pipelineid=pipeline_id, description=described
        )
    except Exists:
        return versions()[name]
