"""Cost: turns are fair, sizes come from headers, and a model that cannot be measured says so in one line."""

import json
import struct

import pytest

from tokka.errors import TokkaError
from tokka.evaluation.metrics.cost import latency_in_turns, parameter_count, probe, summarise


def test_models_take_turns_on_the_same_texts_and_at_coming_first():
    asked = []
    models = {name: lambda text, pair, name=name: asked.append((name, text, pair)) for name in ("one", "two")}
    found = latency_in_turns(models, ["a", "b"], ["x", "y"], requests=20)
    assert asked[:4] == [("one", "a", "x"), ("two", "a", "x"), ("two", "b", "y"), ("one", "b", "y")]
    assert set(found) == {"one", "two"}
    assert all(0 <= latency.p50 <= latency.p99 for latency in found.values())


def test_quantiles_of_known_latencies():
    found = summarise([float(number) for number in range(101)])
    assert (found.p50, found.p99) == (50.0, 99.0)


def test_parameters_are_counted_from_the_header_alone(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]},
              "b": {"dtype": "F32", "shape": [], "data_offsets": [48, 52]}}  # fmt: skip
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert parameter_count([tmp_path / "model.safetensors"]) == 13


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 4) + b"null", struct.pack("<Q", 2**60) + b"{"])
def test_what_is_no_safetensors_file_is_a_clear_error(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(TokkaError, match="no safetensors file"):
        parameter_count([tmp_path / "model.safetensors"])


def test_a_model_that_cannot_be_measured_is_named(tmp_path):
    with pytest.raises(TokkaError, match=r"cannot be measured: .*tokka\.json"):
        probe({"kind": "specialist", "folder": str(tmp_path), "texts": ["a"], "pairs": None})
