"""Data sets as the product's preprocessing splits them, with features from the frozen base model, kept in files.

Data: banking77, emobank and ops_commits under TOKKA_SHARED_DATA (default ../shared/data), and CLINC150's own file as
clinc150/data_full.json there, if any; the product's own sample; and the first sentences of docstrings of installed
packages, with the package as the class.
"""

import ast
import csv
import json
import os
import random
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokka import files
from tokka.data import sample
from tokka.data.preparation import preprocessing
from tokka.data.preparation.splitting import Split
from tokka.data.rows import Row
from tokka.model.base import resolve_base
from tokka.model.tokenising import TextEncoder
from tokka.params import Params, parse_params

DATA = Path(os.environ.get("TOKKA_SHARED_DATA", "../shared/data"))
CACHE = Path(tempfile.gettempdir()) / "tokka-benchmark-features"
PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "sqlalchemy", "torch", "transformers", "matplotlib")
MOST_ROWS = 3000
MAX_TOKENS = 128
Loaded = tuple[list[Row], list[Row]]


@dataclass(frozen=True)
class Rows:
    """One split with what the frozen model and its tokenizer say of it: features (rows, hidden)."""

    texts: list[str]
    targets: list[str | float]
    features: np.ndarray
    lengths: np.ndarray
    unknown: np.ndarray


def banking77() -> Loaded:
    """An official test file; its 77 classes are equally frequent there and not in the training file."""
    return tuple(_banking(name) for name in ("train", "test"))  # type: ignore[return-value]


def emobank() -> Loaded:
    """Valence of a sentence, a number; an official test split."""
    with (DATA / "emobank" / "emobank.csv").open(encoding="utf-8", newline="") as file:
        found = [(row["split"], Row(text=row["text"], target=float(row["V"]))) for row in csv.DictReader(file)]
    return [row for split, row in found if split != "test"], [row for split, row in found if split == "test"]


def clinc150() -> Loaded:
    """150 intents, without the rows that are of none; an official test split."""
    found = json.loads((DATA / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    train, test = ([Row(text=text, target=intent) for text, intent in found[name]] for name in ("train", "test"))
    return train, test


def ops_commits() -> Loaded:
    """The type of a commit from its subject; no test file."""
    with (DATA / "ops_commits" / "commits.csv").open(encoding="utf-8", newline="") as file:
        return [Row(text=row["text"], target=row["type"]) for row in csv.DictReader(file) if row["type"] != "perf"], []


def synthetic() -> Loaded:
    """The product's own sample; no test file."""
    with tempfile.TemporaryDirectory() as folder:
        sample.make_sample(Path(folder) / "sample.csv")
        with (Path(folder) / "sample.csv").open(encoding="utf-8", newline="") as file:
            return [Row(text=row["text"], target=row["label"]) for row in csv.DictReader(file)], []


def docstrings() -> Loaded:
    """From the first sentence of a function's docstring to its package; no test file."""
    site, found = Path(sysconfig.get_paths()["purelib"]), []
    for package in PACKAGES:
        sentences: set[str] = set()
        for path in sorted((site / package).rglob("*.py")):
            sentences |= _sentences(path)
        found += [Row(text=text, target=package) for text in sorted(sentences)]
    return found, []


SETS: dict[str, Callable[[], Loaded]] = {
    "banking77": banking77,
    "emobank": emobank,
    "ops_commits": ops_commits,
    "sample": synthetic,
    "docstrings": docstrings,
}
# Not part of what every machine has.
OTHERS: dict[str, Callable[[], Loaded]] = {"clinc150": clinc150}


def prepared(name: str, most: int = MOST_ROWS) -> dict[Split, Rows]:
    """The splits of a data set, each of at most `most` rows, with their features."""
    source, test = (SETS | OTHERS)[name]()
    regression = isinstance(source[0].target, float)
    params = parse_params(
        {
            "task": {"type": "regression" if regression else "classification"},
            "data": {"test": "test.csv" if test else None},
            "preprocessing": {"deduplicate": "exact"},
        }
    )
    result = preprocessing.decide(source, test or None, params)
    drawn = {split: _some(rows, most) for split, rows in result.splits.items()}
    return {split: features_of(rows, params) for split, rows in drawn.items()}


def features_of(rows: list[Row], params: Params) -> Rows:
    """Features of rows from the file of an earlier call, or from the base model."""
    from tokka.evaluation.models.zero_shot import FrozenEncoder

    base, texts = resolve_base(params.model, CACHE / "base"), [row.text for row in rows]
    kept = CACHE / f"{files.digest_json([base.digest, texts])[:32]}.npy"
    if not kept.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(kept, FrozenEncoder(base.path, MAX_TOKENS).embed(texts))
    encoded = TextEncoder(base.path / "tokenizer.json", MAX_TOKENS).encode(texts)
    return Rows(texts, [row.target for row in rows], np.load(kept), encoded.lengths, encoded.unknown)


def _banking(name: str) -> list[Row]:
    with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [Row(text=row["text"], target=row["category"]) for row in csv.DictReader(file)]


def _some(rows: list[Row], most: int) -> list[Row]:
    return rows if len(rows) <= most else sorted(random.Random(7).sample(rows, most))


def _sentences(path: Path) -> set[str]:
    """First sentences of the docstrings of public functions and classes."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return set()
    kinds = (ast.FunctionDef, ast.ClassDef)
    named = [node for node in ast.walk(tree) if isinstance(node, kinds) and not node.name.startswith("_")]
    said = (" ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()) for node in named)
    return {text for text in said if 20 <= len(text) <= 300}
