"""What MLflow's pages show of a version: its schema and an example, above the folder of the files that are signed.

MLflow reads a version's schema from a file `MLmodel` in the folder that is the version's source: the run's artifacts,
of which the signed model is the folder `model`. It names no `python_function`: nothing can load code through it.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tokka import files

# MLflow stores 5000 characters of a description on some databases; the whole card is among the evidence.
MAXIMUM_DESCRIPTION = 5000
PAGE_FILES = ("MLmodel", "input_example.json")
MODEL_DESCRIPTION = (
    "Specialists made by Tokka. Every version was evaluated, gated and signed; its card is its description."
)


def write_page_files(folder: Path, *, classification: bool, pair: bool, example: str) -> None:
    """Write schema and input example into a folder whose files go to the top of the run's artifacts."""
    texts = ["text", "text_pair"] if pair else ["text"]
    answers = {"label": "string", "score": "double"} if classification else {"value": "double"}
    schema = {
        "inputs": json.dumps([{"type": "string", "name": name, "required": True} for name in texts]),
        "outputs": json.dumps([{"type": kind, "name": name, "required": True} for name, kind in answers.items()]),
        "params": None,
    }
    described = {
        "artifact_path": ".",
        "flavors": {"tokka": {"loader": "tokka.model.predictor.load_predictor", "weights": "safetensors, ONNX"}},
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "type": "dataframe",
        },
        "signature": schema,
        "utc_time_created": datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" "),
    }
    files.write_text(folder / "MLmodel", yaml.safe_dump(described, sort_keys=True))
    files.write_json(folder / "input_example.json", {"columns": texts, "data": [[example] * len(texts)]})


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
