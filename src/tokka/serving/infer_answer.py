"""Answers as the v2 protocol lays them out: which tensors there are, and a whole answer as JSON.

infer_answer(asked, answers, task="classification", name="helpdesk")
"""

from typing import Any

from tokka.serving.v2_json import Asked

_TOP_PARTS = {"top_labels": "label", "top_scores": "score"}


def answer_types(task: str, top_k: int = 0) -> dict[str, str]:
    """The tensors of an answer, as {name: datatype}."""
    if task == "regression":
        return {"prediction_id": "BYTES", "value": "FP64"}
    best = {"prediction_id": "BYTES", "label": "BYTES", "score": "FP64"}
    return {**best, "top_labels": "BYTES", "top_scores": "FP64"} if top_k else best


def column(name: str, answers: list[dict[str, Any]]) -> tuple[list[int], list[Any]]:
    """Shape and values (row by row) of one tensor of an answer."""
    part = _TOP_PARTS.get(name)
    if part is None:
        return [len(answers)], [row[name] for row in answers]
    return [len(answers), len(answers[0]["top"])], [item[part] for row in answers for item in row["top"]]


def answer_id(request_id: str | None, answers: list[dict[str, Any]]) -> str:
    """The id of an answer: the request's own, or the stem of its rows' prediction ids."""
    return request_id or str(answers[0]["prediction_id"]).partition(".")[0]


def infer_answer(asked: Asked, answers: list[dict[str, Any]], *, task: str, name: str) -> dict[str, Any]:
    """The body of an answer with every tensor, as KServe would write it; `name` is the model's."""
    outputs = []
    for tensor, datatype in answer_types(task, asked.top_k).items():
        shape, data = column(tensor, answers)
        outputs.append({"name": tensor, "shape": shape, "datatype": datatype, "data": data})
    return {
        "id": answer_id(asked.request_id, answers), "model_name": name, "model_version": answers[0]["model_version"],
        "outputs": outputs, "parameters": {"canary": answers[0]["canary"]},
    }  # fmt: skip
