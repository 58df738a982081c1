import json
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokka.errors import UsageError
from tokka.params import FORM, GATED, Params, compose, form_fields, load_params, merged, parse_params, written

ROOT = Path(__file__).parents[2]
NOTHING_SAID = {field: 0 if field == "epochs" else "" for field in FORM}


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


@pytest.mark.parametrize("content", [b"- a list\n", b"a: [1\n", b"\xff\xfe", b"text", b"[" * 5000])
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


SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "finetuning": st.fixed_dictionaries(
            {}, optional={"epochs": st.integers(1, 9), "strategy": st.sampled_from(["full", "lora"])}
        ),
        "data": st.fixed_dictionaries({}, optional={"source": st.text("ab./", min_size=1), "test": st.just("t.csv")}),
        "task": st.fixed_dictionaries({}, optional={"text": st.text("ab", min_size=1), "group": st.just("g")}),
        "registry": st.fixed_dictionaries({}, optional={"review": st.sampled_from(["automatic", "required"])}),
    },
)


@given(SECTIONS, SECTIONS)
def test_whoever_sends_all_of_the_params_gets_exactly_those(base, mine):
    wanted = parse_params(mine)
    sent = json.loads(json.dumps(wanted.model_dump(mode="json", exclude_none=True)))
    assert compose(parse_params(base), form_fields(wanted), sent) == wanted
    assert compose(parse_params(base), NOTHING_SAID, sent) == wanted


@given(SECTIONS, SECTIONS)
def test_a_form_that_says_nothing_is_the_file_with_the_overrides(base, over):
    expected = parse_params(merged(base, over))
    assert compose(parse_params(base), NOTHING_SAID, over) == expected


@given(SECTIONS, st.integers(1, 9))
def test_a_field_wins_over_the_file_and_no_other_key_moves(base, epochs):
    below = parse_params(base)
    found = compose(below, {"epochs": epochs}, {})
    assert found.finetuning.epochs == epochs
    assert found == below.model_copy(update={"finetuning": found.finetuning})


def test_a_field_and_overrides_that_contradict_each_other_are_refused_in_words():
    with pytest.raises(UsageError, match=r"epochs = 6 contradicts finetuning.epochs = 2 in overrides") as refused:
        compose(Params(), {"epochs": 6}, {"finetuning": {"epochs": 2}})
    assert "leave finetuning.epochs out" in refused.value.hint
    assert compose(Params(), {"epochs": 2}, {"finetuning": {"epochs": 2.0}}).finetuning.epochs == 2


def test_an_unknown_key_of_the_form_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"the form: unknown key 'finetuning.epoch'; did you mean 'finetuning.epochs'"):
        compose(Params(), {}, {"finetuning": {"epoch": 2}})
    with pytest.raises(UsageError, match=r"finetuning.strategy = 'fulll'"):
        compose(Params(), {"strategy": "fulll"}, {})


@pytest.mark.parametrize(
    "word", ["no", "on", "off", "Yes", "1", "007", "1e3", "2024-01-31", "null-ish", "label #1", "[x]", "12:30"]
)
def test_a_column_may_have_any_name(tmp_path, word):
    (tmp_path / "params.yaml").write_text("")
    for override in (f"task.target={word}", f'task.target="{word}"', f"task.time={word}"):
        found = load_params(tmp_path / "params.yaml", [override]).task
        assert word in (found.target, found.time)


def test_words_and_numbers_of_yaml_1_2(tmp_path):
    (tmp_path / "params.yaml").write_text(
        "task: {target: no, slices: [off, 2024-01-31]}\nfinetuning: {weight_decay: 1e-3}\n"
    )
    found = load_params(tmp_path / "params.yaml", ["finetuning.epochs=012", "task.time=null"])
    assert (found.task.target, found.task.slices, found.task.time) == ("no", ("off", "2024-01-31"), None)
    assert (found.finetuning.weight_decay, found.finetuning.epochs) == (0.001, 12)


def test_a_number_where_a_text_belongs_is_refused_with_quotes(tmp_path):
    (tmp_path / "params.yaml").write_text("task: {target: 1}\n")
    with pytest.raises(UsageError, match="in quotes: '1'"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("gate: {minimum: 0.9}\ntask: {}\ngate: {minimum: 0.0}\n", "'gate' stands twice, on lines 1 and 3"),
        ("gate:\n  minimum: 0.9\n  alpha: 0.1\n  minimum: 0.0\n", "'minimum' stands twice, on lines 2 and 4"),
        ("gate: {minimum: 0.9, 'minimum': 0.0}\n", "'minimum' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, content, words):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(UsageError, match=words):
        load_params(tmp_path / "params.yaml")


def test_a_merged_mapping_may_be_laid_over(tmp_path):
    (tmp_path / "params.yaml").write_text("gate: &g {minimum: 0.9, alpha: 0.1}\ncanary: {}\nvalidation: {}\n")
    assert (
        load_params(tmp_path / "params.yaml", ["gate={<<: {minimum: 0.8, alpha: 0.2}, minimum: 0.7}"]).gate.minimum
        == 0.7
    )


@pytest.mark.parametrize(
    ("make", "words"), [("folder", "is a folder"), ("link", "is a link to"), ("none", "does not exist")]
)
def test_what_is_no_file_is_named(tmp_path, make, words):
    path = tmp_path / "params.yaml"
    if make == "folder":
        path.mkdir()
    if make == "link":
        path.symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(UsageError, match=words):
        load_params(path)


@given(
    st.fixed_dictionaries({}, optional={"epochs": st.integers(1, 9), "seed": st.integers(0, 9)}),
    st.fixed_dictionaries({}, optional={"model": st.sampled_from(["desk", "mail"])}),
)
def test_written_params_are_read_back_as_they_were(finetuning, registry):
    params = parse_params({"finetuning": finetuning, "registry": registry})
    assert parse_params(written(params)) == params
    assert compose(parse_params({"gate": {"minimum": 0.1}}), form_fields(params), written(params)) == params


def test_params_over_other_defaults_are_refused():
    with pytest.raises(UsageError, match="over other defaults") as caught:
        parse_params({**written(Params()), "defaults": "0" * 16})
    assert "submit again" in caught.value.hint


def test_what_became_of_a_class(tmp_path):
    (tmp_path / "params.yaml").write_text("data: {labels: {no: yes, 2: one, true: sure, gone: null}}\n")
    found = load_params(tmp_path / "params.yaml").data.labels
    assert found == {"no": "yes", "2": "one", "true": "sure", "gone": ""}
    assert (
        parse_params(load_params(tmp_path / "params.yaml").model_dump(mode="json", exclude_none=True)).data.labels
        == found
    )
    with pytest.raises(UsageError, match="'b' is both renamed and a new name"):
        load_params(tmp_path / "params.yaml", ["data.labels={a: b, b: c}"])
