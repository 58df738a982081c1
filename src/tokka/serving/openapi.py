"""What the endpoint takes and gives, as OpenAPI: the plain routes, which no framework sees, beside KServe's.

application = DescribedApplication(title="Tokka")      # GET /openapi.json
"""

from typing import Any

from fastapi import FastAPI

from tokka.serving.protocol import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_TOP_K

_TEXT = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_CLASS = {
    "type": "object",
    "required": ["label", "score"],
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
}
_ANSWER = {
    "type": "object",
    "required": ["prediction_id", "model_version", "canary"],
    "properties": {
        "prediction_id": {"type": "string", "description": "names this prediction in POST /feedback"},
        "model_version": {"type": "string"},
        "canary": {"type": "boolean", "description": "whether a challenger answered"},
        "label": {"type": "string"},
        "score": {"type": "number"},
        "top": {
            "type": "array",
            "items": _CLASS,
            "description": "with top_k: so many classes, the most probable first",
        },
        "value": {"type": "number", "description": "a regression's answer, in place of label and score"},
    },
}
_PREDICT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": _TEXT,
        "text_pair": _TEXT,
        "texts": _TEXTS,
        "text_pairs": _TEXTS,
        "top_k": {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K},
    },
    "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
}
_FEEDBACK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prediction_id"],
    "properties": {
        "prediction_id": {"type": "string"},
        "label": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARACTERS},
        "value": {"type": "number"},
    },
    "oneOf": [{"required": ["label"]}, {"required": ["value"]}],
}
_PREDICTED = {
    "oneOf": [_ANSWER, {"type": "object", "properties": {"predictions": {"type": "array", "items": _ANSWER}}}]
}
_ACCEPTED = {"type": "object", "properties": {"accepted": {"type": "boolean"}}}
_REFUSALS = {
    400: "not JSON, or not of this shape",
    401: "no credential, or none that is accepted",
    403: "the credential lacks the scope",
    413: "the body is too large",
    422: "too many rows, or too long a text",
    429: "too many requests of this key; Retry-After says when to come again",
    503: "no model serves, or all are busy; Retry-After says when to come again",
}
_USER = {
    "name": "x-user-id", "in": "header", "schema": {"type": "string"},
    "description": "the same user stays with one revision while the split stays; without it, each request is drawn",
}  # fmt: skip


class DescribedApplication(FastAPI):
    """A FastAPI application whose description has the plain routes too."""

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        return describe(super().openapi())


def describe(tree: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI description with POST /predict and POST /feedback, and the two ways to say who asks."""
    tree["paths"] |= {
        "/predict": {"post": _operation("Predict a text, or several", _PREDICT, _PREDICTED, [_USER])},
        "/feedback": {"post": _operation("Say what was right", _FEEDBACK, _ACCEPTED, [])},
    }
    tree.setdefault("components", {})["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    tree["security"] = [{"key": []}, {"bearer": []}, {}]
    return tree


def _operation(
    summary: str, body: dict[str, Any], answer: dict[str, Any], parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    refusals = {str(status): {"description": words, "content": _json(error)} for status, words in _REFUSALS.items()}
    return {
        "summary": summary,
        "parameters": parameters,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": {"200": {"description": "the answer", "content": _json(answer)}, **refusals},
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
