"""reproduce: rebuild a version from what its lineage says, in a home of its own, and compare every link.

registry version → key → source digest, base model, code, libraries → dvc.lock → data digest → model digest
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tokka import files, progress, provenance
from tokka.errors import TokkaError
from tokka.params import Params, parse_params
from tokka.settings import Settings

STEP = "reproduce"


class Link(BaseModel):
    """One link of the chain: what the version recorded, and what was found or rebuilt now."""

    name: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Does the link hold?"""
        return bool(self.recorded) and self.recorded == self.found


def run(version: str, params: Params, settings: Settings) -> list[Link]:
    """Walk the chain of one version: check what it was made from, train again, compare.

    Raises:
        TokkaError: the version or its data is gone, or what it was made from is not what is here now.
    """
    from tokka.registry.publish import fetch_lineage

    lineage = fetch_lineage(version, params, settings)
    recorded = parse_params(lineage["params"], origin=f"version {version}")
    links = [*registered(version, lineage, params, settings), *inputs(lineage, recorded, settings)]
    broken = [link.name for link in links if not link.same]
    if broken:
        raise TokkaError(
            f"version {version} cannot be rebuilt here: {', '.join(broken)} differ from what it was made from",
            f"check out commit {lineage['commit'] or 'of that day'}, and bring back {recorded.data.source}",
        )
    return [*links, *outputs(lineage, recorded, settings)]


def registered(version: str, lineage: Mapping[str, Any], params: Params, settings: Settings) -> list[Link]:
    """The links between the registry's tags and the lineage that was logged with the evaluation."""
    from tokka.registry import entities
    from tokka.registry.publish import open_registry

    tags = open_registry(params, settings).version(version).tags
    told = {"data_digest": entities.DATA_DIGEST, "model_digest": entities.MODEL_DIGEST}
    return [Link(name=f"tag {name}", recorded=lineage[name], found=tags.get(tag, "")) for name, tag in told.items()]


def inputs(lineage: Mapping[str, Any], params: Params, settings: Settings) -> list[Link]:
    """The links that exist before any work: data, base model, code, libraries."""
    from tokka.data.fetching import source_digest
    from tokka.model.base import resolve_base
    from tokka.steps import preflight

    base = resolve_base(params.model, settings.home / "base")
    source = source_digest(params, settings, Path(lineage["snapshot"]) if lineage["snapshot"] else None)
    now = {
        "key": preflight.key(params, settings, lineage["snapshot"]),
        "source_digest": source,
        "base_digest": base.digest,
        "code_version": provenance.code_version(),
        "environment": files.digest_json(provenance.environment_versions()),
    }
    return [Link(name=name, recorded=lineage[name], found=found) for name, found in now.items()]


def outputs(lineage: Mapping[str, Any], params: Params, settings: Settings) -> list[Link]:
    """The links that are work: rebuilt from nothing, in an empty home with an empty remote."""
    from tokka.steps import finetune, preprocess, validate_data

    params = provenance.as_trained(params, lineage.get("precision", ""))
    with tempfile.TemporaryDirectory(dir=settings.home, prefix="reproduce-") as folder:
        home = Path(folder)
        aside = settings.model_copy(update={"home": home, "remote": str(home / "remote")})
        validate_data.run(params, aside, home / "rows", lineage["snapshot"])
        data = preprocess.run(params, aside, home / "rows", home / "prepared")
        model = finetune.run(params, aside, home / "prepared", home / "model")
    progress.report(STEP, "comparing")
    locks = [files.digest_bytes(text.encode()) for text in (lineage["dvc_lock"], data["lock"])]
    return [
        Link(name="dvc_lock", recorded=locks[0], found=locks[1]),
        Link(name="data_digest", recorded=lineage["data_digest"], found=data["digest"]),
        Link(name="model_digest", recorded=lineage["model_digest"], found=model["digest"]),
    ]
