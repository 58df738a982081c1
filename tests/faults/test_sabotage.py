"""Sabotage: whatever is done to data, training, evidence, models or servers, the champion keeps serving.

Each case must be refused, for the reason that it was made for, and leave registry, deployment record and serving as
they were. The last test is the control: the same candidate, left alone, passes everything.
"""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tokka.errors import Refused, TokkaError, UsageError
from tokka.params import load_params
from tokka.registry.mlflow_client import Registry
from tokka.steps import finetune, preflight, validate_data

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def unchanged(victim):
    """Registry, record and answers are the same before and after every case of this file but the control."""
    before = victim.snapshot()
    yield
    if not getattr(victim, "control", False):
        assert victim.snapshot() == before


# --- data ------------------------------------------------------------------------------------------------------------


def csv(rows, header="text,label,time,channel,product"):
    return (header + "\n" + "\n".join(rows) + "\n").encode()


GOOD = [f"message number {i} about parcels,{'late' if i % 2 else 'lost'},2026-01-01,chat,P" for i in range(300)]
DATA = {
    "an empty file": ("a.csv", b"", "empty"),
    "a header alone": ("a.csv", csv([]), "no rows"),
    "a wrong column": ("a.csv", csv(["x,y"] * 50, "body,label"), "text"),
    "one class only": ("a.csv", csv([row.replace("lost", "late") for row in GOOD]), "unique_value_count"),
    "every row broken": ("a.csv", csv(["only one cell"] * 100), "quarantined"),
    "not UTF-8": ("a.csv", csv(GOOD).replace(b"parcels", b"caf\xe9"), "UTF-8"),
    "stray quotes": ("a.csv", csv([*GOOD, *['"never closed,late,2026-01-01,chat,P'] * 40]), "quarantined"),
    "a bomb": ("a.csv.gz", gzip.compress(b"text,label\n" + b"a" * 200_000_000, 1), "data.max_"),
    "ten rows": ("a.csv", csv(GOOD[:10]), "row"),
}


@pytest.mark.parametrize("name", DATA)
def test_broken_data_is_refused(victim, tmp_path, name):
    file, content, words = DATA[name]
    (tmp_path / file).write_bytes(content)
    params = victim.params.model_copy(
        update={
            "data": victim.params.data.model_copy(update={"source": str(tmp_path / file)}),
            "task": victim.params.task.model_copy(update={"time": None}),
        }
    )
    with pytest.raises(TokkaError, match=f"(?i){words}"):
        validate_data.run(params, victim.settings, tmp_path / "rows")


def suite_without_expectations(path):
    tree = json.loads(path.read_text())
    return {**tree, "expectations": []}


@pytest.mark.parametrize("change", ["emptied", "missing", "not JSON"])
def test_a_sabotaged_expectation_suite_is_refused(victim, tmp_path, change):
    suite = tmp_path / "suite.json"
    original = victim.settings.root / victim.params.validation.suite
    if change == "emptied":
        suite.write_text(json.dumps(suite_without_expectations(original)))
    elif change == "not JSON":
        suite.write_text("{")
    params = victim.params.model_copy(
        update={"validation": victim.params.validation.model_copy(update={"suite": str(suite)})}
    )
    with pytest.raises(TokkaError, match=r"suite|expectation"):
        validate_data.run(params, victim.settings, tmp_path / "rows")


# --- training --------------------------------------------------------------------------------------------------------


def rewritten(victim, split, change):
    """The prepared folder with one split changed."""
    folder = victim.copy(victim.prepared)
    path = folder / f"{split}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    summary = json.loads((folder / "summary.json").read_text())
    summary["rows"][split] = pq.read_table(path).num_rows
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def shuffled_targets(table):
    order = np.random.default_rng(0).permutation(table.num_rows)
    return table.set_column(table.column_names.index("target"), "target", table["target"].take(pa.array(order)))


def test_a_model_of_shuffled_labels_is_refused(victim):
    prepared = rewritten(victim, "train", shuffled_targets)
    params = victim.params.model_copy(update={"finetuning": victim.params.finetuning.model_copy(update={"seed": 33})})
    shutil.rmtree(victim.folder / "shuffled", ignore_errors=True)
    model = victim.train(params, "shuffled", prepared)
    run_id, _ = victim.evaluate(model)
    decision = victim.judge(run_id)
    assert decision["verdict"] == "refuse"
    assert refusing(decision) & {"not_inferior", "absolute_minimum", "beats_general"}
    with pytest.raises(Refused):
        victim.register(run_id)


def test_test_rows_leaked_into_training_are_refused(victim):
    test = pq.read_table(victim.prepared / "test.parquet")
    prepared = rewritten(victim, "train", lambda table: pa.concat_tables([table, test.select(table.column_names)]))
    run_id, _ = victim.evaluate(victim.model, prepared)
    assert "no_leak" in refusing(victim.judge(run_id))


def test_a_class_removed_from_training_is_refused(victim):
    lost = pq.read_table(victim.prepared / "train.parquet")["target"][0].as_py()
    prepared = rewritten(victim, "train", lambda table: table.filter(pc.not_equal(table["target"], lost)))
    with pytest.raises(TokkaError, match=lost):
        finetune.run(
            victim.params.model_copy(
                update={"finetuning": victim.params.finetuning.model_copy(update={"seed": 44})}
            ),
            victim.settings, prepared, victim.folder / "lost",
        )  # fmt: skip


def base_with(victim, tmp_path, change):
    folder = make_tiny_base(tmp_path / "base")
    change(folder)
    return victim.params.model_copy(update={"model": victim.params.model.model_copy(update={"base": str(folder)})})


def put_nan(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = sorted(name for name in tensors if "attention.self.query.weight" in name)[0]
    tensors[name][:] = np.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def put_auto_map(folder):
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**tree, "auto_map": {"AutoModel": "evil.Model"}}))


BASES = {
    "weights that are not numbers": (put_nan, "(?i)nan|finite|number"),
    "a pickle": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80\x04."), "pytorch_model.bin"),
    "code in its configuration": (put_auto_map, "auto_map"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "safetensors"),
}


@pytest.mark.parametrize("name", BASES)
def test_a_sabotaged_base_model_is_refused(victim, tmp_path, name):
    change, words = BASES[name]
    params = base_with(victim, tmp_path, change)
    with pytest.raises(TokkaError, match=words):
        finetune.run(params, victim.settings, victim.prepared, tmp_path / "model")
    assert not (tmp_path / "model" / "tokka.json").exists()


# --- evidence and the gate -------------------------------------------------------------------------------------------


def refusing(decision):
    return {rule["rule"] for rule in decision["rules"] if rule["verdict"] != "pass"}


def worse_slice(tree):
    rows = tree["test"]["rows"]
    slice_ = {"slice": "channel", "value": "chat", "rows": rows // 2, "difference": -0.9, "low": -0.95, "high": -0.8}
    tree["comparison"]["champion"]["slices"] = [slice_]


def slower(tree):
    tree["candidate"]["latency_ms"] = {"p50": 50.0, "p99": 90.0}
    tree["champion"]["latency_ms"] = {"p50": 1.0, "p99": 2.0}


def larger(tree):
    tree["candidate"]["size_mb"], tree["champion"]["size_mb"] = 400.0, 10.0


def worse(tree):
    tree["comparison"]["champion"] |= {"difference": -0.5, "low": -0.6, "high": -0.4, "p_value": 0.0001}


def set_to(*place, value):
    def change(tree):
        for key in place[:-1]:
            tree = tree[key]
        tree[place[-1]] = value

    return change


def without(*place):
    def change(tree):
        for key in place[:-1]:
            tree = tree[key]
        del tree[place[-1]]

    return change


EVIDENCE = {
    "a slice that got worse": (worse_slice, "no_slice_worse"),
    "a slower model": (slower, "not_slower"),
    "a larger model": (larger, "not_bigger"),
    "a worse model": (worse, "not_inferior"),
    "a NaN metric": (set_to("candidate", "metrics", "accuracy", "value", value=float("nan")), ""),
    "an infinite bound": (set_to("candidate", "metrics", "accuracy", "high", value=float("inf")), ""),
    "a missing metric": (without("candidate", "metrics", "accuracy"), ""),
    "no candidate": (without("candidate"), ""),
    "a champion that was left out": (set_to("champion", value=None), ""),
    "a champion that cannot be reached": (set_to("champion_status", value="unreachable"), "champion_known"),
    "a comparison that was left out": (set_to("comparison", "champion", value=None), ""),
    "no general baseline": (set_to("general", value=None), ""),
    "other test rows for the champion": (set_to("champion", "test_digest", value="0" * 64), "same_rows"),
    "a class that the candidate forgot": (lambda tree: tree["candidate"]["labels"].pop(), "labels_complete"),
    "a model of other data": (set_to("candidate", "data_digest", value="0" * 64), "trained_on_this_data"),
    "a metric in words": (set_to("candidate", "metrics", "accuracy", "value", value="0.99"), ""),
    "a latency over budget": (set_to("candidate", "latency_ms", "p99", value=5000.0), "latency_budget"),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_sabotaged_evidence_is_refused(victim, name):
    change, rule = EVIDENCE[name]
    decision = victim.judge(victim.run_id, victim.tampered(change))
    assert decision["verdict"] == "refuse"
    assert decision["reasons"]
    if rule:
        assert rule in refusing(decision)
    with pytest.raises(Refused):
        victim.register(victim.run_id)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "null", '{"verdict": "pass"}'])
def test_an_evaluation_file_that_is_missing_or_broken_is_refused(victim, content):
    folder = victim.copy(victim.evidence)
    path = folder / "evaluation.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert victim.judge(victim.run_id, folder)["verdict"] == "refuse"
    with pytest.raises(Refused):
        victim.register(victim.run_id)


def test_a_candidate_that_no_gate_has_seen_is_refused(victim):
    run_id, _ = victim.evaluate(victim.model)
    with pytest.raises(Refused):
        victim.register(run_id)


def test_an_evaluator_that_crashes_leaves_no_run_that_could_pass(victim):
    model = victim.copy(victim.model)
    (model / "model.int8.onnx").write_bytes(b"not a network")
    with pytest.raises(TokkaError):
        victim.evaluate(model)


# --- the model itself ------------------------------------------------------------------------------------------------


def stored_model(victim, run_id):
    """The model folder where MLflow keeps it."""
    (found,) = [path for path in Path(victim.settings.home / "artifacts").rglob("model.sig") if run_id in str(path)]
    return found.parent


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(bytes(content))


MODELS = {
    "a changed byte in the weights": lambda folder: flip(folder / "model.safetensors"),
    "a changed byte in the served form": lambda folder: flip(folder / "model.int8.onnx"),
    "a changed byte in the configuration": lambda folder: flip(folder / "tokka.json"),
    "no signature": lambda folder: (folder / "model.sig").unlink(),
    "an empty signature": lambda folder: (folder / "model.sig").write_bytes(b""),
    "an extra file": lambda folder: (folder / "extra.py").write_text("print()"),
    "a pickle": lambda folder: (folder / "model.pkl").write_bytes(b"\x80\x04."),
    "a missing tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_was_altered_after_the_gate_is_refused(victim, tmp_path, name):
    assert victim.judge(victim.run_id)["verdict"] == "pass"
    stored = stored_model(victim, victim.run_id)
    shutil.copytree(stored, tmp_path / "as it was")
    try:
        MODELS[name](stored)
        with pytest.raises(TokkaError):
            victim.register(victim.run_id)
    finally:
        shutil.rmtree(stored)
        shutil.copytree(tmp_path / "as it was", stored)


# --- surroundings ----------------------------------------------------------------------------------------------------


def test_mlflow_that_is_down_stops_a_run_before_it_costs(victim):
    settings = victim.settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(TokkaError, match="MLflow"):
        preflight.run(victim.params, settings)


def test_a_full_disk_stops_a_run_before_it_costs(victim, monkeypatch):
    monkeypatch.setenv("TOKKA_MINIMUM_FREE_BYTES", str(10**18))
    with pytest.raises(TokkaError, match="disk"):
        preflight.run(victim.params, victim.settings)


def test_a_record_that_cannot_be_read_stops_a_run(victim, tmp_path):
    (tmp_path / "record.db").write_bytes(b"this is no database" * 100)
    settings = victim.settings.model_copy(update={"record_url": f"sqlite:///{tmp_path}/record.db"})
    with pytest.raises(TokkaError, match="record"):
        preflight.run(victim.params, settings)


def test_params_that_do_not_exist_stop_a_run(victim):
    with pytest.raises(UsageError, match="did you mean"):
        load_params(victim.world.params_file, ["gate.minimun=0"])


def test_a_taken_port_is_named_and_nothing_starts(victim, tmp_path):
    from tokka.stack.stack import ensure_up

    settings = victim.settings.model_copy(update={"home": tmp_path / "other"})
    with pytest.raises(TokkaError, match=str(victim.settings.port)):
        ensure_up(settings, victim.params)
    assert not list((tmp_path / "other").rglob("*.pid"))


# --- past the gate ---------------------------------------------------------------------------------------------------


def test_the_control_passes_and_a_reviewer_or_a_canary_may_still_refuse(victim):
    """The candidate of this file passes when it is left alone: every refusal above had its cause in the sabotage."""
    victim.control = True
    assert victim.judge(victim.run_id)["verdict"] == "pass"
    version = victim.register(victim.run_id)
    champion = victim.snapshot()["champion"]
    required = victim.params.model_copy(
        update={"registry": victim.params.registry.model_copy(update={"review": "required"})}
    )
    assert victim.review(version, required) == "waiting"
    assert victim.roll_out(version, required)["verdict"] == "held"
    assert victim.snapshot()["champion"] == champion
    corrupt_served_copies(victim, version)
    assert victim.roll_out(version)["verdict"] == "promoted"
    assert victim.snapshot()["answer"][0] == version


def corrupt_served_copies(victim, version):
    """A served copy that was altered on disk is thrown away and fetched again, not loaded."""
    digest = Registry(victim.settings, victim.params.registry.model).version(version).digest
    copy = victim.settings.home / "models" / digest / "tokenizer.json"
    if copy.exists():
        flip(copy)
