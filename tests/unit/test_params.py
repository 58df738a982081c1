import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import UsageError
from tokka.params import GATED, Params, load_params, parse_params

ROOT = Path(__file__).parents[2]


def test_the_file_of_the_repo_holds_the_defaults_wherever_it_does_not_speak_of_the_sample():
    ours, defaults = load_params(ROOT / "params.yaml"), Params()
    differ = {name for name in Params.model_fields if getattr(ours, name) != getattr(defaults, name)}
    assert differ <= {"task", "data", "evaluation"}
    # Without a file of behaviour tests there are none, and a library caller does not train three times unasked.
    own = {"behaviour": None, "learning_curve": ()}
    assert ours.evaluation.model_copy(update=own) == defaults.evaluation


def test_the_file_of_the_repo_names_every_section():
    assert set(yaml.safe_load((ROOT / "params.yaml").read_text())) == set(Params.model_fields)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"finetunin": {}}, "did you mean 'finetuning'"),
        ({"finetuning": {"epoch": 2}}, "did you mean 'finetuning.epochs'"),
        ({"finetuning": {"early_stopping": {"patienc": 2}}}, "early_stopping.patience"),
        ({"gate": {"alpha": 3}}, "gate.alpha = 3"),
        ({"gate": {"alpha": float("nan")}}, "gate.alpha"),
        ({"canary": {"steps": [0.5, 0.1]}}, "rising shares"),
        ({"preprocessing": {"test_share": 0.5, "validation_share": 0.4}}, "nothing is left"),
        ({"finetuning": {"time_budget": "two minutes"}}, "time_budget"),
        ({"registry": {"model": "a/b"}}, "registry.model"),
        ({"gate": {"metric": "mae"}}, "gate.metric = 'mae' .* set one of auto, accuracy, f1_macro,"),
        ({"gate": {"metric": "accuracy"}, "task": {"type": "regression"}}, "'accuracy' .* set one of auto, mae, rmse,"),
        ({"task": {"slices": ["a", "b", "a"]}}, "^params.yaml: task.slices names 'a' more than once"),
        ({"evaluation": {"general": False}}, "set gate.beat_general: false, or measure it"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_value(tree, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as caught:
        parse_params(tree)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_every_metric_is_accepted_for_its_task():
    for task, metrics in GATED.items():
        for metric in ("auto", *metrics):
            assert parse_params({"task": {"type": task}, "gate": {"metric": metric}}).gate.metric == metric
    assert not parse_params({"evaluation": {"general": False}, "gate": {"beat_general": False}}).gate.beat_general


@given(st.text(alphabet=string.ascii_lowercase + "_", min_size=1).filter(lambda name: name not in Params.model_fields))
def test_no_unknown_section_passes(name):
    with pytest.raises(UsageError, match="unknown key"):
        parse_params({name: {}})


def test_overrides_win_and_are_as_strict(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("finetuning: {epochs: 5}\n")
    assert load_params(path, ["finetuning.epochs=2"]).finetuning.epochs == 2
    assert load_params(path, ["canary.steps=[0.1, 0.5]"]).canary.steps == (0.1, 0.5)
    assert load_params(path, ["data.source=2024-13-45"]).data.source == "2024-13-45"
    for wrong in ("finetuning.epochs", "=3", "finetuning..epochs=2", "finetuning.epochs.deep=2", "finetuning.epochs=x"):
        with pytest.raises(UsageError):
            load_params(path, [wrong])


@pytest.mark.parametrize("content", [b"- a list\n", b"a: [1\n", b"\xff\xfe", b"text", b"data: {source: 2024-13-45}"])
def test_what_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_params(tmp_path / "none.yaml")


def test_a_precision_may_stand_as_the_number_that_yaml_reads():
    assert parse_params({"finetuning": {"precision": 32}}).finetuning.precision == "32"
    with pytest.raises(UsageError, match="precision = '16'"):
        parse_params({"finetuning": {"precision": 16}})
