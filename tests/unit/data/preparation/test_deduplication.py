"""Equal texts become one row, whatever their order, and their labels one label."""

from hypothesis import given

from tests.unit.data.corpus import rows_of
from tokka.data.preparation import deduplication
from tokka.data.rows import Row


@given(rows_of)
def test_merging_twice_changes_nothing_and_order_does_not_matter(rows: list[Row]) -> None:
    once = deduplication.merge(rows)
    assert deduplication.merge(once.rows).rows == once.rows
    assert deduplication.merge(list(reversed(rows))).rows == once.rows
    assert once.duplicates == len(rows) - len({one.text for one in rows})


def test_conflicting_labels_majority_then_most_recent_then_alphabet() -> None:
    def kept(*members: tuple[str, str]) -> str:
        return str(deduplication.merge(Row("x", target=label, time=time) for label, time in members).rows[0].target)

    assert kept(("a", "9"), ("b", "1"), ("b", "2")) == "b"
    assert kept(("a", "2026-02-01"), ("b", "2026-01-01")) == "a"
    assert kept(("b", ""), ("a", "")) == "a"
    assert deduplication.merge([Row("x", target="a"), Row("x", target="b")]).conflicts == 1


def test_conflicting_numbers_give_their_mean() -> None:
    assert deduplication.merge([Row("x", target=1.0), Row("x", target=2.0)]).rows == [Row("x", target=1.5)]
