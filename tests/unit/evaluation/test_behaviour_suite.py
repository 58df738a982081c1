"""The file of behavioural tests: a wrong one is refused with what is right."""

import re

import pytest

from tokka.errors import UsageError
from tokka.evaluation.behaviour_suite import load_behaviour
from tokka.settings import Settings


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("tests: [{name: a, kind: invariance, change: upper, minimun: 0.5}]", "did you mean 'minimum'"),
        ("testz: []", "did you mean 'tests'"),
        ("tests: [{name: a, kind: functionality, cases: [{text: x, lable: y}]}]", "did you mean 'label'"),
        ("tests: [{name: a, kind: invariance, change: substitute}]", "words"),
        ("tests: [{name: a, kind: invarianc, change: upper}]", "invariance"),
        ("tests: [{name: a, kind: directional, texts: [x], add: y}]", "exactly one of"),
        (
            "tests: [{name: a, kind: invariance, change: upper}, {name: a, kind: invariance, change: lower}]",
            "two tests",
        ),
        ("- 1", "expected `tests:`"),
        ("{", "not YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_right(tmp_path, content, says):
    path = tmp_path / "behaviour.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=re.escape(says)):
        load_behaviour(path)


def test_the_file_of_the_sample_is_right_and_its_classes_exist():
    from tokka.data.sample import _texts

    found = load_behaviour(Settings.from_environment({}).root / "data/behaviour.yaml")
    intents = set(_texts()["intents"])
    named = {case.label for test in found.tests if test.kind == "functionality" for case in test.cases}
    named |= {test.to or test.away_from for test in found.tests if test.kind == "directional"}
    assert named <= intents
    assert {test.kind for test in found.tests} == {"invariance", "directional", "functionality"}
