"""Write the model folder: safetensors, tokenizer, configuration, ONNX float32 and int8, each checked against torch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokka import files, progress
from tokka.errors import TokkaError
from tokka.model.engines import Floats, onnx_engine, rows_per_run, run_in_batches
from tokka.model.folder import FORM_FILES, Form, write_model_config
from tokka.model.network import FEATURE_SCALE, as_safetensors
from tokka.training.calibration import conformal_limits, expected_calibration_error, fit_temperature
from tokka.training.onnx_forms import write_fp32, write_int8
from tokka.training.setup.training_setup import TrainingSetup

CHECK_BATCH = 64
Facts = dict[str, float]


def export(setup: TrainingSetup, outputs: Floats, out: Path, held_out: Floats | None = None) -> Facts:
    """Write the model folder whole or not at all, and return its differences, calibration and sizes as figures.

    `outputs` (validation rows, labels or 1) are what torch computes for them; `held_out` what it did before the head
    learned from them too, on which confidence is then calibrated.

    Raises:
        TokkaError: a weight or an output is not finite, or ONNX differs from torch by more than the limit.
    """
    _refuse_nonfinite(setup, outputs)
    staging = out.with_name(f".{out.name}.making")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        facts = _fill(setup, outputs, staging, held_out)
        shutil.rmtree(out, ignore_errors=True)
        files.publish_folder(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return facts


def _fill(setup: TrainingSetup, outputs: Floats, folder: Path, held_out: Floats | None) -> Facts:
    files.write_bytes(folder / FORM_FILES["torch"], as_safetensors(setup.model.state_dict()))
    shutil.copyfile(setup.base.path / "tokenizer.json", folder / "tokenizer.json")
    files.write_text(folder / "config.json", json.dumps(setup.config, indent=2, sort_keys=True) + "\n")
    by_form: dict[Form, Floats] = {"torch": outputs, **_write_onnx_forms(setup, folder)}
    facts, temperature, limits = _compare(setup, by_form), 1.0, dict[str, float]()
    if held_out is not None:  # how many of the rows that it learned from it knows is no accuracy
        facts = {name: value for name, value in facts.items() if not name.endswith("validation_accuracy")}
    if setup.prepared.task == "classification":
        served = by_form[setup.params.export.serve] if held_out is None else held_out
        targets = setup.validation.targets
        temperature = fit_temperature(served, targets)
        facts["temperature"] = temperature
        facts["validation_ece_uncalibrated"] = expected_calibration_error(served, targets)
        facts["validation_ece"] = expected_calibration_error(served, targets, temperature)
        limits = conformal_limits(served, targets, temperature)
    write_model_config(folder, {**_config(setup, temperature), "conformal": limits})
    return facts | {f"size_mb_{form}": (folder / FORM_FILES[form]).stat().st_size / 1e6 for form in by_form}


def _write_onnx_forms(setup: TrainingSetup, folder: Path) -> dict[Form, Floats]:
    found: dict[Form, Floats] = {}
    if setup.params.export.onnx:
        progress.report("finetune", "exporting ONNX", fraction=0.97)
        fp32, int8 = folder / FORM_FILES["fp32"], folder / FORM_FILES["int8"]
        write_fp32(setup.model, fp32, token_types=setup.data.token_types)
        found["fp32"] = _run(setup, fp32, "fp32")
        if setup.params.export.int8:
            network: Any = setup.model.encoder.config  # transformers ships no types
            write_int8(fp32, int8, heads=network.num_attention_heads, hidden=network.hidden_size)
            found["int8"] = _run(setup, int8, "int8")
    return found


def _run(setup: TrainingSetup, path: Path, form: Form) -> Floats:
    engine, batch = onnx_engine(path.read_bytes(), torch.get_num_threads()), rows_per_run(form, CHECK_BATCH)
    padding, token_types = setup.vocabulary.padding, setup.data.token_types
    return run_in_batches(engine, setup.validation, batch=batch, padding=padding, token_types=token_types)[0]


def _compare(setup: TrainingSetup, by_form: dict[Form, Floats]) -> Facts:
    """Differences to torch, in logits or, for regression, in standard deviations of the target."""
    facts: Facts = {}
    unit, limit, wanted = setup.model.head.scale.item(), setup.params.export.maximum_difference, by_form["torch"]
    for form, found in by_form.items():
        if form != "torch":
            gaps = np.abs(found - wanted) / unit
            facts[f"onnx_{form}_maximum_difference"] = float(gaps.max())
            facts[f"onnx_{form}_mean_difference"] = float(gaps.mean())
            if setup.prepared.task == "classification":
                chosen = found.argmax(axis=1)
                facts[f"onnx_{form}_disagreement"] = float((chosen != wanted.argmax(axis=1)).mean())
                facts[f"onnx_{form}_validation_accuracy"] = float((chosen == setup.validation.targets).mean())
    gap = facts.get("onnx_fp32_maximum_difference", 0.0)
    if not gap <= limit:
        raise TokkaError(
            f"ONNX differs from torch by {gap:.2g}, export.maximum_difference allows {limit:g}",
            "export.onnx: false with serve: torch goes without ONNX",
        )
    said = f"ONNX to torch: at most {gap:.1e}"
    if (disagreement := facts.get("onnx_int8_disagreement")) is not None:
        said += f", int8 chooses another label for {disagreement:.2%} of validation rows"
    progress.report("finetune", said, fraction=0.99)
    return facts


def _config(setup: TrainingSetup, temperature: float) -> dict[str, object]:
    return {
        "task": setup.prepared.task,
        "labels": setup.prepared.labels,
        "text_pair": setup.params.task.text_pair is not None,
        "max_tokens": setup.max_tokens,
        "pooling": setup.params.model.pooling,
        "feature_scale": FEATURE_SCALE,
        "temperature": temperature,
        "token_types": setup.data.token_types,
        "padding": setup.vocabulary.padding,
        "base": {"name": setup.base.name, "digest": setup.base.digest},
        "data_digest": setup.prepared.digest,
        "precision": setup.precision,
        "strategy": setup.params.finetuning.strategy,
        "serve": setup.params.export.serve,
    }


def _refuse_nonfinite(setup: TrainingSetup, outputs: Floats) -> None:
    state = setup.model.state_dict()
    broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken or not np.isfinite(outputs).all():
        raise TokkaError(
            f"{broken[0] if broken else 'an output'} holds NaN or infinity: training diverged",
            f"lower finetuning.learning_rate (now {setup.params.finetuning.learning_rate})",
        )
