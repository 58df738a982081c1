"""How measurements become rows: the language model's sample beside the specialist, and what cannot be measured."""

import json

import numpy as np
import pytest

from tests.unit.evaluation.models.test_prompted import reply, server  # noqa: F401  (a fixture)
from tokka.data.preparation.prepared import load
from tokka.evaluation.alternatives import (
    BEING_MEASURED,
    Benchmark,
    Way,
    _against,
    _other_forms,
    _prompted,
    measured_ways,
)
from tokka.evaluation.gate.recommendation import Row, as_dict
from tokka.evaluation.metrics.test_set import open_test
from tokka.evaluation.models import prompted
from tokka.evaluation.models.scoring import open_model


@pytest.fixture
def bench(prepared, params, tmp_path):
    def make(**general):
        rules = params(evaluation={"general": general})
        data = load(prepared)
        return Benchmark(data, open_test(data, [], 20), rules, tmp_path, tmp_path, "accuracy")

    return make


def perfect(test):
    return np.eye(len(test.classes))[test.target]


def test_the_sample_of_a_language_model_stands_beside_the_specialist_on_the_same_rows(bench, server):  # noqa: F811
    here = bench(endpoint=server.endpoint.url, model="little", rows=30, input_price=2.0, output_price=10.0)
    truth = dict(zip(here.test.texts, here.test.table["target"].to_pylist(), strict=True))

    def script(number, body):
        return reply("refund" if number % 5 == 0 else truth[body["messages"][-1]["content"]])

    server.script = script
    way = _prompted(here, perfect(here.test))
    assert way.row.rows == len(way.sample) == 30
    assert 0.8 <= way.row.quality < 1.0
    assert way.row.low <= way.row.quality <= way.row.high
    assert way.row.same_rows["value"] == 1.0
    assert way.row.token_price == pytest.approx((100 * 2.0 + 4 * 10.0) / 1e6)
    assert as_dict(way.row, here.params.evaluation.prices)["per_1000"] == pytest.approx(0.24)
    best = Way(Row("candidate", "specialist", "Candidate", quality=1.0), perfect(here.test))
    assert -0.4 < _against(way, best, here).gap_low < 0
    assert _against(best, way, here).gap_low >= 0
    assert _against(best, best, here).gap_low is None


def test_without_prices_a_language_model_costs_nothing_known(bench, server):  # noqa: F811
    here = bench(endpoint=server.endpoint.url, rows=5)
    row = _prompted(here, perfect(here.test)).row
    assert row.token_price is None
    assert "no price per token is set" in row.note
    assert as_dict(row, here.params.evaluation.prices)["per_month"] is None


def test_an_unreachable_endpoint_is_a_row_that_says_so(bench, monkeypatch):
    monkeypatch.setattr(prompted, "FIRST_PAUSE_S", 0.01)
    here = bench(endpoint="http://127.0.0.1:9/v1", rows=5)
    asked = {**vars(Row("prompted", "general", "General: prompted", problem=BEING_MEASURED))}
    (way,) = measured_ways(here, [asked], {"candidate": perfect(here.test)}, None)
    row = way.row
    assert "does not answer: ConnectError" in row.problem
    assert json.dumps(as_dict(row, here.params.evaluation.prices))


def test_a_model_with_one_onnx_form_has_no_other_one(specialist):
    assert list(_other_forms(open_model("candidate", "", specialist))) == []


def test_the_margin_is_in_units_of_the_metric(bench):
    rule = bench().rule
    assert (rule.margin, rule.higher, rule.latency_budget_ms) == (0.02, True, 100.0)
