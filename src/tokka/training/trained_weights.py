"""What training made, before it was exported: kept in the store, so that another form of it costs no training."""

import numpy as np

from tokka import files
from tokka.model.network import Specialist, as_safetensors, build_encoder
from tokka.store import StepStore
from tokka.training.setup.training_setup import TrainingSetup
from tokka.training.train import Trained

STEP = "training"
WEIGHTS, OUTPUTS, FACTS, HELD_OUT = "weights.safetensors", "outputs.npy", "trained.json", "held_out.npy"


def save(store: StepStore, key: str, setup: TrainingSetup, trained: Trained) -> Trained:
    """Keep weights, validation outputs, curves, facts and precision under `key`; return `trained`."""
    with store.entry(STEP, key) as folder:
        files.write_bytes(folder / WEIGHTS, as_safetensors(setup.model.state_dict()))
        np.save(folder / OUTPUTS, trained.outputs, allow_pickle=False)
        if trained.held_out is not None:
            np.save(folder / HELD_OUT, trained.held_out, allow_pickle=False)
        facts = {"curves": trained.curves, "facts": trained.facts, "precision": setup.precision}
        facts["strategy"] = setup.params.finetuning.strategy
        files.write_json(folder / FACTS, facts)
    return trained


def load(store: StepStore, key: str, setup: TrainingSetup) -> Trained | None:
    """Put the kept weights and precision into the setup; None when there are none that verify."""
    from safetensors.torch import load_file

    folder = store.find(STEP, key)
    if folder is None:
        return None
    # The setup's own network has only the words of its rows; its attention is also what ONNX is traced from.
    encoder, chosen = build_encoder(setup.config), setup.model.encoder.config
    encoder.set_attn_implementation(chosen._attn_implementation)  # type: ignore[operator, union-attr]
    outputs = max(1, len(setup.prepared.labels))
    setup.model = Specialist(encoder, outputs=outputs, pooling=setup.params.model.pooling).eval()
    setup.model.load_state_dict(load_file(folder / WEIGHTS))
    kept = files.read_json(folder / FACTS)
    setup.adjust(precision=kept["precision"], strategy=kept["strategy"])
    before = folder / HELD_OUT
    held_out = np.load(before, allow_pickle=False) if before.is_file() else None
    return Trained(np.load(folder / OUTPUTS, allow_pickle=False), kept["curves"], kept["facts"], held_out)
