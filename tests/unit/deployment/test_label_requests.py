"""Labels for disagreements: what the judge wants, and what it makes of the answers."""

import json

import numpy as np
import pytest

from tests.fakes.world import ENDPOINT, LABELS, Model, World, digest_of, truth
from tokka import files
from tokka.cli.main import call
from tokka.cli.review import read_answers
from tokka.deployment import label_requests
from tokka.deployment.inputs import Input
from tokka.deployment.judge import e_processes
from tokka.deployment.judge.evidence import Pairs
from tokka.deployment.judge.shadow_judge import judge_pairs
from tokka.deployment.record.state import Revision
from tokka.deployment.record.target import Answer
from tokka.deployment.shadow import Shadow
from tokka.errors import UsageError
from tokka.request_log import log
from tokka.sections_serving import Canary

ONE, TWO = Revision(version="1", digest="a" * 64), Revision(version="2", digest="b" * 64)
SHADOW_ONLY = {"replay": False, "maximum_wait_s": 60, "quality_margin": 0.1}


def world(folder, challenger: Model, champion: Model, reviewer) -> World:
    """Users ask and nobody says what was right, but for a reviewer who is called at each pause."""
    here = World(folder, challenger=challenger, champion=champion, canary=SHADOW_ONLY)
    here.settings = here.settings.model_copy(update={"record_url": here.url})
    for version in ("1", "2"):
        files.write_json(here.settings.home / "models" / digest_of(version) / "tokka.json", {"labels": LABELS})

    def pause() -> None:
        rows = [{"text": f"message {int(here.clock.now * 100) + number}"} for number in range(30)]
        here.target.send(rows, replayed=False)
        if here.state.phase == "shadow":
            reviewer(here)

    here.clock.on_sleep = pause
    pause()
    return here


def roll_out(here: World):
    def open_log(since: float):
        traffic, told = here.target.reader(since), log.Tail(here.settings.home / "requests", since)
        return lambda: sorted(traffic() + told.poll().records, key=lambda entry: entry["time"])

    return here.rollout(open_log=open_log)


def tell_the_truth(here: World) -> None:
    # The request log on disk knows nothing of the predictions, which the fake gateway keeps in memory.
    answers = {entry["id"]: truth(entry["text"]) for entry in label_requests.read(here.settings, here.params)}
    if answers:
        here.given = getattr(here, "given", 0) + label_requests.answer(
            here.settings, here.params, answers, here.clock.time()
        )


def test_a_better_version_is_promoted_on_labels_for_the_disagreements_only(tmp_path):
    here = world(tmp_path, Model(accuracy=0.95), Model(accuracy=0.6), tell_the_truth)
    result = roll_out(here)
    assert result.verdict == "promoted", result.reasons
    shadow = next(one for one in result.phases if one["phase"] == "shadow" and one["action"] == "go_on")
    assert 0 < here.given <= shadow["values"]["disagreements"]
    assert here.given < shadow["values"]["pairs"] / 2
    assert any("tokka review labels" in reason for one in result.phases for reason in one["reasons"])


def test_a_worse_version_is_rolled_back_as_soon_as_the_labels_say_so(tmp_path):
    here = world(tmp_path, Model(accuracy=0.6), Model(accuracy=0.95), tell_the_truth)
    result = roll_out(here)
    assert result.verdict == "rolled_back"
    assert "proven worse" in result.reasons[0]
    assert label_requests.read(here.settings, here.params) == []


def test_without_an_answer_it_is_held_and_then_refused(tmp_path):
    seen = []
    here = world(
        tmp_path,
        Model(accuracy=0.95),
        Model(accuracy=0.6),
        lambda here: seen.append(len(label_requests.read(here.settings, here.params))),
    )
    result = roll_out(here)
    assert result.verdict == "rolled_back"
    assert "held for more than" in result.reasons[0]
    assert seen[-1] > 10


@pytest.fixture
def waiting(tmp_path):
    """A shadow that wants two labels."""
    here = world(tmp_path, Model(), Model(), lambda here: None)
    state = here.record.compare_and_set(
        here.state, challenger=Revision(version="2", digest=digest_of("2")), phase="shadow", rollout="ab12",
        started=here.clock.time(),
    )  # fmt: skip

    def ask(digest, rows):
        return [Answer(label="refund" if digest == digest_of("1") else "parcel")] * len(rows)

    shadow = Shadow(ask, None, 250.0)
    inputs = [Input(text, prediction_id=name) for name, text in (("abc-1", "one"), ("abd-2", "two"))]
    shadow.ask_more(state.champion, state.challenger, inputs, [])
    label_requests.publish(here.settings.home, state, shadow.wanted())
    return here


def test_the_command_lists_and_takes_answers(waiting, monkeypatch, capsys, tmp_path):
    for name, value in waiting.settings.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "params.yaml").write_text(json.dumps({"registry": {"model": ENDPOINT}}))
    arguments = ["review", "labels", "--params", str(tmp_path / "params.yaml"), "--json"]

    def run(*more: str) -> tuple[int, dict]:
        code = call([*arguments, *more])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    code, found = run()
    assert (code, [one["id"] for one in found["wanted"]]) == (0, ["abc-1", "abd-2"])
    assert found["wanted"][0] == {
        "id": "abc-1", "text": "one", "text_pair": "", "champion": "refund", "challenger": "parcel",
    }  # fmt: skip
    code, found = run("--set", "abc=refnd")
    assert code == 2 and "'refund'" in found["hint"]
    code, found = run("--set", "abc=refund")
    assert (code, found["written"], [one["id"] for one in found["wanted"]]) == (0, 1, ["abd-2"])
    (entry,) = log.read(waiting.settings.home / "requests")
    assert (entry["prediction_id"], entry["label"], entry["source"]) == ("abc-1", "refund", "review")


@pytest.mark.parametrize(
    ("given", "words"),
    [({"ab": "refund"}, "several"), ({"zz": "refund"}, "none that a label"), ({"abc": "banana"}, "neither model")],
)
def test_a_wrong_answer_writes_nothing(waiting, given, words):
    with pytest.raises(UsageError, match=words):
        label_requests.answer(waiting.settings, waiting.params, {"abd-2": "parcel", **given})
    assert log.read(waiting.settings.home / "requests") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("answers.csv", "id,label\nabc-1,refund\nabd-2,\n"), ("answers.json", '{"abc-1": "refund"}')],
)
def test_answers_come_from_a_file(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_answers(tmp_path / name) == {"abc-1": "refund"}
    (tmp_path / name).write_text("nonsense")
    with pytest.raises(UsageError, match="holds no answers"):
        read_answers(tmp_path / name)


def test_a_late_label_counts_once_and_as_it_comes():
    said = {"a": "x", "b": "y"}
    here = Shadow(lambda digest, rows: [Answer(label=said[digest[0]])] * len(rows), None, 250.0)
    inputs = [Input("one", prediction_id="1"), Input("two", prediction_id="2"), Input("three", target="y")]
    first = here.ask_more(ONE, TWO, inputs, [])
    assert np.isnan(first.difference[:2]).all() and list(first.order) == [2, 0, 1]
    late = [Input("two", target="x", prediction_id="2")]
    after = here.ask_more(ONE, TWO, [*inputs, *late, *late], [])
    assert list(after.order) == [2, 1, 0]
    np.testing.assert_array_equal(after.difference[1:], [-1.0, 1.0])
    assert [one.entry.prediction_id for one in here.wanted()] == ["1"]


def test_peeking_after_each_late_label_rolls_back_equal_versions_less_often_than_alpha():
    """Labels come in any order, and the judge looks after each one."""
    canary, aborted, trials = Canary(alpha=0.5), 0, 200
    for seed in range(trials):
        random = np.random.default_rng(seed)
        difference = random.choice([-1.0, 1.0], size=80)
        order = random.permutation(80)
        for looks in range(1, 81, 3):
            known = np.full(80, np.nan)
            known[order[:looks]] = difference[order[:looks]]
            pairs = Pairs(difference=known, disagreement=np.ones(80), order=order)
            if judge_pairs(pairs, canary).verdict == "roll_back":
                aborted += 1
                break
    assert aborted / trials <= canary.alpha / 5 + 0.05


def test_what_was_proven_without_a_label_stays_proven_with_it():
    random = np.random.default_rng(3)
    difference = random.choice([-1.0, 0.0, 1.0], size=300, p=[0.02, 0.9, 0.08])
    blind = np.where(random.random(300) < 0.5, np.where(difference == 0, 0.0, np.nan), difference)
    rows = [(one, float(other != 0), 0.0) for one, other in zip(blind, difference, strict=True)]
    without = judge_pairs(Pairs(*np.array(rows).T), Canary())
    told = [(one, apart, speed) for one, (_, apart, speed) in zip(difference, rows, strict=True)]
    assert judge_pairs(Pairs(*np.array(told).T), Canary()).values["no_worse"] >= without.values["no_worse"]
    assert e_processes.highest(e_processes.against_no_worse(difference)) >= 0
