"""The canary benchmark in short: it runs, and its own judge holds the bar where a few rollouts can tell."""

import pytest

from benchmarks.canary import JUDGES, measure, missed, rivals, table
from benchmarks.canary_world import CASES, like


@pytest.fixture(scope="module")
def cells():
    # Few users are held for as long as there is time, which takes long to simulate at a high rate.
    wanted = [(name, case, 0.3 if case.users else 20.0) for case in CASES for name in JUDGES]
    return [measure(*one, rollouts=20, seed=1) for one in wanted if one[0] != "tokka, two hours" or not one[1].users]


def test_tokka_is_seldom_wrong_and_quick(cells):
    mine = {cell.case.name: cell for cell in cells if cell.judge == "tokka"}
    assert all(cell.wrong <= 0.1 for cell in mine.values())
    assert mine["accuracy 90 -> 85 %"].labels <= 50
    assert mine["twice as slow"].exposed == 0
    assert mine["no difference, 0.5 % errors"].promoted > 0.9


def test_what_is_known_of_the_others_comes_out(cells):
    found = {(cell.judge, cell.case.name): cell for cell in cells}
    assert found["argo template", "errors 0.5 -> 3 %"].promoted == 1.0
    assert found["flagger default", "no difference, 2 % errors"].wrong > 0.9
    assert found["mann-whitney", "errors 0.5 -> 3 %"].rolled_back > 0.9


def test_the_table_has_every_cell_and_the_bar_is_checked_against_it(cells):
    text = table(cells)
    assert text.count("| tokka |") == len(CASES)
    bad = next(cell for cell in cells if cell.judge == "tokka" and cell.case.name == "errors 0.5 -> 3 %")
    assert {cell.judge for cell in rivals(cells, bad)} <= {"mann-whitney", "flagger default"}
    assert [case.name for case in like(bad.case)] == ["no difference, 0.5 % errors"]
    worse = [cell.__class__(**{**vars(cell), "promoted": 0.5}) if cell is bad else cell for cell in cells]
    assert any("wrong in 0.500" in miss for miss in missed(worse))


def test_a_judge_that_does_nothing_does_not_pass(cells):
    idle = [
        cell.__class__(**{**vars(cell), "promoted": 0.0, "rolled_back": 0.0, "held": 1.0}) if "tokka" in cell.judge
        else cell for cell in cells
    ]  # fmt: skip
    said = missed(idle)
    for case in (case for case in CASES if not case.users):
        assert any(case.name in miss and "right in 0.000 only" in miss for miss in said)


def test_users_who_stay_on_one_side_do_not_mislead_it(cells):
    few = next(cell for cell in cells if cell.judge == "tokka" and cell.case.users)
    assert few.rolled_back <= 0.1
