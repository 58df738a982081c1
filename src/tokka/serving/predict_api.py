"""What people send to POST /predict and POST /feedback, checked; and what they get.

    inputs = parse_predict(body, max_rows=256, pairs=False)
    # {"text": "…"} gives one row, {"texts": ["…", "…"]} several; text_pair, text_pairs and top_k come beside them

Every refusal is a `BadRequest` with a status, one sentence and nothing of what was sent but its shape.
"""

import contextlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from tokka.serving.engine import Row

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PREDICT_KEYS = {"text", "texts", "text_pair", "text_pairs", "top_k"}
_FEEDBACK_KEYS = {"prediction_id", "label", "value"}
MAX_LABEL_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 20_000
MAX_TOP_K = 20
# At the start, in the middle and at the end of a row; every other token stands for a letter at least.
SPECIAL_TOKENS = 4


class ClassScore(TypedDict):
    """One class and its probability."""

    label: str
    score: float


class Answer(TypedDict, total=False):
    """One prediction, as POST /predict gives it; `value` is a regression's, in place of `label` and `score`."""

    prediction_id: str
    model_version: str
    canary: bool
    label: str
    score: float
    top: list[ClassScore]
    value: float


class BadRequest(ValueError):
    """The client's mistake: an HTTP status and a sentence."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Inputs:
    """The rows of one request, whether it was a list (the answer has the same shape), and how many classes it wants."""

    rows: list[Row]
    several: bool
    top_k: int = 0


def parse_predict(body: bytes, *, max_rows: int, pairs: bool) -> Inputs:
    """Check the body of POST /predict.

    Raises:
        BadRequest: 400 not JSON or not of that shape, 422 more rows or characters than allowed.
    """
    tree = _parse_object(body, _PREDICT_KEYS, 'send {"text": "…"} or {"texts": ["…"]}')
    if ("text" in tree) == ("texts" in tree):
        raise BadRequest('send either "text" or "texts"')
    several = "texts" in tree
    name, other = ("text_pairs", "text_pair") if several else ("text_pair", "text_pairs")
    if tree.get(other) is not None:
        form = "texts" if several else "text"
        raise BadRequest(f'beside "{form}" send "{name}"' if pairs else f"this model takes no {other}")
    partner = tree.get(name)
    top_k = parse_top_k(tree.get("top_k"))
    texts = tree["texts"] if several else [tree["text"]]
    partners = partner if several or partner is None else [partner]
    return Inputs(make_rows(texts, partners, max_rows, pairs, top_k), several, top_k)


def parse_top_k(value: Any) -> int:
    """How many classes an answer shall name; 0 when nothing is said.

    Raises:
        BadRequest: 400 no integer, 422 out of range.
    """
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(f"top_k must be an integer from 1 to {MAX_TOP_K}")
    if not 1 <= value <= MAX_TOP_K:
        raise BadRequest(f"top_k must be from 1 to {MAX_TOP_K}: there is nothing beyond", 422)
    return value


def require_classes(rows: Sequence[Row], task: str) -> None:
    """See that classes are asked of a model that has them.

    Raises:
        BadRequest: 400, top_k came to a regression.
    """
    if task == "regression" and any(row.top_k for row in rows):
        raise BadRequest("this model answers with a value and has no classes: leave top_k out")


def make_rows(texts: Any, partners: Any, max_rows: int, pairs: bool, top_k: int = 0) -> list[Row]:
    """Rows from lists of texts, each of which wants `top_k` classes named.

    Raises:
        BadRequest: they are no lists of strings of equal length, or too many.
    """
    for name, values in (("text", texts), ("text_pair", partners)):
        if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise BadRequest(f"{name} must be a string, or a list of strings")
    if not texts:
        raise BadRequest("there is no text")
    if len(texts) > max_rows:
        raise BadRequest(f"{len(texts)} rows, at most {max_rows} are taken at once", 422)
    if pairs != (partners is not None):
        raise BadRequest("this model compares pairs: send text_pair too" if pairs else "this model takes no text_pair")
    if partners is not None and len(partners) != len(texts):
        raise BadRequest(f"{len(texts)} texts and {len(partners)} text_pairs")
    everything = [*texts, *(partners or ())]
    if not all(map(is_unicode, everything)):
        raise BadRequest("a text is not valid Unicode")
    longest = max(map(len, everything))
    if longest > MAX_TEXT_CHARACTERS:
        raise BadRequest(f"a text of {longest} characters, at most {MAX_TEXT_CHARACTERS} are taken", 422)
    return [Row(text, partner, top_k) for text, partner in zip(texts, partners or [None] * len(texts), strict=True)]


def require_few_tokens(rows: Sequence[Row], count: Callable[[Sequence[Row]], int], max_tokens: int) -> None:
    """See that a request costs no more than it may; nothing is counted where the letters are too few for it.

    Args:
        count: tokens of rows, as the model would read them (cut to its own longest text).

    Raises:
        BadRequest: 422, more tokens than allowed.
    """
    if sum(len(row.text) + len(row.pair or "") + SPECIAL_TOKENS for row in rows) <= max_tokens:
        return
    tokens = count(rows)
    if tokens > max_tokens:
        raise BadRequest(f"{tokens} tokens, at most {max_tokens} are taken at once: send fewer rows", 422)


def parse_feedback(body: bytes, task: str) -> dict[str, Any]:
    """Check the body of POST /feedback and return {"prediction_id", "label" or "value"}.

    Args:
        task: "classification" is told labels, "regression" values.

    Raises:
        BadRequest: not JSON, no usable id, not what this task is told, a number that is not finite.
    """
    tree = _parse_object(body, _FEEDBACK_KEYS, 'send {"prediction_id": "…", "label": "…"}')
    name = tree.get("prediction_id")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest("prediction_id must be one that an answer carried")
    if ("label" in tree) == ("value" in tree):
        raise BadRequest('send either "label" or "value"')
    if ("value" in tree) != (task == "regression"):
        raise BadRequest('this model answers with a value: send "value"' if "label" in tree else
                         'this model answers with a label: send "label"')  # fmt: skip
    if "label" in tree:
        return {"prediction_id": name, "label": _label(tree["label"])}
    return {"prediction_id": name, "value": _finite(tree["value"])}


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON may smuggle in half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _label(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARACTERS and is_unicode(value):
        return value
    raise BadRequest(f"label must be a string of 1 to {MAX_LABEL_CHARACTERS} characters")


def _finite(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise BadRequest("value must be a finite number")


def _parse_object(body: bytes, known: set[str], usage: str) -> dict[str, Any]:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"the body is not JSON: {usage}") from None
    if not isinstance(tree, dict):
        raise BadRequest(f"the body is not a JSON object: {usage}")
    unknown = sorted(set(tree) - known)
    if unknown:
        raise BadRequest(f"unknown key {unknown[0][:40]!r}: {usage}")
    return tree
