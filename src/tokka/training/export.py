"""Write the model folder: safetensors, tokenizer, configuration, ONNX float32 and int8, each checked against torch.

facts = export(job, outputs, out)       # files, differences, sizes; nothing is written when a form disagrees
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokka import files, progress
from tokka.errors import TokkaError
from tokka.model.engines import Floats, onnx_engine, rows_per_run, run_in_batches
from tokka.model.folder import CONFIG, FORM_FILES, Form, write_model_config
from tokka.model.network import FEATURE_SCALE
from tokka.model.tokenising import Encoded
from tokka.training.calibration import expected_calibration_error, fit_temperature
from tokka.training.onnx_forms import write_fp32, write_int8
from tokka.training.setup.job import Job

CHECK_BATCH = 64


def export(job: Job, outputs: Floats, out: Path) -> dict[str, float]:
    """Write the model folder whole or not at all, and return its differences, calibration and sizes as figures.

    Args:
        job: a trained model with its full vocabulary.
        outputs: (validation rows, labels or 1), what torch computes for them.
        out: the model folder; it is replaced.

    Raises:
        TokkaError: a weight or an output is not finite, or ONNX differs from torch by more than the limit.
    """
    _refuse_nonfinite(job, outputs)
    staging = out.with_name(f".{out.name}.making")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        facts = _fill(job, outputs, staging)
        shutil.rmtree(out, ignore_errors=True)
        files.publish_folder(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return facts


def _fill(job: Job, outputs: Floats, folder: Path) -> dict[str, float]:
    _write_torch_form(job, folder)
    by_form = {"torch": outputs, **_write_onnx_forms(job, folder)}
    facts = _compare(job, by_form)
    served = by_form[job.params.export.serve]
    temperature = 1.0
    if job.prepared.task == "classification":
        temperature = fit_temperature(served, job.validation.targets)
        facts["temperature"] = temperature
        facts["validation_ece_uncalibrated"] = expected_calibration_error(served, job.validation.targets)
        facts["validation_ece"] = expected_calibration_error(served, job.validation.targets, temperature)
    write_model_config(folder, _config(job, temperature))
    sizes = {f"size_mb_{form}": (folder / name).stat().st_size / 1e6 for form, name in _present(folder).items()}
    return {**facts, **sizes}


def _write_torch_form(job: Job, folder: Path) -> None:
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in job.model.state_dict().items()}
    files.write_bytes(folder / "model.safetensors", save(state))
    shutil.copyfile(job.base.path / "tokenizer.json", folder / "tokenizer.json")
    files.write_text(folder / "config.json", json.dumps(job.config, indent=2, sort_keys=True) + "\n")


def _write_onnx_forms(job: Job, folder: Path) -> dict[str, Floats]:
    """Write the forms that are asked for and run each over the validation rows."""
    found: dict[str, Floats] = {}
    if job.params.export.onnx:
        progress.report("finetune", "exporting ONNX", fraction=0.97)
        write_fp32(job.model, folder / FORM_FILES["fp32"], token_types=job.token_types)
        found["fp32"] = _run(job, folder, "fp32")
    if job.params.export.onnx and job.params.export.int8:
        network: Any = job.model.encoder.config
        write_int8(
            folder / FORM_FILES["fp32"], folder / FORM_FILES["int8"],
            heads=network.num_attention_heads, hidden=network.hidden_size,
        )  # fmt: skip
        found["int8"] = _run(job, folder, "int8")
    return found


def _run(job: Job, folder: Path, form: Form) -> Floats:
    rows = job.validation
    encoded = Encoded(ids=rows.ids, types=rows.types, unknown=np.zeros(len(rows.ids)))
    engine = onnx_engine((folder / FORM_FILES[form]).read_bytes(), torch.get_num_threads())
    batch = rows_per_run(form, CHECK_BATCH)
    return run_in_batches(engine, encoded, batch=batch, padding=_padding(job), token_types=job.token_types)[0]


def _compare(job: Job, by_form: dict[str, Floats]) -> dict[str, float]:
    """Differences to torch, in logits or, for regression, in standard deviations of the target.

    Raises:
        TokkaError: the float32 form differs by more than `export.maximum_difference`.
    """
    facts: dict[str, float] = {}
    unit, limit = job.model.head.scale.item(), job.params.export.maximum_difference
    for form in ("fp32", "int8"):
        if form in by_form:
            gaps = np.abs(by_form[form] - by_form["torch"]) / unit
            facts[f"onnx_{form}_maximum_difference"] = float(gaps.max())
            facts[f"onnx_{form}_mean_difference"] = float(gaps.mean())
            facts |= _disagreement(job, form, by_form)
    found = facts.get("onnx_fp32_maximum_difference", 0.0)
    if not found <= limit:
        raise TokkaError(
            f"ONNX differs from torch by {found:.2g}, export.maximum_difference allows {limit:g}",
            "export.onnx: false with serve: torch goes without ONNX",
        )
    progress.report("finetune", _sentence(facts), fraction=0.99)
    return facts


def _disagreement(job: Job, form: str, by_form: dict[str, Floats]) -> dict[str, float]:
    if job.prepared.task == "regression":
        return {}
    chosen, wanted = by_form[form].argmax(axis=1), by_form["torch"].argmax(axis=1)
    return {
        f"onnx_{form}_disagreement": float((chosen != wanted).mean()),
        f"onnx_{form}_validation_accuracy": float((chosen == job.validation.targets).mean()),
    }


def _sentence(facts: dict[str, float]) -> str:
    parts = [f"ONNX to torch: at most {facts.get('onnx_fp32_maximum_difference', 0.0):.1e}"]
    if "onnx_int8_disagreement" in facts:
        parts.append(f"int8 chooses another label for {facts['onnx_int8_disagreement']:.2%} of validation rows")
    return ", ".join(parts)


def _config(job: Job, temperature: float) -> dict[str, Any]:
    return {
        "task": job.prepared.task,
        "labels": job.prepared.labels,
        "text_pair": job.params.task.text_pair is not None,
        "max_tokens": job.max_tokens,
        "pooling": job.params.model.pooling,
        "feature_scale": FEATURE_SCALE,
        "temperature": temperature,
        "token_types": job.token_types,
        "padding": _padding(job),
        "base": {"name": job.base.name, "digest": job.base.digest},
        "data_digest": job.prepared.digest,
        "serve": job.params.export.serve,
    }


def _padding(job: Job) -> int:
    return int(job.config.get("pad_token_id") or 0)


def _present(folder: Path) -> dict[str, str]:
    return {form: name for form, name in FORM_FILES.items() if (folder / name).is_file() and name != CONFIG}


def _refuse_nonfinite(job: Job, outputs: Floats) -> None:
    broken = [
        name
        for name, value in job.model.state_dict().items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken or not np.isfinite(outputs).all():
        raise TokkaError(
            f"{broken[0] if broken else 'an output'} holds NaN or infinity: training diverged",
            f"lower finetuning.learning_rate (now {job.params.finetuning.learning_rate})",
        )
