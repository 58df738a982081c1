"""What counts as a change, by content alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.params import Params, parse_params
from tokka.sections_serving import Repository
from tokka.triggers.decision import DECISIVE, Facts, allows, content, content_key, decide, differences

PARAMS = Params()
CODE = PARAMS.triggers.code
BLOBS = {"params.yaml": "0", "README.md": "1", "dvc.lock": "2", "data/a.dvc": "3", "src/tokka/training/fit/x.py": "4"}
COUNTING = ["dvc.lock", "dvc.yaml", "a.dvc", "data/b/c.dvc", "data/expectations/x.json", "components/evaluate.py",
            "src/tokka/training/train.py", "pipelines/form.py"]  # fmt: skip
CONTENTS = st.dictionaries(st.sampled_from("ab"), st.just("1"))
OTHER = ["README.md", "docs/guide.md", "tests/unit/test_a.py", "src/tokka/serving/rest.py", "dvc.lock.bak", "xdvc",
         "src/tokka/gateway/gateway.py", "params.yaml.orig", "infra/docker/Dockerfile", "sub/dvc.lock"]  # fmt: skip


@pytest.mark.parametrize("path", COUNTING)
def test_a_file_that_a_training_follows_from_counts_when_it_comes_changes_and_goes(path):
    without, first, second = (content(BLOBS | more, PARAMS, CODE) for more in ({}, {path: "a"}, {path: "b"}))
    if path not in BLOBS:
        assert differences(without, first) == [f"{path} added"]
        assert differences(first, without) == [f"{path} removed"]
    assert differences(first, second) == [f"{path} changed"]


@pytest.mark.parametrize("path", OTHER)
def test_nothing_else_counts(path):
    assert content(BLOBS, PARAMS, CODE) == content(BLOBS | {path: "new"}, PARAMS, CODE)


@pytest.mark.parametrize("section", sorted(Params.model_fields))
def test_params_count_by_section_and_those_of_serving_do_not(section):
    values = {
        "task": {"text": "body"}, "data": {"source": "x.csv"}, "validation": {"suite": "x.json"},
        "preprocessing": {"normalise": False}, "model": {"max_tokens": 64}, "adaptation": {"method": "mlm"},
        "finetuning": {"epochs": 1}, "export": {"int8": False, "serve": "fp32"}, "evaluation": {"bootstrap": 100},
        "gate": {"minimum": 0.1}, "registry": {"model": "other"}, "canary": {"shadow_rows": 10},
        "monitoring": {"window_rows": 20}, "retraining": {"per_week": 1}, "serving": {"workers": 1},
        "deployment": {"target": "local"}, "triggers": {"tries": 1},
    }  # fmt: skip
    # Sections that are about something else altogether have no example here, and no part in the content.
    assert section in values or f"params.yaml {section}" not in content(BLOBS, PARAMS, CODE)
    changed = content(BLOBS, parse_params({section: values.get(section, {})}), CODE)
    assert (changed != content(BLOBS, PARAMS, CODE)) == (section in DECISIVE)


@given(st.dictionaries(st.sampled_from([*COUNTING, *OTHER]), st.text("abc", min_size=1, max_size=2)))
def test_the_key_is_of_the_content_in_whatever_order_and_nothing_else(files):
    whole = content(files, PARAMS, CODE)
    reordered = content(dict(reversed(files.items())), PARAMS, CODE)
    counting = content({path: blob for path, blob in files.items() if path in COUNTING}, PARAMS, CODE)
    assert content_key(whole) == content_key(reordered) == content_key(counting)


@given(
    st.sampled_from(["there", "gone", "older"]), st.none() | CONTENTS, CONTENTS, st.sampled_from(["", "promoted"]),
    st.sampled_from(["", "bad"]),
)  # fmt: skip
def test_a_run_starts_only_for_a_new_content_of_a_commit_that_is_there(commit, before, after, made, fault):
    found = decide(Facts(commit=commit, before=before, after=after, made=made, fault=fault))
    assert (found.verdict == "start") == (commit == "there" and before != after and not made and not fault)
    assert (found.verdict == "refused") == (commit == "there" and bool(fault))
    assert found.reason
    assert found.key or found.verdict != "start"


@pytest.mark.parametrize(
    ("ref", "allowed"),
    [("refs/heads/main", True), ("refs/heads/release/1", True), ("refs/tags/main", False), ("main", False),
     ("refs/heads/maintenance", False), ("refs/heads/", False), ("refs/notes/tokka", False)],
)  # fmt: skip
def test_only_named_branches_may_start_a_run(ref, allowed):
    assert allows(Repository(name="a", url="/a", branches=("main", "release/*")), ref) is allowed
