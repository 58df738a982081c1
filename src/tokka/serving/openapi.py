"""What the endpoint takes and gives, as OpenAPI: the routes that no framework sees, beside KServe's.

application = DescribedApplication(title="Tokka", jobs=False)      # GET /openapi.json
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from tokka.serving.predict_api import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_TOP_K

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
    404: "no such path, model, version or job",
    413: "the body is too large",
    422: "too many rows, or too long a text",
    429: "too many requests of this key, or too many large bodies at once; Retry-After says when to come again",
    431: "too many headers, or too long ones",
    503: "no model serves, or all are busy; Retry-After says when to come again",
}
_USER = {
    "name": "x-user-id", "in": "header", "schema": {"type": "string"},
    "description": "the same user stays with one revision while the split stays; without it, each request is drawn",
}  # fmt: skip
_PREFER = {
    "name": "Prefer", "in": "header", "schema": {"type": "string", "enum": ["respond-async"]},
    "description": "the answer may come later: 202 says where it will be",
}  # fmt: skip
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 200},
    "description": "the same key of the same client is the same job",
}  # fmt: skip
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_TAKEN = {
    "type": "object",
    "required": ["job", "state", "location"],
    "properties": {"job": {"type": "string"}, "state": {"type": "string"}, "location": {"type": "string"}},
}
_JOB = {
    "type": "object",
    "required": ["job", "state"],
    "properties": {
        "job": {"type": "string"},
        "state": {"type": "string", "enum": ["queued", "done", "failed"]},
        "created": {"type": "number", "description": "seconds since 1970"},
        "updated": {"type": "number", "description": "seconds since 1970"},
        "result": {"type": "object", "description": "what the request would have been answered with at once"},
        "error": {"type": "string"},
    },
}
_HEALTH = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"type": "string"},
        "champion": {"type": "string", "description": "VERSION@DIGEST, or none"},
        "challenger": {"type": "string", "description": "VERSION@DIGEST, or none"},
        "share_per_10000": {"type": "integer", "description": "the challenger's part of the traffic"},
    },
}
_INFER = (
    "Inputs: text (BYTES), and text_pair for a model that compares pairs. Outputs: prediction_id, then label and "
    "score, or value; with the parameter top_k (1 to 20) also top_labels and top_scores of shape [rows, k]."
)


class DescribedApplication(FastAPI):
    """A FastAPI application whose description is of everything that the gateway lets through.

    Args:
        jobs: whether the gateway takes requests that can wait.
    """

    def __init__(self, *, jobs: bool, **named: Any) -> None:
        super().__init__(**named)
        self._jobs = jobs

    def include_router(self, router: APIRouter, **named: Any) -> None:
        """Add KServe's routes: those that name a version are described too, those that load and unload are left out."""
        kept = [route for route in router.routes if isinstance(route, APIRoute) and "/repository/" not in route.path]
        for route in kept:
            route.include_in_schema = True
        router.routes[:] = kept
        super().include_router(router, **named)

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        return describe(super().openapi(), jobs=self._jobs)


def describe(tree: dict[str, Any], *, jobs: bool) -> dict[str, Any]:
    """An OpenAPI description with what is answered beside KServe, and the two ways to say who asks."""
    kserve = {path: _of_kserve(path, item) for path, item in tree["paths"].items() if path.startswith("/v2")}
    tree["paths"] = kserve | {
        "/predict": {"post": _operation("Predict a text, or several", _PREDICTED, _PREDICT, [_USER])},
        "/feedback": {"post": _operation("Say what was right", _ACCEPTED, _FEEDBACK)},
        "/health": {"get": {**_operation("Whether somebody serves, and who", _HEALTH), "security": []}},
    }
    if jobs:
        tree["paths"]["/jobs/{id}"] = {"get": _operation("What became of a request that could wait", _JOB, None, [_ID])}
        for path in ("/predict", "/v2/models/{model_name}/infer"):
            _let_wait(tree["paths"][path]["post"])
    components = tree.setdefault("components", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(unused, None)
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    tree["security"] = [{"key": []}, {"bearer": []}, {}]
    return tree


def _of_kserve(path: str, item: dict[str, Any]) -> dict[str, Any]:
    """A path as KServe describes it, with our refusals in place of its own, and without its notes for programmers."""
    for operation in item.values():
        operation.pop("description", None)
        operation["parameters"] = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        operation["responses"] = {"200": operation["responses"]["200"], **_refusals()}
        if path.startswith("/v2/health"):
            operation["security"] = []
        if path.endswith("/infer"):
            operation["parameters"].append(_USER)
            operation["description"] = _INFER
    return item


def _operation(
    summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None,
    parameters: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    taken = {"requestBody": {"required": True, "content": _json(body)}} if body else {}
    responses = {"200": {"description": "the answer", "content": _json(answer)}, **_refusals()}
    return {"summary": summary, "parameters": list(parameters), **taken, "responses": responses}


def _let_wait(operation: dict[str, Any]) -> None:
    operation["parameters"] += [_PREFER, _IDEMPOTENCY_KEY]
    place = {"Location": {"schema": {"type": "string"}, "description": "where the answer will be"}}
    operation["responses"]["202"] = {"description": "taken as a job", "headers": place, "content": _json(_TAKEN)}


def _refusals() -> dict[str, Any]:
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {str(status): {"description": words, "content": _json(error)} for status, words in _REFUSALS.items()}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
