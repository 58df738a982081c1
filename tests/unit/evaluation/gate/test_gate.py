"""The gate: what it refuses, that better is never worse, and that no rubbish passes or raises."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.evaluation.gate.agreement import AGREEMENT, FILES, Seen
from tokka.evaluation.gate.gate import decide as decide_by
from tokka.evaluation.gate.rules import REQUIRED, RULES
from tokka.params import parse_params

LOWER_IS_BETTER = ("log_loss", "brier", "ece", "mae", "rmse")


def bounds(value, reach=0.01):
    return {"value": value, "low": value - reach, "high": value + reach}


def subject(name, quality=0.9, task="classification", **changes):
    slices = [
        {"slice": "channel", "value": value, "rows": 300, "metric": bounds(quality)} for value in ("mail", "chat")
    ]
    return {
        "name": name,
        "version": "1",
        "form": "int8",
        "labels": ["a", "b"] if task == "classification" else [],
        "data_digest": "d" * 64,
        "test_digest": "t" * 64,
        "rows": 900,
        "metrics": {metric: bounds(quality) for metric in REQUIRED[task]},
        "slices": slices,
        "latency_ms": {"p50": 2.0, "p99": 4.0},
        "throughput": 400.0,
        "size_mb": 23.0,
        "memory_mb": 120.0,
        "cold_start_s": 0.4,
        "cpu_ms": 2.0,
        "parameters": 22_000_000,
        "digest": "ab" * 32 if name != "general" else "",
        **changes,
    }


def comparison(difference, metric="accuracy", reach=0.01):
    slices = [
        {"slice": "channel", "value": value, "rows": 300, "difference": difference, "low": difference - 0.05,
         "high": difference + 0.05}
        for value in ("mail", "chat")
    ]  # fmt: skip
    low, high = difference - reach, difference + reach
    return {"metric": metric, "difference": difference, "low": low, "high": high, "p_value": 0.3, "rows": 900,
            "slices": slices}  # fmt: skip


def evaluation(task="classification", champion=True):
    metric = {"classification": "accuracy", "regression": "mae"}[task]
    return {
        "format": 1,
        "task": task,
        "metric": metric,
        "higher_is_better": task == "classification",
        "test": {"rows": 900, "digest": "t" * 64, "labels": ["a", "b"] if task == "classification" else [],
                 "scale": 1.0},
        "data_digest": "d" * 64,
        "overlap": {"row_ids": 0, "texts": 0},
        "candidate": subject("candidate", task=task),
        "champion": subject("champion", task=task) if champion else None,
        "champion_status": "present" if champion else "none",
        "champion_reason": "",
        "generation": 4,
        "files": dict.fromkeys(FILES, "f" * 64),
        "general": subject("general", 0.5, task=task),
        "comparison": {
            "champion": comparison(0.0, metric) if champion else None,
            "general": comparison(0.4, metric),
        },
    }  # fmt: skip


COSTS = ("latency_ms", "throughput", "size_mb", "memory_mb", "cold_start_s", "cpu_ms", "parameters", "labels", "name",
         "version", "form", "data_digest", "digest")  # fmt: skip


def seen(tree, **changes):
    """What somebody finds who computes the figures of an evaluation again, and it is true."""
    names = ("candidate", "champion", "general")
    figures = {name: tree[name] and {key: tree[name][key] for key in tree[name] if key not in COSTS} for name in names}
    figures |= {name: tree[name] for name in ("task", "test", "overlap", "comparison")}
    champion = tree["champion"] and (tree["champion"]["version"], tree["champion"]["digest"])
    given = {"figures": figures, "files": tree["files"], "distinct": 900, "truths": 2, "champion": champion}
    return Seen(**given | changes)


def decide(tree, rules):
    """As the gate decides on an evaluation that does not lie."""
    try:
        found = seen(copy.deepcopy(tree))
    except Exception:
        found = Seen(problem="it is none")
    return decide_by(tree, rules, found)


def params(task="classification", **gate):
    return parse_params({"task": {"type": task}, "gate": gate})


def refusals(found, rules):
    return {rule.rule for rule in decide(found, rules).rules if rule.verdict == "refuse"}


def change(tree, path, value):
    tree = copy.deepcopy(tree)
    *above, last = path
    here = tree
    for key in above:
        here = here[key]
    here[last] = value
    return tree


def paths(tree, above=()):
    """The path of every value of a JSON tree, inner ones before what holds them."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from paths(value, (*above, key))
        yield (*above, key)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("champion", [True, False])
def test_a_sound_candidate_passes_with_a_reason_for_every_rule(task, champion):
    decision = decide(evaluation(task, champion), params(task))
    assert decision.verdict == "pass", decision.reasons
    assert {rule.rule for rule in decision.rules} == {"well_formed", *RULES, *AGREEMENT}
    assert all(rule.reason for rule in decision.rules)
    assert json.loads(json.dumps(decision.as_dict())) == decision.as_dict()


SABOTAGE = [
    (("metric",), "f1_macro", "metric_is_the_asked_one"),
    (("task",), "regression", "metric_is_the_asked_one"),
    (("higher_is_better",), False, "metric_is_the_asked_one"),
    (("test", "rows"), 10, "enough_rows"),
    (("candidate", "rows"), 899, "same_rows"),
    (("champion", "test_digest"), "u" * 64, "same_rows"),
    (("comparison", "champion", "rows"), 899, "same_rows"),
    (("comparison", "general", "metric"), "f1_macro", "same_rows"),
    (("overlap", "row_ids"), 1, "no_leak"),
    (("overlap", "texts"), 3, "no_leak"),
    (("candidate", "data_digest"), "", "trained_on_this_data"),
    (("candidate", "data_digest"), "e" * 64, "trained_on_this_data"),
    (("candidate", "labels"), ["a"], "labels_complete"),
    (("champion", "labels"), ["a", "b", "c"], "labels_complete"),
    (("candidate", "metrics", "accuracy"), bounds(0.605), "absolute_minimum"),
    (("comparison", "general"), comparison(0.005), "beats_general"),
    (("general",), None, "beats_general"),
    (("comparison", "general"), None, "beats_general"),
    (("candidate", "latency_ms"), {"p50": 2.0, "p99": 101.0}, "latency_budget"),
    (("candidate", "size_mb"), 501.0, "size_budget"),
    (("champion_status",), "unreachable", "champion_known"),
    (("champion_status",), "none", "champion_known"),
    (("champion",), None, "champion_known"),
    (("comparison", "champion"), None, "champion_known"),
    (("comparison", "champion"), comparison(-0.011), "not_inferior"),
    (("comparison", "champion", "slices", 0, "difference"), -0.051, "well_formed"),
    (("comparison", "champion", "slices", 0), {"slice": "channel", "value": "mail", "rows": 300, "difference": -0.1,
                                               "low": -0.15, "high": -0.02}, "no_slice_worse"),
    (("comparison", "champion", "slices"), [], "no_slice_worse"),
    (("candidate", "latency_ms"), {"p50": 3.1, "p99": 4.0}, "not_slower"),
    (("candidate", "size_mb"), 35.0, "not_bigger"),
    (("unknown",), 1, "well_formed"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "rule"), SABOTAGE)
def test_each_fault_is_refused_by_its_rule(path, value, rule):
    assert rule in refusals(change(evaluation(), path, value), params())


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9", [], {}, True, -1])
def test_no_value_can_become_rubbish_unnoticed(task, champion, value):
    whole = evaluation(task, champion)
    for path in paths(whole):
        kept = whole
        for key in path:
            kept = kept[key]
        # A slice list may be shorter, a difference may be -1, a name may be any text, an absent champion stays absent.
        harmless = isinstance(kept, str) and isinstance(value, str)
        if harmless or (type(value) is type(kept) and value == kept) or path[-1] in ("labels", "slices"):
            continue
        if value == -1 and path[-1] in ("difference", "low", "high", "value", "p_value"):
            continue
        assert decide(change(whole, path, value), params(task)).verdict == "refuse", (path, value)


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_field_is_needed(task, champion):
    whole = evaluation(task, champion)
    for path in paths(whole):
        without = copy.deepcopy(whole)
        here = without
        for key in path[:-1]:
            here = here[key]
        if isinstance(here, list):
            continue  # a member of a list is no field: fewer labels and slices have tests of their own
        del here[path[-1]]
        assert decide(without, params(task)).verdict == "refuse", path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_arbitrary_json_never_raises_and_never_passes(value):
    assert decide(value, params()).verdict == "refuse"


@given(st.data(), JSON)
@settings(max_examples=200, deadline=None)
def test_arbitrary_json_in_one_place_never_raises(data, value):
    whole = evaluation()
    path = data.draw(st.sampled_from(list(paths(whole))))
    assert decide(change(whole, path, value), params()).verdict in ("pass", "refuse")


@pytest.mark.parametrize("value", [None, 7, "text", [], object(), {1: 2}, {"format": 10**400}])
def test_what_is_no_evaluation_at_all_is_refused(value):
    decision = decide(value, params())
    assert decision.verdict == "refuse"
    assert decision.reasons


def test_a_rule_that_fails_or_answers_oddly_refuses(monkeypatch):
    monkeypatch.setitem(RULES, "no_leak", lambda evaluation, params: 1 / 0)
    assert "no_leak" in refusals(evaluation(), params())
    monkeypatch.setitem(RULES, "no_leak", lambda evaluation, params: ("yes", "truthy, not True"))
    assert "no_leak" in refusals(evaluation(), params())


amount = st.floats(0.0, 0.3)


@given(
    quality=st.floats(0.5, 0.99),
    difference=st.floats(-0.1, 0.1),
    reach=st.floats(0.0, 0.1),
    latency=st.floats(0.5, 200.0),
    size=st.floats(2.0, 600.0),  # 22 million parameters: less than 1.1 MB is impossible, and refused
    gain=st.tuples(amount, amount, amount, amount),
)
@settings(max_examples=300, deadline=None)
def test_a_better_candidate_never_turns_pass_into_refuse(quality, difference, reach, latency, size, gain):
    def offer(up, ahead, quick, small):
        whole = evaluation()
        whole["candidate"] = subject(
            "candidate",
            quality + up,
            latency_ms={"p50": latency * (1 - quick), "p99": 2 * latency * (1 - quick)},
            size_mb=size * (1 - small),
        )
        whole["comparison"]["champion"] = comparison(difference + ahead, reach=reach)
        whole["comparison"]["general"] = comparison(difference + 0.1 + ahead, reach=reach)
        return decide(whole, params()).verdict

    if offer(0.0, 0.0, 0.0, 0.0) == "pass":
        assert offer(*gain) == "pass"


@given(st.floats(0, 0.2), st.floats(0, 0.2))
@settings(max_examples=50, deadline=None)
def test_a_stricter_margin_never_lets_more_through(margin, stricter):
    found = change(evaluation(), ("comparison", "champion"), comparison(-0.05))
    narrow, wide = sorted((margin, stricter))
    if decide(found, params(noninferiority_margin=narrow)).verdict == "pass":
        assert decide(found, params(noninferiority_margin=wide)).verdict == "pass"


def test_regression_margins_are_in_standard_deviations_of_the_target():
    found = change(evaluation("regression"), ("comparison", "champion"), comparison(-0.05, "mae"))
    assert "not_inferior" in refusals(found, params("regression"))
    wide = change(found, ("test", "scale"), 10.0)
    assert "not_inferior" not in refusals(wide, params("regression"))


def test_regression_is_held_to_its_own_minimum():
    weak = change(evaluation("regression"), ("candidate", "metrics", "r2"), bounds(0.3))
    assert refusals(weak, params("regression")) == set()
    assert refusals(weak, params("regression", minimum_r2=0.5)) == {"absolute_minimum"}


def test_what_must_be_beaten_is_what_is_asked_and_a_linear_head_has_tfidf_alone_to_beat():
    asked = params(must_beat="simple")
    assert refusals(evaluation(), params(must_beat="none")) == set()
    assert refusals(evaluation(), asked) == {"beats_simple"}, "nothing was measured"
    both = change(change(evaluation(), ("comparison", "linear"), comparison(0.05)), ("comparison", "tfidf"), None)
    assert refusals(both, asked) == {"beats_simple"}
    both = change(both, ("comparison", "tfidf"), comparison(0.05))
    assert refusals(both, asked) == set()
    assert refusals(change(both, ("comparison", "linear"), comparison(0.005)), asked) == {"beats_simple"}
    head = change(change(both, ("comparison", "linear"), None), ("candidate", "strategy"), "frozen")
    assert refusals(head, asked) == set()
    assert refusals(change(head, ("comparison", "tfidf"), comparison(-0.05)), asked) == {"beats_simple"}


def test_the_general_baseline_may_be_switched_off_by_name():
    alone = change(change(evaluation(), ("general",), None), ("comparison", "general"), None)
    assert refusals(alone, params()) == {"beats_general"}
    assert refusals(alone, params(beat_general=False)) == set()


@pytest.mark.parametrize(
    ("rule", "changes", "reason"),
    [
        ("size_budget", {"size_mb": 23.0}, "23.0 MB, at most 20.0 MB (export.edge)"),
        ("latency_budget", {"latency_ms": {"p50": 2.0, "p99": 4.0}}, "4.0 ms, at most 3.0 ms (export.edge)"),
    ],
)
def test_the_edge_profile_holds_a_candidate_to_its_own_budgets(rule, changes, reason):
    edge = {"latency_budget_ms": 3.0, "size_budget_mb": 20.0}
    tree = evaluation()
    within = {"size_mb": 19.0, "latency_ms": {"p50": 2.0, "p99": 2.9}}
    for name in ("candidate", "champion"):
        tree[name] |= within
    assert decide(tree, parse_params({"export": {"profile": "edge", "edge": edge}})).verdict == "pass"
    tree["candidate"] |= changes
    assert decide(tree, parse_params({"export": {"edge": edge}})).verdict == "pass"
    refused = decide(tree, parse_params({"export": {"profile": "edge", "edge": edge}}))
    assert [found.rule for found in refused.rules if found.verdict == "refuse"] == [rule]
    assert reason in refused.reasons[0]


def params_of(**data):
    return parse_params({"data": data})


def with_a_new_class(rows=850):
    tree = evaluation()
    tree["test"]["labels"] = tree["candidate"]["labels"] = ["a", "b", "new"]
    tree["comparison"]["champion"]["rows"] = rows
    return tree


def test_a_class_that_the_champion_does_not_know_is_left_out_and_named():
    told = {rule.rule: rule.reason for rule in decide(with_a_new_class(), params_of()).rules}
    assert "left out: 50 rows of 'new', which the champion does not know" in told["not_inferior"]
    assert decide(with_a_new_class(), params_of()).verdict == "pass"


def test_rows_of_classes_that_both_know_are_never_left_out():
    tree = evaluation()
    tree["comparison"]["champion"]["rows"] = 850
    assert "other rows" in " ".join(decide(tree, params_of()).reasons)


def test_few_rows_of_known_classes_prove_nothing():
    assert "only 20 test rows" in " ".join(decide(with_a_new_class(20), params_of()).reasons)


def test_a_class_of_the_champion_is_lost_unless_it_is_retired():
    tree = evaluation()
    tree["champion"]["labels"] = ["a", "b", "gone"]
    assert "the candidate lost 'gone'" in " ".join(decide(tree, params_of()).reasons)
    decision = decide(tree, params_of(labels={"gone": None}))
    assert decision.verdict == "pass"
    assert any("no longer in the data: 'gone'" in rule.reason for rule in decision.rules)
