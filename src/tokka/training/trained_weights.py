"""What training made, before it was exported: sealed, so that another form of it costs no second training.

trained = kept.load(folder, job) or kept.save(folder, job, train(job, work))
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tokka import files
from tokka.errors import TokkaError
from tokka.model.network import Specialist, build_encoder
from tokka.training.setup.job import Job
from tokka.training.train import Trained

WEIGHTS, OUTPUTS, FACTS = "weights.safetensors", "outputs.npy", "trained.json"


def save(folder: Path, job: Job, trained: Trained) -> Trained:
    """Keep weights, validation outputs, curves and facts in `folder`, whole or not at all; return `trained`."""
    from safetensors.torch import save as as_bytes

    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".staging-"))
    try:
        state = {name: value.detach().cpu().contiguous() for name, value in job.model.state_dict().items()}
        files.write_bytes(staging / WEIGHTS, as_bytes(state))
        np.save(staging / OUTPUTS, trained.outputs, allow_pickle=False)
        files.write_json(staging / FACTS, {"curves": trained.curves, "facts": trained.facts})
        files.seal(staging)
        files.publish_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return trained


def load(folder: Path, job: Job) -> Trained | None:
    """Put the kept weights into `job.model`; None when there are none, and what does not verify is thrown away."""
    from safetensors.torch import load_file

    if not (folder / files.MANIFEST).is_file():
        return None
    try:
        files.verify(folder)
    except TokkaError:
        shutil.rmtree(folder)
        return None
    job.model = _model(job)
    job.model.load_state_dict(load_file(folder / WEIGHTS))
    told = files.read_json(folder / FACTS)
    return Trained(np.load(folder / OUTPUTS, allow_pickle=False), told["curves"], told["facts"])


def _model(job: Job) -> Specialist:
    """An empty network of the job's kind with the whole vocabulary; the job's own has only the words of its rows."""
    encoder = build_encoder(job.config)
    # The attention that was chosen for training is also what the ONNX form is traced from.
    chosen: Any = job.model.encoder.config
    encoder.set_attn_implementation(chosen._attn_implementation)  # type: ignore[operator]
    outputs = max(1, len(job.prepared.labels))
    return Specialist(encoder, outputs=outputs, pooling=job.params.model.pooling).eval()
