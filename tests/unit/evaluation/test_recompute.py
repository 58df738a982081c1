"""An evaluation that says other than its own predictions is refused in words, whatever it says it of."""

import copy
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.evaluation.gate.test_gate import bounds, subject
from tokka import files
from tokka.evaluation.gate.agreement import FILES
from tokka.evaluation.gate.gate import decide
from tokka.evaluation.metrics import test_set
from tokka.evaluation.recompute import look, recompute
from tokka.params import parse_params

RULES = parse_params({"evaluation": {"bootstrap": 200, "slices_minimum_rows": 20}})
LABELS = ["a", "b"]
CHAMPION = ("3", "cd" * 32)
ROWS = 400


def rows(text=lambda number: f"message {number}", target=lambda number: LABELS[number % 2]):
    texts = [text(number) for number in range(ROWS)]
    ids = [hashlib.sha256(f"{number} {one}".encode()).hexdigest()[:16] for number, one in enumerate(texts)]
    channels = [("mail", "chat")[number % 2] for number in range(ROWS)]
    return {"row_id": ids, "text": texts, "target": [target(number) for number in range(ROWS)],
            "slice_channel": channels}  # fmt: skip


def scores(right, seed):
    """Of a model that is right so often; on the same rows a better one is right wherever a worse one is."""
    sure = np.random.default_rng(seed).uniform(0.6, 0.99, ROWS)
    hit = np.random.default_rng(0).uniform(0, 1, ROWS) < right
    own = np.where(hit, np.arange(ROWS) % 2, 1 - np.arange(ROWS) % 2)
    return np.where(own[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])


def write(folder, table, models, trained=()):
    """An evidence folder, and the evaluation that is true of it."""
    folder.mkdir()
    columns = dict(table)
    for name, found in models.items():
        columns[f"{name}_label"] = [LABELS[number] for number in found.argmax(axis=1)]
    pq.write_table(pa.table(columns), folder / FILES[0])
    np.savez_compressed(folder / FILES[1], **models)
    known = test_set.keys(pa.table({"text": list(trained)}))
    np.savez_compressed(folder / FILES[2], row_ids=test_set._hashes(trained), texts=test_set._hashes(known))
    evaluation = {
        "format": 1, "task": "classification", "metric": "accuracy", "higher_is_better": True,
        "test": {"labels": LABELS}, "data_digest": "d" * 64, "overlap": {"row_ids": 0, "texts": 0},
        "champion_status": "present" if "champion" in models else "none", "champion_reason": "", "generation": 7,
        "files": {name: files.digest_file(folder / name) for name in FILES},
    }  # fmt: skip
    for name in ("candidate", "champion", "general"):
        evaluation[name] = subject(name, version=CHAMPION[0]) if name in models else None
        if name == "champion" and evaluation[name]:
            evaluation[name]["digest"] = CHAMPION[1]
    found = recompute(pq.read_table(folder / FILES[0]), models, evaluation, RULES)
    for name, figures in found.items():
        evaluation[name] = {**evaluation[name], **figures} if isinstance(evaluation.get(name), dict) else figures
    return evaluation


MODELS = {"candidate": scores(0.93, 1), "champion": scores(0.92, 2), "general": scores(0.55, 3)}


@pytest.fixture(scope="module")
def true(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence") / "true"
    return write(folder, rows(), MODELS), folder


def refused(tree, folder, champion=CHAMPION):
    decision = decide(tree, RULES, look(folder, tree, RULES, champion))
    return {rule.rule: rule.reason for rule in decision.rules if rule.verdict == "refuse"}


def test_a_true_evaluation_passes(true):
    assert refused(*true) == {}


def put(path, value):
    """A lie: another value in one place."""

    def change(tree):
        here = tree
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] = {**here[path[-1]], **value} if isinstance(value, dict) else value

    return change


def both(*changes):
    return lambda tree: [change(tree) for change in changes]


ACCURACY, AGAINST = ("metrics", "accuracy"), ("comparison", "champion")
FALSE = {
    "champion left out and status none": both(
        put(("champion",), None), put(AGAINST, None), put(("champion_status",), "none")),
    "candidate .70, champion .97": both(
        put(("candidate", *ACCURACY), bounds(0.70)), put(("champion", *ACCURACY), bounds(0.97))),
    "zero-width interval": both(
        put(("candidate", *ACCURACY), {"value": 0.93, "low": 0.93, "high": 0.93}),
        put(AGAINST, {"difference": 0.5, "low": 0.5, "high": 0.5})),
    "accuracy out of range": put(("candidate", *ACCURACY), {"value": 7.0, "low": 5.0, "high": 9.0}),
    "negative log loss": put(("candidate", "metrics", "log_loss"), {"value": -7.0, "low": -9.0, "high": -5.0}),
    "a champion that does not serve": put(("champion", "version"), "999"),
    "another model as champion": put(("champion", "digest"), "ee" * 32),
    "labels twice": put(("candidate", "labels"), ["a", "b", "b", "b"]),
    "labels permuted": put(("candidate", "labels"), ["b", "a"]),
    "all labels permuted": both(
        put(("candidate", "labels"), ["b", "a"]), put(("champion", "labels"), ["b", "a"]),
        put(("general", "labels"), ["b", "a"]), put(("test", "labels"), ["b", "a"])),
    "a scale that hides a loss": both(
        put(("test", "scale"), 1e9), put(AGAINST, {"difference": -0.5, "low": -0.6, "high": -0.4})),
    "no slices": both(*(put((name, "slices"), []) for name in ("candidate", "champion")),
                      *(put(("comparison", name, "slices"), []) for name in ("champion", "general"))),
    "a slice without rows": put(("comparison", "champion", "slices", 0),
                                {"rows": 0, "difference": -0.9, "low": -0.95, "high": 0.0}),
    "blank data digests": both(put(("candidate", "data_digest"), " "), put(("data_digest",), " ")),
    "a slow champion": put(("champion", "latency_ms"), {"p50": 1e6}),
    "a slow champion to the end": put(("champion", "latency_ms"), {"p50": 1e6, "p99": 2e6}),
    "candidate named champion": put(("candidate", "name"), "champion"),
    "one parameter": put(("candidate", "parameters"), 1),
    "a trillion parameters": put(("candidate", "parameters"), 10**12),
    "general better, yet beaten": both(
        put(("general", *ACCURACY), bounds(0.99)), put(("comparison", "general"), {"difference": 0.4, "low": 0.1})),
    "rows made up": both(put(("test", "rows"), 900), *(put((one, "rows"), 900) for one in MODELS),
                         *(put(("comparison", one, "rows"), 900) for one in ("champion", "general"))),
    "a comparison left out of the files": put(("files",), {FILES[1]: "0" * 64}),
    "a p-value": put(AGAINST, {"p_value": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("lie", FALSE, ids=lambda name: name.replace(" ", "-"))
def test_an_evaluation_that_contradicts_itself_is_refused_in_words(lie, true):
    tree, folder = copy.deepcopy(true[0]), true[1]
    FALSE[lie](tree)
    reasons = refused(tree, folder)
    assert reasons, lie
    assert all(len(reason) > 20 for reason in reasons.values())


def numbers(tree, above=()):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield from numbers(value, (*above, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*above, key)


def test_no_judged_figure_can_be_another_one(true):
    """Every number that follows from the predictions, moved by a thousandth to where it is still well formed."""
    tree, folder = true
    found = look(folder, tree, RULES, CHAMPION)
    passed = []
    for path in numbers(found.figures):
        lie = copy.deepcopy(tree)
        here = lie
        for key in path[:-1]:
            here = here[key]
        here[path[-1]] += 1 if isinstance(here[path[-1]], int) else -1e-3 if path[-1] == "low" else 1e-3
        passed += [path] if decide(lie, RULES, found).verdict == "pass" else []
    assert passed == []


@pytest.mark.parametrize("now", [None, ("4", "ef" * 32)])
def test_a_champion_that_has_moved_is_told(now, true):
    assert "the champion has moved, evaluate again" in refused(*true, champion=now)["champion_still_serves"]


def test_a_first_version_is_not_judged_alone_once_something_serves(tmp_path):
    tree = write(tmp_path / "first", rows(), {name: MODELS[name] for name in ("candidate", "general")})
    assert refused(tree, tmp_path / "first", None) == {}
    assert "now version 3 serves" in refused(tree, tmp_path / "first")["champion_still_serves"]


@pytest.mark.parametrize(
    ("rule", "words", "table", "trained"),
    [
        ("test_set_is_one", "400 test rows are 1 different texts", rows(text=lambda number: "where is my card"), ()),
        ("test_set_is_one", "every test row has the same truth", rows(target=lambda number: "a"), ()),
        ("no_leak", "3 test rows stand in the training data too", rows(), [f"Message  {one}" for one in range(3)]),
    ],
)  # fmt: skip
def test_a_test_set_that_tests_nothing_is_refused_in_words(rule, words, table, trained, tmp_path):
    tree = write(tmp_path / "odd", table, MODELS)
    known = test_set.keys(pa.table({"text": trained})) if trained else []
    np.savez_compressed(tmp_path / "odd" / FILES[2], row_ids=test_set._hashes([]), texts=test_set._hashes(known))
    tree["files"][FILES[2]] = files.digest_file(tmp_path / "odd" / FILES[2])
    tree["overlap"]["texts"] = len(trained)
    assert words in refused(tree, tmp_path / "odd")[rule]
    if trained:
        tree["overlap"]["texts"] = 0
        assert "overlap.texts is 0, by the predictions 3" in refused(tree, tmp_path / "odd")["figures_follow"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_exchanged_or_is_away_is_refused(name, tmp_path):
    tree = write(tmp_path / "one", rows(), MODELS)
    letters = rows(text=lambda number: f"letter {number}")
    other = write(tmp_path / "other", letters, {**MODELS, "general": scores(0.5, 5)}, ["letter"])
    (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert other["files"][name] != tree["files"][name]
    assert "files_are_listed" in refused(tree, tmp_path / "one")
    (tmp_path / "one" / name).unlink()
    assert "cannot be computed again" in refused(tree, tmp_path / "one")["files_are_listed"]
