"""What may be sent to /predict and /feedback: anything else is a sentence with a status, and never an exception."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokka.serving.engine import Row
from tokka.serving.predict_api import BadRequest, parse_feedback, parse_predict, require_few_tokens


def test_one_text_and_several():
    one = parse_predict(b'{"text": "hello"}', max_rows=4, pairs=False)
    assert one == ([Row("hello")], False)
    several = parse_predict(b'{"texts": ["a", "b"]}', max_rows=4, pairs=False)
    assert several == ([Row("a"), Row("b")], True)


def test_pairs():
    assert parse_predict(b'{"text": "a", "text_pair": "b"}', max_rows=4, pairs=True)[0] == [Row("a", "b")]
    body = b'{"texts": ["a", "c"], "text_pairs": ["b", "d"]}'
    assert parse_predict(body, max_rows=4, pairs=True)[0] == [Row("a", "b"), Row("c", "d")]
    for wrong in (b'{"text": "a"}', b'{"texts": ["a", "b"], "text_pairs": ["c"]}'):
        with pytest.raises(BadRequest):
            parse_predict(wrong, max_rows=4, pairs=True)


@pytest.mark.parametrize(
    ("body", "wanted", "other"),
    [
        (b'{"text": "a", "text_pairs": ["b"]}', 'beside "text" send "text_pair"', "text_pairs"),
        (b'{"texts": ["a"], "text_pair": "b"}', 'beside "texts" send "text_pairs"', "text_pair"),
        (b'{"texts": ["a"], "text_pairs": ["c"], "text_pair": "b"}', 'beside "texts" send "text_pairs"', "text_pair"),
    ],
)
def test_a_partner_of_the_other_form_is_refused_and_not_overlooked(body, wanted, other):
    with pytest.raises(BadRequest, match=f"^{wanted}$"):
        parse_predict(body, max_rows=4, pairs=True)
    with pytest.raises(BadRequest, match=f"^this model takes no {other}$"):
        parse_predict(body, max_rows=4, pairs=False)


def test_too_many_rows_are_422():
    with pytest.raises(BadRequest, match="at most 2") as refused:
        parse_predict(b'{"texts": ["a", "b", "c"]}', max_rows=2, pairs=False)
    assert refused.value.status == 422


def test_so_many_classes_are_asked_for():
    found, _ = parse_predict(b'{"texts": ["a", "b"], "top_k": 3}', max_rows=4, pairs=False)
    assert found == [Row("a", None, 3), Row("b", None, 3)]
    assert parse_predict(b'{"text": "a", "top_k": null}', max_rows=4, pairs=False)[0] == [Row("a")]


@pytest.mark.parametrize(
    "value, status", [("0", 422), ("21", 422), ("-1", 422), ("true", 400), ("1.0", 400), ('"3"', 400), ("[]", 400)]
)
def test_top_k_out_of_range_or_no_number_is_refused_by_its_range(value, status):
    with pytest.raises(BadRequest, match="from 1 to 20") as refused:
        parse_predict(b'{"text": "a", "top_k": %b}' % value.encode(), max_rows=4, pairs=False)
    assert refused.value.status == status


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["text", "texts", "text_pair", "text_pairs", "prediction_id", "label", "value"])


@given(st.one_of(st.binary(), st.builds(lambda tree: json.dumps(tree).encode(), st.dictionaries(keys, json_values))))
@settings(deadline=None)
def test_whatever_comes_it_is_taken_or_refused(body):
    for parse in (lambda: parse_predict(body, max_rows=8, pairs=False), lambda: parse_feedback(body, "classification")):
        try:
            parse()
        except BadRequest as error:
            assert 400 <= error.status < 500
            assert "\n" not in str(error)


def test_feedback_is_a_label_or_a_number():
    label, value = b'{"prediction_id": "a-1.0", "label": "card"}', b'{"prediction_id": "a", "value": 3}'
    assert parse_feedback(label, "classification") == {"prediction_id": "a-1.0", "label": "card"}
    assert parse_feedback(value, "regression") == {"prediction_id": "a", "value": 3.0}
    for wrong, task in ((label, "regression"), (value, "classification")):
        with pytest.raises(BadRequest, match="this model answers with a"):
            parse_feedback(wrong, task)


@pytest.mark.parametrize(
    "body",
    [
        b'{"label": "card"}',
        b'{"prediction_id": "a"}',
        b'{"prediction_id": "a", "label": "x", "value": 1}',
        b'{"prediction_id": "a", "label": ""}',
        b'{"prediction_id": "a", "label": "' + b"x" * 201 + b'"}',
        b'{"prediction_id": "a", "value": true}',
        b'{"prediction_id": "a", "value": NaN}',
        b'{"prediction_id": "a", "value": 1' + b"0" * 400 + b"}",
        b'{"prediction_id": "a b", "label": "x"}',
        b'{"prediction_id": "a", "label": "x", "more": 1}',
    ],
)
def test_other_feedback_is_refused(body):
    with pytest.raises(BadRequest):
        parse_feedback(body, "regression" if b'"value"' in body and b'"label"' not in body else "classification")


@given(st.lists(st.tuples(st.text(max_size=30), st.none() | st.text(max_size=9)), min_size=1), st.integers(1, 90))
@settings(deadline=None)
def test_tokens_are_counted_only_when_the_letters_could_be_too_many(rows, limit):
    """The shortest token is a letter: what is let through uncounted could not have had more tokens than letters."""
    rows = [Row(*row) for row in rows]
    most = sum(len(row.text) + len(row.pair or "") + 3 for row in rows)
    asked = []
    try:
        require_few_tokens(rows, lambda given: asked.append(given) or most, limit)
    except BadRequest as refused:
        assert refused.status == 422 and most > limit and str(most) in str(refused)
    else:
        assert most <= limit
    assert not asked or asked == [rows]


@pytest.mark.parametrize(
    ("sent", "kept"), [("Gera\u0308t", "Ger\u00e4t"), (" pay ", "pay"), ("True", "true"), ("12.0", "12")]
)
def test_a_label_of_feedback_has_the_form_that_labels_are_trained_in(sent, kept):
    body = json.dumps({"prediction_id": "p-1", "label": sent}).encode()
    assert parse_feedback(body, "classification")["label"] == kept


@pytest.mark.parametrize(("value", "status"), [('"0.9"', 400), ("true", 400), ("0", 422), ("1", 422), ("1.5", 422)])
def test_a_level_is_a_number_between_nothing_and_certainty(value, status):
    with pytest.raises(BadRequest, match="level must be") as caught:
        parse_predict(b'{"text": "a", "level": %b}' % value.encode(), max_rows=4, pairs=False)
    assert caught.value.status == status
    assert parse_predict(b'{"text": "a", "level": 0.90}', max_rows=4, pairs=False)[0] == [Row("a", level="0.9")]
