"""Behaviour tests: a model with a known weakness fails the test that looks for it, and no other."""

import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from tokka.errors import UsageError
from tokka.evaluation.behaviour import run_behaviour
from tokka.evaluation.behaviour_suite import Behaviour, load_behaviour
from tokka.evaluation.metrics.test_set import TestSet
from tokka.settings import Settings

LABELS = ("card", "printer")
TEXTS = [f"Please tell Amara the {word} is lost in Porto, number {number}!" for number in range(40) for word in LABELS]


def test_set(texts=TEXTS, *, values=None, pairs=None):
    columns = {"text": texts, "slice_channel": [("mail", "chat")[number % 4 == 0] for number in range(len(texts))]}
    target = np.zeros(len(texts), int) if values is None else np.asarray(values, float)
    return TestSet(pa.table(columns), texts, pairs, target, () if values is not None else LABELS, "d", 2.0, [])


test_set.__test__ = False


class Words:
    """Answers "printer" where `rule` finds one; for regression the number of words times ten."""

    def __init__(self, rule=lambda text: "printer" in text.lower(), labels=LABELS):
        self.rule, self.labels, self.asked = rule, labels, 0

    def predict(self, texts, pairs=None):
        self.asked += len(texts)
        if not self.labels:
            return SimpleNamespace(scores=np.array([[float(self.rule(text))] for text in texts]), labels=[])
        return SimpleNamespace(labels=[self.labels[bool(self.rule(text))] for text in texts], scores=None)


def wanted(*tests, **settings):
    return Behaviour.model_validate({"tests": tests, **settings})


def invariance(change, **more):
    return {"name": f"{change} {more}", "kind": "invariance", "change": change, "minimum": 0.95, **more}


def verdicts(model, *tests, test=None, **settings):
    found = run_behaviour(wanted(*tests, **settings), test or test_set(), {"candidate": model}, seed=7)
    return found, [
        one["subjects"]["candidate"]["verdict"] if "subjects" in one else "skipped" for one in found["tests"]
    ]


ALL = [
    invariance("typos"),
    invariance("upper"),
    invariance("lower"),
    invariance("punctuation"),
    invariance("substitute", words=["Amara", "Mei", "Jonas"]),
    invariance("prefix", text="Hello,"),
    invariance("suffix", text="thanks"),
]


@pytest.mark.parametrize(
    ("rule", "weak"),
    [
        (lambda text: "printer" in text.lower(), {0}),
        (lambda text: "printer" in text, {0, 1}),
        (lambda text: "P" in text and "printer" in text.lower(), {0, 2}),
        (lambda text: text.endswith("!"), {3, 6}),
        (lambda text: "amara" in text.lower(), {4}),
        (lambda text: text.startswith("Please"), {0, 1, 2, 5}),
    ],
)
def test_each_weakness_fails_the_test_that_looks_for_it(rule, weak):
    _, found = verdicts(Words(rule), *ALL)
    # A slip may or may not hit the word that a rule lives by: what counts is every other test.
    assert {number for number, verdict in enumerate(found) if verdict == "fail" and number} == weak - {0}


def test_slips_hurt_a_model_that_needs_the_exact_word_and_the_examples_show_it():
    found, (verdict,) = verdicts(Words(), invariance("typos", count=3))
    part = found["tests"][0]["subjects"]["candidate"]
    assert verdict == "fail"
    assert part["rate"] < 0.9
    assert part["low"] <= part["rate"] <= part["high"]
    assert part["passed"] == round(part["rate"] * part["rows"])
    assert 1 <= len(part["examples"]) <= 5
    for example in part["examples"]:
        assert "printer" in example["before"]
        assert "printer" not in example["after"]
        assert (example["expected"], example["got"]) == ("printer", "card")


def test_robustness_is_the_mean_rate_of_the_invariance_tests_alone():
    functionality = {"name": "f", "kind": "functionality", "cases": [{"text": "a card", "label": "printer"}]}
    found, _ = verdicts(Words(lambda text: text.endswith("!")), ALL[1], ALL[6], functionality)
    assert found["robustness"]["candidate"] == pytest.approx(0.5)


def test_all_models_are_asked_the_same_and_the_same_seed_asks_the_same():
    models = {"candidate": Words(), "champion": Words(lambda text: True)}
    found = run_behaviour(wanted(ALL[0]), test_set(), models, seed=7)
    assert found["tests"][0]["subjects"]["champion"]["rate"] == 1.0
    assert found == run_behaviour(wanted(ALL[0]), test_set(), models, seed=7)
    examples = [one["tests"][0]["subjects"]["candidate"]["examples"] for one in
                (found, run_behaviour(wanted(ALL[0]), test_set(), models, seed=8))]  # fmt: skip
    assert examples[0] != examples[1]


def test_rows_and_where_bound_what_is_changed():
    found, _ = verdicts(Words(), invariance("upper"), invariance("lower", where={"channel": "chat"}), rows=30)
    assert [one["subjects"]["candidate"]["rows"] for one in found["tests"]] == [30, 20]


def test_a_direction_that_is_not_taken_fails():
    move = {"name": "m", "kind": "directional", "texts": ["my card"], "replace": {"card": "printer"}}
    assert verdicts(Words(), {**move, "to": "printer"}, {**move, "name": "n", "away_from": "card"})[1] == ["pass"] * 2
    stubborn = Words(lambda text: False)
    assert verdicts(stubborn, {**move, "to": "printer"}, {**move, "name": "n", "away_from": "card"})[1] == ["fail"] * 2


def test_a_simple_case_that_is_wrong_fails_and_a_half_of_two_is_a_half():
    cases = [{"text": "my printer", "label": "printer"}, {"text": "my card", "label": "printer"}]
    found, (verdict,) = verdicts(Words(), {"name": "f", "kind": "functionality", "cases": cases, "minimum": 0.6})
    assert (verdict, found["tests"][0]["subjects"]["candidate"]["rate"]) == ("fail", 0.5)


def test_what_this_task_does_not_have_is_skipped_with_the_reason():
    found, verdict = verdicts(
        Words(),
        {"name": "a", "kind": "functionality", "cases": [{"text": "x", "label": "refund"}]},
        {"name": "b", "kind": "directional", "texts": ["x"], "add": "y", "to": "refund"},
        invariance("upper", where={"country": "NO"}),
        invariance("substitute", words=["Oskar", "Elif"]),
        {"name": "c", "kind": "directional", "texts": ["x"], "add": "y", "value": "rises"},
        {"name": "d", "kind": "functionality", "cases": [{"text": "x", "at_least": 1.0}]},
    )
    reasons = [one["skipped"] for one in found["tests"]]
    assert verdict == ["skipped"] * 6
    assert ["refund" in reasons[0], "refund" in reasons[1], "country" in reasons[2]] == [True] * 3
    assert "no test row" in reasons[3]
    assert "not values" in reasons[4]
    assert found["robustness"]["candidate"] is None


def test_cases_of_unknown_classes_are_left_out_and_counted():
    cases = [{"text": "my card", "label": "card"}, {"text": "x", "label": "refund"}]
    found, (verdict,) = verdicts(Words(), {"name": "f", "kind": "functionality", "cases": cases})
    assert (verdict, found["tests"][0]["subjects"]["candidate"]["rows"]) == ("pass", 1)
    assert "refund" in found["tests"][0]["note"]


def test_values_may_move_within_the_tolerance_and_must_move_in_the_direction():
    rows = test_set(values=np.arange(len(TEXTS)))
    length = Words(lambda text: len(text.split()), labels=())
    rises = {"name": "r", "kind": "directional", "texts": ["good"], "add": "very good"}
    within = {"name": "w", "kind": "functionality", "cases": [{"text": "one two", "at_least": 2, "at_most": 2.5}]}
    beyond = {"name": "b", "kind": "functionality", "cases": [{"text": "one two", "at_least": 3}]}
    asked = (invariance("upper"), invariance("suffix", text="x"), {**rises, "value": "rises"},
             {**rises, "name": "s", "value": "falls"}, within, beyond)  # fmt: skip
    assert verdicts(length, *asked, test=rows)[1] == ["pass", "fail", "pass", "fail", "pass", "fail"]
    # One word more is 1.0, the tolerance then 0.6 times the scale of 2.
    assert verdicts(length, asked[1], test=rows, tolerance=0.6)[1] == ["pass"]


def test_the_second_text_of_a_pair_is_asked_along():
    seen = []

    class Pairs(Words):
        def predict(self, texts, pairs=None):
            seen.extend(pairs)
            return super().predict(texts)

    pair_test = test_set(pairs=[f"answer {number}" for number in range(len(TEXTS))])
    assert verdicts(Pairs(), invariance("upper"), test=pair_test)[1] == ["pass"]
    assert all(re.fullmatch(r"answer \d+", pair) for pair in seen)


def test_a_missing_file_is_said_before_anything_is_measured(tmp_path, params, monkeypatch):
    from tokka.evaluation.evaluate import evaluate
    from tokka.evaluation.gate.schema import Champion
    from tokka.steps import preflight

    rules = params(evaluation={"behaviour": "data/none.yaml"})
    with pytest.raises(UsageError, match=r"none\.yaml does not exist"):
        evaluate(tmp_path, tmp_path, Champion("none", "", None, ""), rules, tmp_path / "out")
    settings = Settings.from_environment({"TOKKA_ROOT": str(tmp_path), "TOKKA_HOME": str(tmp_path / "home")})
    check = next(check for check in preflight.checks(rules, settings) if check.name == "behaviour tests")
    assert not check.well
    assert "none.yaml" in check.found


def test_on_other_data_the_generic_tests_run_and_those_of_the_sample_say_why_not():
    texts = [f"where did my {word} go, again and again" for word in LABELS * 20]
    asked = load_behaviour(Settings.from_environment({}).root / "data/behaviour.yaml")
    found = run_behaviour(asked, test_set(texts), {"candidate": Words()}, seed=7)
    ran = [one["kind"] for one in found["tests"] if "subjects" in one]
    skipped = [one for one in found["tests"] if "skipped" in one]
    assert ran and set(ran) == {"invariance"}
    assert {one["kind"] for one in skipped} >= {"directional", "functionality"}
    assert all(one["skipped"] for one in skipped)


def test_what_else_is_in_a_batch_is_not_taken_for_an_effect_of_the_change():
    class Crowded(Words):
        """Of many texts at once, every second is answered otherwise at every second call."""

        def predict(self, texts, pairs=None):
            self.asked += 1
            turn = self.asked if len(texts) > 1 else 0
            return SimpleNamespace(labels=[self.labels[turn % 2]] * len(texts), scores=None)

    assert verdicts(Crowded(), *ALL)[1] == ["pass"] * len(ALL)
