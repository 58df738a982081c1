"""reproduce: rebuild a version from what its lineage says, in a home of its own, and compare every link.

registry version → key → source digest, base model, code, libraries → dvc.lock → data digest → model digest
"""

import tempfile
from pathlib import Path

from pydantic import BaseModel

from tokka import files, progress, provenance
from tokka.deployment.record.record import Record
from tokka.errors import Refused, TokkaError
from tokka.files import Tree
from tokka.params import Params, parse_params
from tokka.runs.execute import Request, champion_snapshot
from tokka.settings import Settings


class Link(BaseModel):
    """One link of the chain: what the version recorded, and what was found or rebuilt now."""

    name: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Does the link hold?"""
        return bool(self.recorded) and self.recorded == self.found


def request_again(version: str, params: Params, settings: Settings) -> Request:
    """The run that evaluates a version against the champion of now, by today's gate and rollout; it trains nothing.

    Refused when that would be another model: its data, the code or the champion's feedback has changed since.
    """
    from tokka.registry.entities import part
    from tokka.registry.publish import fetch_lineage

    lineage, tree = fetch_lineage(version, params, settings), params.model_dump(mode="json")
    recorded = part(lineage, "params")
    for name in recorded:
        # Of gate and registry it knows what the evaluation needed; the rest, the review above all, is today's.
        tree[name] = {**(tree[name] if name in provenance.EVALUATED_BY else {}), **part(recorded, name)}
    made_by = parse_params(tree, origin=f"version {version}")
    changed = [link.name for link in inputs(lineage, made_by, settings) if not link.same]
    if champion_snapshot(made_by, Record(settings.record_url)) != lineage["snapshot"]:
        changed.append("the champion's feedback")
    if changed:
        what = f"version {version} cannot be evaluated again, since {', '.join(changed)} changed since it was trained"
        raise Refused(what, "train another one, which learns from what serves now: tokka run")
    return Request(params=made_by, pipeline="specialise")


def run(version: str, params: Params, settings: Settings) -> list[Link]:
    """Walk the chain of one version: check what it was made from, train again, compare.

    TokkaError when the version or its data is gone, or what it was made from is not what is here now.
    """
    from tokka.registry.entities import part
    from tokka.registry.publish import fetch_lineage

    lineage = fetch_lineage(version, params, settings)
    recorded = parse_params(part(lineage, "params"), origin=f"version {version}")
    links = [*registered(version, lineage, params, settings), *inputs(lineage, recorded, settings)]
    broken = [link.name for link in links if not link.same]
    if broken:
        raise TokkaError(
            f"version {version} cannot be rebuilt here: {', '.join(broken)} differ from what it was made from",
            f"check out commit {lineage['commit'] or 'of that day'}, and bring back {recorded.data.source}",
        )
    return [*links, *outputs(lineage, recorded, settings)]


def registered(version: str, lineage: Tree, params: Params, settings: Settings) -> list[Link]:
    """The links between the registry's tags and the lineage that was logged with the evaluation."""
    from tokka.registry import entities
    from tokka.registry.publish import open_registry

    tags = open_registry(params, settings).version(version).tags
    told = {"data_digest": entities.DATA_DIGEST, "model_digest": entities.MODEL_DIGEST}
    return [Link(name=f"tag {name}", recorded=lineage[name], found=tags.get(tag, "")) for name, tag in told.items()]


def inputs(lineage: Tree, params: Params, settings: Settings) -> list[Link]:
    """The links that exist before any work: data, base model, code, libraries."""
    from tokka.data.fetching import source_digest
    from tokka.model.base import resolve_base
    from tokka.steps import preflight

    base = resolve_base(params.model, settings.home / "base")
    source = source_digest(params, settings, Path(lineage["snapshot"]) if lineage["snapshot"] else None)
    now = {
        "key": preflight.evaluation_key(params, settings, lineage["snapshot"]),
        "source_digest": source,
        "base_digest": base.digest,
        "code_version": provenance.code_version(),
        "environment": files.digest_json(provenance.environment_versions()),
    }
    return [Link(name=name, recorded=lineage[name], found=found) for name, found in now.items()]


def outputs(lineage: Tree, params: Params, settings: Settings) -> list[Link]:
    """The links that are work: rebuilt from nothing, in an empty home with an empty remote."""
    from tokka.steps import finetune, preprocess, validate_data

    params = provenance.as_trained(params, lineage.get("precision", ""))
    with tempfile.TemporaryDirectory(dir=settings.home, prefix="reproduce-") as folder:
        home = Path(folder)
        aside = settings.model_copy(update={"home": home, "remote": str(home / "remote")})
        validate_data.run(params, aside, home / "rows", lineage["snapshot"])
        data = preprocess.run(params, aside, home / "rows", home / "prepared")
        model = finetune.run(params, aside, home / "prepared", home / "model")
    progress.report("reproduce", "comparing")
    locks = [files.digest_bytes(text.encode()) for text in (lineage["dvc_lock"], data["lock"])]
    return [
        Link(name="dvc_lock", recorded=locks[0], found=locks[1]),
        Link(name="data_digest", recorded=lineage["data_digest"], found=data["digest"]),
        Link(name="model_digest", recorded=lineage["model_digest"], found=model["digest"]),
    ]
