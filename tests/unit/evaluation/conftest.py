"""A small prepared data set and small real specialists on the tiny encoder, served as ONNX."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.tiny_model import make_tiny_base
from tokka import files
from tokka.data.preparation.prepared import load
from tokka.evaluation.models.zero_shot import FrozenEncoder
from tokka.params import parse_params

THEMES = {
    "card lost": ["I lost my card", "my card is lost", "where is my card", "need a new card"],
    "printer broken": ["the printer is out of paper", "printer will not print", "the printer is offline"],
    "refund": ["please refund my payment", "the refund did not arrive", "refund of 20 euro"],
}
FILLERS = ["hello", "please", "again", "thank you", "since Monday", "this page", "my account", "the network"]
SHARES = {"train": 60, "validation": 20, "test": 40}


def rows_of(split, generator):
    for label, phrases in THEMES.items():
        for number in range(SHARES[split]):
            words = [FILLERS[place] for place in generator.integers(0, len(FILLERS), 2)]
            yield f"{words[0]} {phrases[number % len(phrases)]} {words[1]} {split} {number}", label


def table(pairs, task):
    texts = [text for text, _ in pairs]
    value = {label: float(number) for number, label in enumerate(THEMES)}
    noise = np.random.default_rng(1).normal(0, 0.1, len(pairs))
    targets = [label for _, label in pairs]
    if task == "regression":
        targets = [value[label] + shift for label, shift in zip(targets, noise, strict=True)]
    return pa.table(
        {
            "row_id": [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts],
            "text": texts,
            "target": targets,
            "slice_channel": [("mail", "chat")[number % 2] for number in range(len(texts))],
        }
    )


def write_prepared(folder, task):
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split in SHARES:
        pq.write_table(table(list(rows_of(split, generator)), task), folder / f"{split}.parquet")
    files.write_json(folder / "labels.json", {"labels": sorted(THEMES) if task == "classification" else []})
    files.write_json(folder / "digest.json", {"digest": "d" * 64, "splits": {}})
    rows = {split: 3 * count for split, count in SHARES.items()}
    files.write_json(folder / "summary.json", {"task": task, "rows": rows})
    return folder


def make_specialist(folder, base, prepared, *, labels=None, blur=0.0, trained_on=None, text_pair=False):
    """Fit a head on the frozen tiny encoder and write a model folder; `blur` spoils the head."""
    import torch
    from safetensors.torch import save_file
    from sklearn.linear_model import LogisticRegression, Ridge

    from tokka.model.configuration import read_encoder_config
    from tokka.model.folder import write_model_config
    from tokka.model.network import FEATURE_SCALE, Specialist, load_encoder
    from tokka.training.onnx_forms import write_fp32

    data = load(prepared)
    features = FEATURE_SCALE * FrozenEncoder(base, 48).embed(data.train.column("text").to_pylist())
    targets = data.train.column("target").to_pylist()
    labels = tuple(data.labels if labels is None else labels)
    keep = [number for number, target in enumerate(targets) if not labels or target in labels]
    head = LogisticRegression(C=10, max_iter=500) if labels else Ridge(1e-3)
    head.fit(features[keep], [targets[number] for number in keep])
    network = Specialist(load_encoder(base), outputs=max(1, len(labels)), pooling="mean")
    weights = np.atleast_2d(head.coef_)
    weights = weights + blur * np.random.default_rng(0).normal(size=weights.shape) * weights.std()
    with torch.no_grad():
        network.head.linear.weight.copy_(torch.from_numpy(weights))
        network.head.linear.bias.copy_(torch.from_numpy(np.atleast_1d(head.intercept_)))
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    shutil.copy(base / "tokenizer.json", folder)
    # The ONNX form: what measures it in a process of its own then need not import torch.
    write_fp32(network.eval(), folder / "model.onnx", token_types=True)
    config = read_encoder_config(base / "config.json")
    (folder / "config.json").write_text(json.dumps(config))
    described = {"task": data.task, "labels": labels, "text_pair": text_pair, "max_tokens": 48, "pooling": "mean",
                 "feature_scale": FEATURE_SCALE, "temperature": 1.0, "token_types": True, "padding": 0,
                 "base": {"name": "tiny", "digest": "b" * 64}, "serve": "fp32",
                 "data_digest": data.digest if trained_on is None else trained_on}  # fmt: skip
    write_model_config(folder, described)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared", "classification")


@pytest.fixture(scope="session")
def prepared_regression(tmp_path_factory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("data") / "prepared", "regression")


@pytest.fixture(scope="session")
def specialist(tmp_path_factory, base, prepared) -> Path:
    return make_specialist(tmp_path_factory.mktemp("models") / "good", base, prepared)


@pytest.fixture
def params(base):
    def make(task="classification", **sections):
        # What takes seconds of imports has tests of its own.
        quick = {"insight": False, "general": {"linear": False}}
        evaluation = {"bootstrap": 200, "slices_minimum_rows": 20, **quick, **sections.pop("evaluation", {})}
        return parse_params({"task": {"type": task}, "model": {"base": str(base), "max_tokens": 48},
                             "evaluation": evaluation, **sections})  # fmt: skip

    return make
