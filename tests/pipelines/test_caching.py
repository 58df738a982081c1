"""Which edits run which step again: by the inputs of the compiled tasks, as Kubeflow's cache would compare them.

Kubeflow compares parameters by value and artifacts by name alone, so that what made an artifact must be a parameter.
"""

import functools
import json

import pytest

from tests.pipelines.ir import COMPUTE, ROOT, read, step
from tokka import provenance
from tokka.params import compose, form_fields, load_params, parse_params, written
from tokka.runs.kubeflow import compile_pipelines
from tokka.steps import preflight

FACTS = {"source": "rows", "base": "encoder", "practice": "", "champion": "1 abc", "snapshot": "", "key": "k"}
EVERYTHING = {"validate-data", "preprocess", "finetune", "evaluate"}
EDITS = [
    ("gate.noninferiority_margin=0.01", set()),
    ("gate.minimum=0.7", set()),
    ("canary.steps=[0.5]", set()),
    ("monitoring.alpha=0.02", set()),
    ("retraining.per_week=1", set()),
    ("registry.review=required", set()),
    ("serving.workers=1", set()),
    ("gate.metric=f1_macro", {"evaluate"}),
    ("gate.alpha=0.1", {"evaluate"}),
    ("evaluation.bootstrap=300", {"evaluate"}),
    ("registry.model=other", {"evaluate"}),
    ("export.serve=fp32", {"finetune", "evaluate"}),
    ("finetuning.epochs=2", {"finetune", "evaluate"}),
    ("model.max_tokens=64", {"finetune", "evaluate"}),
    ("preprocessing.test_share=0.2", {"preprocess", "finetune", "evaluate"}),
    ("validation.critical=[]", {"validate-data", "evaluate"}),
    ("task.target=other", EVERYTHING),
    ("data.max_rows=1000", EVERYTHING),
]


@pytest.fixture(scope="module")
def ir(tmp_path_factory):
    paths = compile_pipelines(ROOT, tmp_path_factory.mktemp("ir"))
    return read(next(path for path in paths if path.stem == "specialise"))[0]


def outputs(params, job, **facts):
    """What preflight gives to the later tasks."""
    found = {
        **FACTS,
        **facts,
        "key": provenance.params_digest(parse_params(provenance.step_params("evaluate", params))),
    }
    inputs = preflight.step_inputs(params, found, job)
    return {
        **inputs,
        "Output": "new",
        "params": written(params),
        "key": provenance.params_digest(params),
        "reasons": "",
    }


def values(ir, given, job):
    """Of each task the inputs that a cache compares; a digest that a task gives follows from its own inputs."""
    graph = ir["root"]["dag"]["tasks"]

    @functools.cache
    def of(name):
        return {key: value(spec) for key, spec in graph[name]["inputs"]["parameters"].items()}

    def value(spec):
        if "runtimeValue" in spec:
            return job if spec["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}" else spec["runtimeValue"]
        if "componentInputParameter" in spec:
            return "form"
        source = spec["taskOutputParameter"]
        if source["producerTask"] == "preflight":
            return given[source["outputParameterKey"]]
        digest = json.dumps(of(source["producerTask"]), sort_keys=True)
        verdict = {"validate-data": "pass"}.get(source["producerTask"])
        return verdict if verdict and source["outputParameterKey"] == "Output" else digest

    return {name: json.dumps(of(name), sort_keys=True) for name, task in graph.items() if step(ir, task)}


def changed(ir, before, after):
    one, other = values(ir, *before), values(ir, *after)
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("submitted", ["as compiled", "with caching on for the whole run"])
@pytest.mark.parametrize(("edit", "again"), EDITS, ids=[edit for edit, _ in EDITS])
def test_an_edit_runs_what_follows_from_it(ir, edit, again, submitted):
    before, after = load_params(ROOT / "params.yaml"), load_params(ROOT / "params.yaml", [edit])
    found = changed(ir, (outputs(before, "a"), "a"), (outputs(after, "b"), "b"))
    graph = ir["root"]["dag"]["tasks"]
    compiled = {name for name, task in graph.items() if task.get("cachingOptions", {}).get("enableCache")}
    allowed = compiled if submitted == "as compiled" else set(graph)
    steps = {name for name, task in graph.items() if step(ir, task)}
    runs = {name for name in steps if name not in allowed or name in found}
    assert runs & COMPUTE == again
    assert runs - COMPUTE == steps - COMPUTE, "what looks at the world runs each time"


@pytest.mark.parametrize(
    ("fact", "again"),
    [
        ("source", EVERYTHING),
        ("base", {"finetune", "evaluate"}),
        ("practice", {"finetune", "evaluate"}),
        ("champion", {"evaluate"}),
    ],
)
def test_other_data_another_base_model_or_another_champion(ir, fact, again):
    params = load_params(ROOT / "params.yaml")
    found = changed(ir, (outputs(params, "a"), "a"), (outputs(params, "a", **{fact: "other"}), "a"))
    assert found & COMPUTE == again


def test_a_file_that_moved_is_the_same_data(ir):
    before, after = (load_params(ROOT / "params.yaml", [f"data.source={name}"]) for name in ("a.csv", "b.csv"))
    found = changed(ir, (outputs(before, "a"), "a"), (outputs(after, "a"), "a"))
    assert not found & {"preprocess", "finetune"}


def test_the_form_and_the_command_line_give_the_same_keys(ir):
    """`tokka submit` sends all of the params; a person types one field."""
    base, wanted = load_params(ROOT / "params.yaml"), load_params(ROOT / "params.yaml", ["finetuning.epochs=2"])
    typed = compose(base, {**form_fields(base), "epochs": 2}, {})
    sent = compose(base, form_fields(wanted), written(wanted))
    assert values(ir, outputs(typed, "a"), "a") == values(ir, outputs(sent, "a"), "a")


def test_what_the_pods_of_a_run_are_given_is_small(ir):
    """Argo keeps it several times in the status of the run, of which Kubernetes holds 1 MB."""
    params = load_params(ROOT / "params.yaml", ["gate.minimum=0.7"])
    given = outputs(params, "a")
    sizes = [len(json.dumps(given[name])) for name in ("params", "validate_data", "preprocess", "finetune", "evaluate")]
    assert sum(sizes) < 2_000, sizes
    assert len(json.dumps(given["params"])) < 400
    for name in ("validate_data", "preprocess", "finetune", "evaluate"):
        own = provenance.step_params(name, params)
        assert provenance.step_params(name, parse_params(given[name]["params"])) == own


def test_other_defaults_run_a_step_again(monkeypatch):
    params = load_params(ROOT / "params.yaml")
    before = preflight.step_inputs(params, FACTS, "a")
    monkeypatch.setattr(preflight, "Params", lambda: parse_params({"finetuning": {"epochs": 7}}))
    after = preflight.step_inputs(params, FACTS, "a")
    assert {name for name in before if before[name] != after[name]} == {"finetune", "evaluate"}


def test_code_that_changed_runs_its_step_again(monkeypatch):
    params = load_params(ROOT / "params.yaml")
    before = preflight.step_inputs(params, FACTS, "a")
    monkeypatch.setattr(provenance, "code_version", lambda *folders: "new" if "training" in folders else "old")
    after = preflight.step_inputs(params, FACTS, "a")
    assert before["finetune"]["code"] != after["finetune"]["code"]


def test_without_a_version_of_the_code_nothing_is_taken_from_a_cache(monkeypatch):
    monkeypatch.setattr(provenance, "code_version", lambda *folders: "")
    params = load_params(ROOT / "params.yaml")
    one, other = (preflight.step_inputs(params, FACTS, job) for job in ("a", "b"))
    assert all(one[name]["code"] == "a" and other[name]["code"] == "b" for name in one)
