"""What MLflow's pages show of a version: its schema and an example, above the folder of the files that are signed.

MLflow reads a version's schema from a file `MLmodel` in the folder that is the version's source: the run's artifacts,
of which the signed model is the folder `model`. It names no `python_function`: nothing can load code through it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokka import files
from tokka.params import Params
from tokka.registry.connection import Foreign, import_mlflow

# MLflow stores 5000 characters of a description on some databases; the whole card is among the evidence.
MAXIMUM_DESCRIPTION = 5000
# Sections of the card by their titles, what is needed least first; the others stay.
LEAST_NEEDED = ("Made of", "Specialised or general?", "Intended use", "Gate", "Slices")
EXAMPLE = "input_example.json"
MODEL_DESCRIPTION = (
    "Specialists made by Tokka. Every version was evaluated, gated and signed; its card is its description."
)


def write_page_files(folder: Path, params: Params) -> Path:
    """Make a folder of schema and input example, whose files go to the top of the run's artifacts; return it."""
    models, task = import_mlflow().models, params.task
    texts = {"text": "string", **({} if task.text_pair is None else {"text_pair": "string"})}
    answers = {"label": "string", "score": "double"} if task.type == "classification" else {"value": "double"}
    folder.mkdir()
    models.Model(
        artifact_path=".",
        flavors={"tokka": {"loader": "tokka.model.predictor.load_predictor", "weights": "safetensors, ONNX"}},
        signature=models.ModelSignature(inputs=_schema(texts), outputs=_schema(answers)),
        saved_input_example_info={"artifact_path": EXAMPLE, "pandas_orient": "split", "type": "dataframe"},
    ).save(folder / "MLmodel")
    files.write_json(folder / EXAMPLE, {"columns": list(texts), "data": [["Where is my parcel?"] * len(texts)]})
    return folder


def shortened(card: str) -> str:
    """The card as a description: where it is too long, without what a reviewer needs least, which is named then.

    Still too long, it is cut at a line's end.
    """
    head, *parts = re.split(r"^(?=## )", card, flags=re.MULTILINE)
    left_out: list[str] = []
    for title in LEAST_NEEDED:
        if len(head) + sum(map(len, parts)) + len(_note(left_out)) <= MAXIMUM_DESCRIPTION:
            break
        gone = [part for part in parts if part.startswith(f"## {title}")]
        parts = [part for part in parts if part not in gone]
        left_out += [part.splitlines()[0].removeprefix("## ") for part in gone]
    text, note = head + "".join(parts), _note(left_out)
    if len(text) + len(note) <= MAXIMUM_DESCRIPTION:
        return text.rstrip("\n") + note if left_out else text
    note = _note([*left_out, "the end"])
    return text[: MAXIMUM_DESCRIPTION - len(note)].rpartition("\n")[0] + note


def _note(left_out: Sequence[str]) -> str:
    return f"\n\n(Not here: {'; '.join(left_out)}. The whole card is `evidence/model_card.md` of the run.)\n"


def run_page(tracking_uri: str, run_id: str) -> str:
    """The page of a run in MLflow's UI; empty where MLflow is a file."""
    served = tracking_uri.startswith(("http://", "https://"))
    return f"{tracking_uri.rstrip('/')}/#/runs/{run_id}" if served else ""


def _schema(columns: Mapping[str, str]) -> Foreign:
    types = import_mlflow().types
    return types.Schema([types.ColSpec(kind, name) for name, kind in columns.items()])
