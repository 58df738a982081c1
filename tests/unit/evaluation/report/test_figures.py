"""The report's figures: what a class or a slice is called reaches the page as it is."""

import html

import pytest

from tokka.evaluation.report.figures import Line, Mark, confusion, forest

NAMES = ["$$", r"a $\foo$ b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_dollar_signs_is_text_and_no_formula(name):
    mark = Mark("candidate", 0.8, 0.7, 0.9, "tip")
    for drawn in (confusion([name, "other"], [[3, 1], [0, 4]]), forest([Line(name, [mark])], percent=True)):
        assert f">{html.escape(name)}</text>" in drawn
