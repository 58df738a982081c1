"""What counts as few rows, what `auto` stands for, and the names of the classes as rows."""

import numpy as np
import pytest

from tests.fixtures.training import MakeParams, Path
from tokka.model.tokenising import TextEncoder
from tokka.sections import Finetuning
from tokka.training.setup.datamodule import Rows
from tokka.training.setup.few_rows import is_few, label_words, resolved, with_names


@pytest.mark.parametrize(
    ("rows", "classes", "few"),
    [(770, 77, True), (10_000, 77, False), (1400, 2, True), (1600, 6, False), (100, 0, False), (3000, 77, True)],
)
def test_few_is_by_class_or_in_all_and_never_of_a_regression(rows: int, classes: int, few: bool) -> None:
    assert is_few(rows, classes) == few


def test_auto_is_gentle_with_few_rows_and_what_is_named_is_taken_as_it_is() -> None:
    few, many = resolved(Finetuning(), 770, 77), resolved(Finetuning(), 10_000, 77)
    assert (few.strategy, few.learning_rate, few.epochs) == ("contrastive", pytest.approx(2e-4), 6)
    assert (many.strategy, many.learning_rate, many.epochs) == ("full", 3e-4, 6)
    assert resolved(few, 770, 77) == few
    assert resolved(Finetuning(learning_rate="auto"), 10, 2).learning_rate == "auto"


def test_each_class_is_a_row_more_where_all_names_say_something(base: Path, make_params: MakeParams) -> None:
    encoder = TextEncoder(base / "tokenizer.json", 32)
    encoded = encoder.encode(["where is my card", "refund please"])
    rows = Rows(**vars(encoded), targets=np.array([0, 1]))
    params = make_params(strategy="contrastive")
    named = with_names(rows, ["cardLost", "refund_me"], params, encoder)
    assert named.targets.tolist() == [0, 1, 0, 1]
    assert len(named.ids) == len(named.types) == len(named.unknown) == 4
    assert with_names(rows, ["cardLost", "c7"], params, encoder) is rows
    assert with_names(rows, ["cardLost", "refund_me"], make_params(strategy="full"), encoder) is rows
    assert (label_words("cardArrival_late"), label_words("___")) == ("card arrival late", "___")
