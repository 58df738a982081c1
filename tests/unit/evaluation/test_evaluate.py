"""The whole evaluation on small real models: what it writes, what the gate then says, and what stops it."""

import json
import math
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.evaluation.conftest import make_specialist
from tokka import files
from tokka.errors import TokkaError
from tokka.evaluation.complete import complete
from tokka.evaluation.evaluate import default_cache, evaluate
from tokka.evaluation.gate.agreement import Seen
from tokka.evaluation.gate.gate import decide
from tokka.evaluation.gate.schema import Champion
from tokka.evaluation.recompute import look
from tokka.evaluation.report.kubeflow import most_confused, show_classification, show_metrics

NONE = Champion("none", "", None, "nothing serves yet")


def refusals(evaluation, params, out):
    found = decide(evaluation, params, look(out, evaluation, params))
    return {rule.rule for rule in found.rules if rule.verdict == "refuse"}


@pytest.fixture(scope="module")
def first(tmp_path_factory, prepared, specialist, base):
    from tokka.params import parse_params

    out = tmp_path_factory.mktemp("evidence") / "out"
    rules = parse_params({"model": {"base": str(base), "max_tokens": 48},
                          "evaluation": {"bootstrap": 200, "slices_minimum_rows": 20}})  # fmt: skip
    evaluation = evaluate(prepared, specialist, NONE, rules, out)
    complete(out, prepared, specialist, None, rules, default_cache())
    return evaluation, out, rules


def test_the_first_version_passes_on_absolute_rules_and_beats_the_general_model(first):
    evaluation, out, rules = first
    decision = decide(evaluation, rules, look(out, evaluation, rules))
    assert decision.verdict == "pass", decision.reasons
    assert evaluation["champion_status"] == "none"
    assert evaluation["general"]["metrics"]["accuracy"]["value"] < evaluation["candidate"]["metrics"]["accuracy"]["low"]


def test_every_file_of_the_evidence_is_there_and_says_the_same(first, prepared):
    evaluation, out, _ = first
    assert files.read_json(out / "evaluation.json") == evaluation
    test = pq.read_table(prepared / "test.parquet")
    predictions, replay = pq.read_table(out / "predictions.parquet"), pq.read_table(out / "replay.parquet")
    assert predictions.column("row_id").to_pylist() == test.column("row_id").to_pylist()
    answers = zip(predictions["target"].to_pylist(), predictions["candidate_label"].to_pylist(), strict=True)
    right = np.mean([truth == answer for truth, answer in answers])
    assert right == pytest.approx(evaluation["candidate"]["metrics"]["accuracy"]["value"])
    assert set(replay.column_names) == {"row_id", "text", "target"}
    reference = pq.read_table(out / "reference.parquet")
    assert reference["text"].to_pylist() == test["text"].to_pylist()
    assert reference.schema.metadata[b"origin"] == b"test rows, held out of the data"
    assert {"label", "prediction", "confidence", "length", "unknown", "embedding"} <= set(reference.column_names)
    assert len(reference["embedding"][0].as_py()) == 32


def test_kubeflow_gets_finite_plain_numbers(first):
    evaluation, out, _ = first
    logged, curves = {}, {}

    class Metrics:
        def log_metric(self, name, value):
            logged[name] = value

    class Classification:
        def log_confusion_matrix(self, labels, matrix):
            curves["matrix"] = (labels, matrix)

        def log_roc_curve(self, fpr, tpr, threshold):
            curves["roc"] = (fpr, tpr, threshold)

    show_metrics(evaluation, Metrics())
    show_classification(out, Classification())
    accuracy = evaluation["candidate"]["metrics"]["accuracy"]["value"]
    assert logged["candidate_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert len(logged) <= 12
    assert all(type(value) is float and math.isfinite(value) for value in logged.values())
    assert sum(map(sum, curves["matrix"][1])) == evaluation["test"]["rows"]
    assert len(curves["roc"][0]) <= 200
    assert all(math.isfinite(value) for part in curves["roc"] for value in part)


def test_of_many_classes_the_most_confused_stay_and_the_others_are_one():
    labels = [f"class {number}" for number in range(40)]
    matrix = [[10 if row == column else int(row % 2 == 0 and column == 0) for column in range(40)] for row in range(40)]
    shown, counts = most_confused(labels, matrix)
    assert len(shown) == len(counts) == 16
    assert shown[-1] == "other" and shown[0] == "class 0"
    assert sum(map(sum, counts)) == sum(map(sum, matrix))
    assert most_confused(["a", "b"], [[1, 2], [3, 4]]) == (["a", "b"], [[1, 2], [3, 4]])


def test_the_report_is_one_small_page_without_scripts_or_links_outside(first):
    page = (first[1] / "report.html").read_text()
    assert len(page) < 3_000_000
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["']https?:""", page)
    assert not re.findall(r"#0102[0-9a-f]{2}", page), "a stand-in colour was left"
    assert "prefers-color-scheme: dark" in page
    assert page.index("The candidate may become a version") < page.index("<h2>Quality")
    assert "What a threshold costs" in page


def test_the_general_baseline_costs_are_measured(first):
    for name in ("candidate", "general"):
        subject = first[0][name]
        assert 0 < subject["latency_ms"]["p50"] <= subject["latency_ms"]["p99"]
        assert subject["memory_mb"] > 20
        assert 0.05 < subject["cold_start_s"] < 300
        assert subject["parameters"] > 1000


def test_every_way_is_weighed_and_the_recommendation_is_in_the_report(first):
    evaluation, out, _ = first
    found = files.read_json(out / "details.json")["decision"]
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["candidate", "linear", "tfidf", "general"]
    assert (rows["linear"]["kind"], rows["tfidf"]["kind"]) == ("simple", "simple")
    for row in rows.values():
        assert row["low"] <= row["quality"] <= row["high"]
        assert row["per_month"] > 0
        assert row["energy"]["reason"] or row["energy"]["wh"] > 0
    assert rows["candidate"]["quality"] == evaluation["candidate"]["metrics"]["accuracy"]["value"]
    assert rows["general"]["gap_low"] < rows["linear"]["gap_low"] <= 0 == rows["general"]["labelled_rows"]
    assert rows["linear"]["training_cpu_seconds"] > 0
    assert found["recommendation"]["name"] in rows
    page = (out / "report.html").read_text()
    assert page.index("Specialised or general?") < page.index(found["recommendation"]["reason"])
    assert all(part in page for part in ("The rule.", "In money and energy", "recommended"))


@pytest.mark.slow
def test_a_spoilt_candidate_is_refused_against_the_champion(tmp_path, prepared, specialist, base, params):
    rules = params(evaluation={"general": False}, gate={"beat_general": False, "minimum": 0.0})
    spoilt = make_specialist(tmp_path / "spoilt", base, prepared, blur=3.0)
    champion = Champion("present", "4", specialist, "")
    evaluation = evaluate(prepared, spoilt, champion, rules, tmp_path / "out")
    assert "not_inferior" in refusals(evaluation, rules, tmp_path / "out")
    assert evaluation["comparison"]["champion"]["high"] < 0
    same = evaluate(prepared, specialist, champion, rules, tmp_path / "same")
    assert same["comparison"]["champion"]["difference"] == 0
    assert "not_inferior" in refusals(same, rules, tmp_path / "same"), (
        "120 rows cannot show that two points were not lost"
    )
    three = params(
        evaluation={"general": False}, gate={"beat_general": False, "minimum": 0.0, "noninferiority_margin": 0.03}
    )
    # Latency on a busy machine is not what this is about.
    assert refusals(same, three, tmp_path / "same") <= {"not_slower"}


@pytest.mark.slow
def test_classes_that_come_and_go_are_matched_by_name(tmp_path, prepared, specialist, base, params):
    rules = params(evaluation={"general": False}, gate={"beat_general": False, "slowdown": 100.0})
    older = make_specialist(tmp_path / "older", base, prepared, labels=["card lost", "refund"])
    grown = evaluate(prepared, specialist, Champion("present", "1", older, ""), rules, tmp_path / "a")
    assert grown["champion"]["metrics"]["accuracy"]["value"] <= 2 / 3
    assert refusals(grown, rules, tmp_path / "a") == set()
    shrunk = evaluate(prepared, older, Champion("present", "1", specialist, ""), rules, tmp_path / "b")
    assert "labels_complete" in refusals(shrunk, rules, tmp_path / "b")


def test_a_champion_that_cannot_be_used_is_unreachable_and_refused(tmp_path, prepared, specialist, params):
    rules = params(evaluation={"general": False}, gate={"beat_general": False})
    broken = shutil.copytree(specialist, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"changed")
    champion = Champion("present", "1", broken, "")
    evaluation = evaluate(prepared, specialist, champion, rules, tmp_path / "out")
    assert evaluation["champion_status"] == "unreachable"
    assert refusals(evaluation, rules, tmp_path / "out") == {
        "champion_known",
        "not_inferior",
        "no_slice_worse",
        "not_slower",
        "not_bigger",
    }


def test_a_champion_that_cannot_answer_these_rows_is_unreachable(tmp_path, prepared, base, specialist, params):
    rules = params(evaluation={"general": False}, gate={"beat_general": False})
    of_pairs = make_specialist(tmp_path / "pairs", base, prepared, text_pair=True)
    evaluation = evaluate(prepared, specialist, Champion("present", "1", of_pairs, ""), rules, tmp_path / "out")
    assert evaluation["champion"] is None
    assert "champion_known" in refusals(evaluation, rules, tmp_path / "out")
    assert "two texts" in evaluation["champion_reason"]


def test_a_broken_candidate_stops_the_evaluation_and_leaves_nothing(tmp_path, prepared, specialist, params):
    broken = shutil.copytree(specialist, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"changed")
    with pytest.raises(TokkaError, match="changed"):
        evaluate(prepared, broken, NONE, params(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_test_rows_in_the_training_data_are_counted_and_refused(tmp_path, prepared, specialist, params):
    leaky = shutil.copytree(prepared, tmp_path / "leaky")
    train, test = pq.read_table(leaky / "train.parquet"), pq.read_table(leaky / "test.parquet")
    rows = test.slice(0, 2).to_pylist()
    rows[1] |= {"row_id": "0" * 16, "text": f"  {rows[1]['text'].upper()}!"}
    kept = train.slice(2).to_pylist()
    pq.write_table(pa.Table.from_pylist(kept + rows, schema=train.schema), leaky / "train.parquet")
    rules = params(evaluation={"general": False}, gate={"beat_general": False})
    evaluation = evaluate(leaky, specialist, NONE, rules, tmp_path / "out")
    assert evaluation["overlap"] == {"row_ids": 1, "texts": 2}
    assert refusals(evaluation, rules, tmp_path / "out") == {"no_leak"}


@pytest.mark.parametrize("trained_on", ["", "e" * 64])
def test_a_candidate_that_was_trained_on_other_data_is_refused(tmp_path, prepared, base, params, trained_on):
    rules = params(evaluation={"general": False}, gate={"beat_general": False})
    stranger = make_specialist(tmp_path / "stranger", base, prepared, trained_on=trained_on)
    evaluation = evaluate(prepared, stranger, NONE, rules, tmp_path / "out")
    assert refusals(evaluation, rules, tmp_path / "out") == {"trained_on_this_data"}


@pytest.mark.slow
def test_regression_takes_the_same_path(tmp_path, prepared_regression, base, params):
    rules = params("regression")
    model = make_specialist(tmp_path / "model", base, prepared_regression)
    evaluation = evaluate(prepared_regression, model, NONE, rules, tmp_path / "out")
    assert evaluation["metric"] == "mae"
    assert set(evaluation["candidate"]["metrics"]) == {"mae", "rmse", "r2", "pearson", "spearman"}
    assert "nearest neighbours" in evaluation["general"]["form"]
    assert evaluation["test"]["scale"] == pytest.approx(0.82, abs=0.1)
    assert refusals(evaluation, rules, tmp_path / "out") <= {"beats_general"}
    assert json.loads((tmp_path / "out" / "roc.json").read_text()) == {"fpr": [], "tpr": [], "threshold": []}
    assert "Predicted and true values" in (tmp_path / "out" / "report.html").read_text()


def test_hostile_labels_and_texts_stay_text_in_the_report(first):
    from tokka.evaluation.report.report import render

    evaluation, out, rules = first
    attack = "<script>alert(1)</script>"
    details = json.loads((out / "details.json").read_text().replace("refund", attack))
    page = render(
        json.loads(json.dumps(evaluation).replace("refund", attack)), details, decide({}, rules, Seen()).as_dict()
    )
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_until_it_is_completed_the_report_says_what_is_being_measured(tmp_path, prepared, specialist, params):
    rules = params(evaluation={"behaviour": "data/behaviour.yaml", "insight": True, "learning_curve": [0.5]})
    evaluate(prepared, specialist, NONE, rules, tmp_path / "out")
    page, details = (tmp_path / "out" / "report.html").read_text(), files.read_json(tmp_path / "out" / "details.json")
    assert details["pending"] == ["behaviour", "alternatives", "insight", "learning_curve"]
    assert "Still being measured: behaviour, alternatives, insight, learning curve" in page
    for title in ("Behaviour", "Its forms", "What the data may be wrong about", "How much labelled data"):
        assert "being measured" in page[page.index(title) :][:400]
    assert {row["name"] for row in details["decision"]["rows"]} == {"candidate", "general"}
