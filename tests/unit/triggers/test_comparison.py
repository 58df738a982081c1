"""The table for a pull request: what it says, and that nothing out of the data is markup in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.data import rows
from tokka.params import Params
from tokka.triggers.comparison import MARK, Compared, cell, markdown, take


def bounds(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def scores(value, version="", **metrics):
    metrics = {"accuracy": bounds(value), **metrics}
    return {"version": version, "metrics": metrics, "latency_ms": {"p50": 1.0, "p99": 4.25}, "size_mb": 23.4}


def difference(name, value):
    return {"slice": "channel", "value": name, "rows": 60, "difference": value, "low": value - 0.1, "high": value + 0.1}


EVALUATION = {
    "candidate": scores(0.91, f1=bounds(0.9)), "champion": scores(0.9, "7"), "general": scores(0.4),
    "comparisons": {"champion": {"slices": [difference("chat", 0.05), difference("e|mail @all", -0.2)]}},
}  # fmt: skip


def table(evaluation=EVALUATION, verdict="pass", refused=""):
    found = Compared(evaluation=evaluation, verdict=verdict, reasons=["accuracy holds"], refused=refused)
    return markdown(found, changes=["params.yaml finetuning changed"], commit="c" * 40, rows=1000, key="k" * 32)


def test_it_has_a_column_for_each_model_and_the_worst_slice_first():
    lines = table().splitlines()
    assert lines[0] == MARK
    assert "| | candidate | champion 7 | un-tuned model |" in lines
    assert "| accuracy | 0.910 (0.890 to 0.930) | 0.900 (0.880 to 0.920) | 0.400 (0.380 to 0.420) |" in lines
    assert "| f1 | 0.900 (0.880 to 0.920) | n/a | n/a |" in lines
    assert "| latency p99, ms | 4.2 | 4.2 | 4.2 |" in lines
    told = [line for line in lines if line.startswith("| channel")]
    assert told[0].startswith("| channel = e\\|mail @\N{ZERO WIDTH SPACE}all | 60 | -0.200")


def test_without_a_champion_and_without_an_evaluation_it_says_what_there_is():
    alone = {"candidate": scores(0.9), "champion": None, "general": scores(0.4), "comparisons": {"champion": None}}
    assert "| | candidate | un-tuned model |" in table(alone)
    refused = table({}, "refuse", "900 of 1000 rows are empty")
    assert "would refuse it" in refused
    assert "| accuracy" not in refused


@given(st.text())
def test_no_text_of_the_data_is_markup_or_a_mention(text):
    found = cell(text)
    assert "\n" not in found
    assert "<" not in found
    assert not any(part == "|" and found[place - 1] != "\\" for place, part in enumerate(found))
    assert "@" not in found.replace("@\N{ZERO WIDTH SPACE}", "")


@pytest.mark.parametrize(("count", "left"), [(10, 10), (100, 100), (1000, 100)])
def test_a_slice_is_evenly_out_of_all_rows(tmp_path, count, left):
    path, task = tmp_path / "rows.parquet", Params().task
    rows.write(path, rows.to_table([rows.Row(str(number), target="a") for number in range(100)], task))
    take(path, count)
    found = [row.text for row in rows.from_table(rows.load(path), task)]
    assert len(found) == left
    assert (found[0], found[-1]) == ("0", "99")
