"""The test rows: read once, and never none."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from tokka.errors import TokkaError
from tokka.evaluation.metrics.test_set import TestSet, open_test, sample_rows


def test_no_rows_is_a_clear_error():
    with pytest.raises(TokkaError, match="no test row"):
        open_test(SimpleNamespace(test=pa.table({"text": pa.array([], pa.string())})), [], 1)


def test_too_many_rows_are_sampled_by_seed_and_sorted():
    assert sample_rows(5, 5, 1).tolist() == [0, 1, 2, 3, 4]
    assert len(set(sample_rows(100, 5, 1))) == 5
    assert (np.diff(sample_rows(100, 5, 1)) > 0).all()
    assert (sample_rows(100, 5, 1) == sample_rows(100, 5, 1)).all()


def test_merged_classes_of_an_older_model_add_up():
    test = TestSet(pa.table({}), ["x", "y"], None, np.array([0, 1]), ("m", "c"), "d", 1.0, [])
    scores = np.array([[0.3, 0.3, 0.4], [0.1, 0.2, 0.7]])
    assert np.allclose(test.align(scores, ["m", "m", "c"]), [[0.6, 0.4], [0.3, 0.7]])
