"""What people send to POST /predict and POST /feedback, checked; and what they get.

{"text": "…"} gives one row, {"texts": ["…", "…"]} several; text_pair, text_pairs, top_k and level come beside them.
Every refusal is a `BadRequest` with a status, one sentence and nothing of what was sent but its shape.
"""

from collections.abc import Callable, Sequence
from typing import TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokka.data import normalising
from tokka.serving.engine import Row

MAX_LABEL_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 20_000
MAX_TOP_K = 20
# At the start, in the middle and at the end of a row; every other token stands for a letter at least.
SPECIAL_TOKENS = 4

Body = TypeVar("Body", bound=BaseModel)


class PredictRequest(BaseModel):
    """The body of POST /predict."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    text_pair: str | None = None
    texts: list[str] | None = None
    text_pairs: list[str] | None = None
    top_k: object = None
    level: object = None


class FeedbackRequest(BaseModel):
    """The body of POST /feedback."""

    model_config = ConfigDict(extra="forbid")

    prediction_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    label: str | None = Field(default=None, min_length=1, max_length=MAX_LABEL_CHARACTERS)
    value: float | None = Field(default=None, strict=True, allow_inf_nan=False)


class ClassScore(TypedDict):
    """One class and its probability."""

    label: str
    score: float


class Answer(TypedDict, total=False):
    """One prediction, as POST /predict gives it; `value` is a regression's, in place of `label` and `score`.

    `unsure`, with serving.threshold: whether the score is below it. `set`: the classes of which the truth is one with
    the probability of the level that was asked for.
    """

    prediction_id: str
    model_version: str
    canary: bool
    label: str
    score: float
    top: list[ClassScore]
    unsure: bool
    set: list[str]
    value: float


class BadRequest(ValueError):
    """The client's mistake: an HTTP status and a sentence."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def parse_predict(body: bytes, *, max_rows: int, pairs: bool) -> tuple[list[Row], bool]:
    """The rows in the body of POST /predict, and whether it was a list: the answer has the same shape.

    Raises BadRequest: 400 not JSON or not of that shape, 422 more rows or characters than allowed.
    """
    request = parse_body(PredictRequest, body, 'send {"text": "…"} or {"texts": ["…"]}')
    if (request.text is None) == (request.texts is None):
        raise BadRequest('send either "text" or "texts"')
    several = request.texts is not None
    name, other = ("text_pairs", "text_pair") if several else ("text_pair", "text_pairs")
    if getattr(request, other) is not None:
        form = "texts" if several else "text"
        raise BadRequest(f'beside "{form}" send "{name}"' if pairs else f"this model takes no {other}")
    top_k, level = parse_top_k(request.top_k), parse_level(request.level)
    single = [request.text or ""], None if request.text_pair is None else [request.text_pair]
    texts, partners = single if request.texts is None else (request.texts, request.text_pairs)
    return make_rows(texts, partners, max_rows, pairs, top_k, level), several


def parse_top_k(value: object) -> int:
    """How many classes an answer shall name, 0 for none; raises BadRequest: 400 no integer, 422 out of range."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(f"top_k must be an integer from 1 to {MAX_TOP_K}")
    if not 1 <= value <= MAX_TOP_K:
        raise BadRequest(f"top_k must be from 1 to {MAX_TOP_K}: there is nothing beyond", 422)
    return value


def parse_level(value: object) -> str:
    """At which level prediction sets are asked for, as the model names it, such as 0.9; empty for none.

    Raises BadRequest (400) for no number, 422 for one between nothing and certainty that is not.
    """
    if value is None:
        return ""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadRequest("level must be a number, such as 0.9")
    if not 0 < value < 1:
        raise BadRequest("level must be between 0 and 1, such as 0.9", 422)
    return f"{value:g}"


def require_classes(rows: Sequence[Row], task: str, levels: Sequence[str]) -> None:
    """Raise BadRequest when classes are asked of a regression (400), or sets at a level that the model lacks (422)."""
    if task == "regression" and any(row.top_k or row.level for row in rows):
        raise BadRequest("this model answers with a value and has no classes: leave top_k and level out")
    if unknown := {row.level for row in rows} - {"", *levels}:
        known = f"this model knows {', '.join(levels)}" if levels else "this model was made without prediction sets"
        raise BadRequest(f"level {min(unknown)}: {known}", 422)


def make_rows(
    texts: Sequence[str] | None, partners: Sequence[str] | None, max_rows: int, pairs: bool, top_k: int = 0,
    level: str = "",
) -> list[Row]:  # fmt: skip
    """Rows from columns of texts, each of which wants `top_k` classes named, and a set of classes at `level`.

    Raises BadRequest for columns of unequal length, too many or too few, and for too many rows or characters.
    """
    if not texts:
        raise BadRequest("there is no text")
    if len(texts) > max_rows:
        raise BadRequest(f"{len(texts)} rows, at most {max_rows} are taken at once", 422)
    if pairs != (partners is not None):
        raise BadRequest("this model compares pairs: send text_pair too" if pairs else "this model takes no text_pair")
    if partners is not None and len(partners) != len(texts):
        raise BadRequest(f"{len(texts)} texts and {len(partners)} text_pairs")
    longest = max(map(len, [*texts, *(partners or ())]))
    if longest > MAX_TEXT_CHARACTERS:
        raise BadRequest(f"a text of {longest} characters, at most {MAX_TEXT_CHARACTERS} are taken", 422)
    if partners is None:
        return [Row(text, None, top_k, level) for text in texts]
    return [Row(text, partner, top_k, level) for text, partner in zip(texts, partners, strict=True)]


def require_few_tokens(rows: Sequence[Row], count: Callable[[Sequence[Row]], int], max_tokens: int) -> None:
    """Raise BadRequest (422) for too many tokens; nothing is counted where the letters are too few for it.

    `count` gives the tokens of rows as the model would read them (cut to its own longest text).
    """
    if sum(len(row.text) + len(row.pair or "") + SPECIAL_TOKENS for row in rows) <= max_tokens:
        return
    tokens = count(rows)
    if tokens > max_tokens:
        raise BadRequest(f"{tokens} tokens, at most {max_tokens} are taken at once: send fewer rows", 422)


def parse_feedback(body: bytes, task: str) -> dict[str, str | float]:
    """The body of POST /feedback as {"prediction_id", "label" or "value"}; a regression is told values, else labels.

    Raises BadRequest: not JSON, no usable id, not what this task is told, a number that is not finite.
    """
    found = parse_body(FeedbackRequest, body, 'send {"prediction_id": "…", "label": "…"}').model_dump(exclude_none=True)
    if ("label" in found) == ("value" in found):
        raise BadRequest('send either "label" or "value"')
    wanted = "value" if task == "regression" else "label"
    if wanted not in found:
        raise BadRequest(f'this model answers with a {wanted}: send "{wanted}"')
    if wanted == "label":
        # In the form that labels are trained in: another spelling of the same would count as another class.
        found["label"] = normalising.label(found["label"])
        if not found["label"]:
            raise BadRequest('"label" is blank')
    return found


def parse_body(kind: type[Body], body: bytes, usage: str) -> Body:
    """A body in JSON; raises BadRequest with the `usage` unless it is one, and of this kind."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise BadRequest(f"the body is not JSON in valid Unicode: {usage}") from None
        place = repr(".".join(str(part) for part in first["loc"][:6]))[1:-1][:80] or "the body"
        raise BadRequest(f"{place}: {first['msg']}: {usage}"[:300]) from None
