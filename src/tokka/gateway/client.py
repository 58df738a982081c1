"""A client of the endpoint over REST.

predict("http://127.0.0.1:8080", ["where is my card?"])
# [{"text": …, "prediction_id": …, "model_version": "3", "canary": False, "label": …, "score": …}]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tokka.errors import TokkaError

# The endpoint answers in JSON, whose values httpx gives as Any.
JsonObject = dict[str, Any]


def predict(
    endpoint: str, texts: Sequence[str], pairs: Sequence[str] | None = None, *, user: str = "",
    headers: Mapping[str, str] | None = None, timeout: float = 30.0,
) -> list[JsonObject]:  # fmt: skip
    """One answer per text, in order, each with the `text` that was asked, within `timeout` seconds.

    All requests of a `user` go to the same revision while the split stays; `headers` are more of them, such as a
    credential. Raises TokkaError when nothing answers there, no model serves, or the request was refused.
    """
    body = {"texts": list(texts)}
    if pairs is not None:
        body["text_pairs"] = list(pairs)
    own = {**(headers or {}), **({"x-user-id": user} if user else {})}
    try:
        response = httpx.post(f"{endpoint}/predict", json=body, headers=own, timeout=timeout, trust_env=False)
    except httpx.HTTPError as error:
        raise TokkaError(f"{endpoint} does not answer: {error}", "`tokka up` starts the stack") from None
    if response.status_code != 200:
        raise TokkaError(f"{endpoint} answered {response.status_code}: {reason(response)}", _hint(response.status_code))
    answers = response.json()["predictions"]
    return [{"text": text, **answer} for text, answer in zip(texts, answers, strict=True)]


def reason(response: httpx.Response) -> str:
    """The sentence in an answer that is no prediction."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _hint(status: int) -> str:
    hints = {
        401: "`tokka keys create` makes an API key",
        403: "`tokka keys create --scope` makes an API key that may do this",
        503: "`tokka status` shows what serves; `tokka run` makes a first version",
    }
    return hints.get(status, "")
