"""What MLflow's pages show of a version: its schema and an example, above the folder of the files that are signed.

MLflow reads a version's schema from a file `MLmodel` in the folder that is the version's source: the run's artifacts,
of which the signed model is the folder `model`. It names no `python_function`: nothing can load code through it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from tokka import files
from tokka.registry.connection import Foreign, import_mlflow

# MLflow stores 5000 characters of a description on some databases; the whole card is among the evidence.
MAXIMUM_DESCRIPTION = 5000
EXAMPLE = "input_example.json"
PAGE_FILES = ("MLmodel", EXAMPLE)
MODEL_DESCRIPTION = (
    "Specialists made by Tokka. Every version was evaluated, gated and signed; its card is its description."
)


def write_page_files(folder: Path, *, classification: bool, pair: bool, example: str) -> None:
    """Write schema and input example into a folder whose files go to the top of the run's artifacts."""
    models = import_mlflow().models
    texts = {"text": "string", **({"text_pair": "string"} if pair else {})}
    answers = {"label": "string", "score": "double"} if classification else {"value": "double"}
    models.Model(
        artifact_path=".",
        flavors={"tokka": {"loader": "tokka.model.predictor.load_predictor", "weights": "safetensors, ONNX"}},
        signature=models.ModelSignature(inputs=_schema(texts), outputs=_schema(answers)),
        saved_input_example_info={"artifact_path": EXAMPLE, "pandas_orient": "split", "type": "dataframe"},
    ).save(folder / "MLmodel")
    files.write_json(folder / EXAMPLE, {"columns": list(texts), "data": [[example] * len(texts)]})


def shortened(card: str) -> str:
    """The card as a description: cut at a line's end where it is too long, and said to be cut."""
    note = "\n\n(Cut: the whole card is `evidence/model_card.md` of the run.)\n"
    if len(card) <= MAXIMUM_DESCRIPTION:
        return card
    return card[: MAXIMUM_DESCRIPTION - len(note)].rpartition("\n")[0] + note


def move(found: Path, into: Path, *, without_page_files: bool) -> None:
    """Move what was downloaded, one file or a folder's content, into a folder."""
    for path in [found] if found.is_file() else sorted(found.iterdir()):
        if not (without_page_files and path.name in PAGE_FILES):
            shutil.move(path, into / path.name)


def _schema(columns: Mapping[str, str]) -> Foreign:
    types = import_mlflow().types
    return types.Schema([types.ColSpec(kind, name) for name, kind in columns.items()])
