"""Fine-tuning against its peers on BANKING77's official split: quality, processor seconds, memory, and their ratios.

    python benchmarks/finetuning.py                                  # ours, Hugging Face, SetFit, frozen
    python benchmarks/finetuning.py --methods strategies --seeds 7   # every strategy of params.yaml
    python benchmarks/finetuning.py --methods tokka hf32 --seeds 7 8 9

Every training runs in a process of its own, one after the other, seed by seed, on the same prepared rows and the same
number of threads, in bfloat16 where the processor has it. SetFit is left out when it is not installed
(`pip install setfit`). Data: the folder `banking77` under TOKKA_SHARED_DATA (default ../shared/data).
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

OURS: dict[str, tuple[str, ...]] = {
    "tokka": (),
    "tokka, time_budget 120s": ("finetuning.time_budget=120s",),
    "frozen": ("finetuning.strategy=frozen",),
    "partial, last 2 layers": ("finetuning.strategy=partial",),
    "lora": ("finetuning.strategy=lora", "finetuning.learning_rate=0.001", "finetuning.layer_decay=1.0"),
    "gradual": ("finetuning.strategy=gradual",),
    "cosine": ("finetuning.schedule=cosine",),
    "ema 0.995": ("finetuning.ema=0.995",),
    "class weights": ("finetuning.class_weights=balanced",),
    "accumulate 2 x 32": ("finetuning.accumulate=2", "finetuning.batch_size=32"),
    "no head warm start": ("finetuning.head_warm_start=false",),
    "no label smoothing": ("finetuning.label_smoothing=0.0",),
    "no layer decay": ("finetuning.layer_decay=1.0",),
    "no warm-up": ("finetuning.warmup_share=0.0",),
    "no clipping": ("finetuning.gradient_clip=1000000",),
    "12 epochs, stopped early": ("finetuning.epochs=12", "finetuning.early_stopping.patience=1"),
    "float32": ("finetuning.precision=32",),
    "learning rate found": ("finetuning.learning_rate=auto",),
    "word dropout 0.1": ("finetuning.augmentation.word_dropout=0.1",),
    "typos 0.2": ("finetuning.augmentation.typos=0.2",),
    "case 0.3": ("finetuning.augmentation.case=0.3",),
    "mix-up 0.3": ("finetuning.augmentation.mixup=0.3",),
}
NAMES = {
    "hf32": "Hugging Face Trainer, batch 32",
    "hf8": "Hugging Face Trainer, its own batch 8",
    "setfit": "SetFit",
    "frozen_lr": "frozen encoder + logistic regression",
}
PEER_SET = ("tokka", "hf32", "hf8", "setfit", "frozen_lr")
COLUMNS = ("method", "accuracy", "macro F1", "ECE", "CPU-s", "wall s", "texts/s", "texts/CPU-s", "peak MB")
RATIOS = ("method", "accuracy, points more", "CPU-s", "wall", "texts/CPU-s", "peak memory")


def prepare(home: Path, source: Path) -> Path:
    """Validate and preprocess by the pipeline's own steps; return the prepared folder."""
    from tokka.settings import Settings
    from tokka.steps import preprocess, validate_data

    os.environ["TOKKA_HOME"] = str(home)
    settings, params = Settings.from_environment(), load(source, ())
    validate_data.run(params, settings, home / "valid")
    preprocess.run(params, settings, home / "valid", home / "prepared")
    return home / "prepared"


def load(source: Path, overrides: tuple[str, ...]) -> Any:
    """params.yaml of the repo, on the official files."""
    from tokka.params import load_params

    place = [f"data.source={source / 'train.csv'}", f"data.test={source / 'test.csv'}"]
    columns = ["task.text=text", "task.target=category", "task.time=null", "task.slices=[]"]
    return load_params(ROOT / "params.yaml", [*place, *columns, *overrides])


def ours(prepared: Path, params: Any, work: Path) -> Any:
    """Train and export as the pipeline does, and answer the test rows in the form that is served."""
    import numpy as np
    from finetuning_peers import Clock, texts_and_targets

    from tokka.data.preparation.prepared import load as load_prepared
    from tokka.model.base import resolve_base
    from tokka.model.predictor import load_predictor
    from tokka.training.export import export
    from tokka.training.setup.training_setup import own_randomness_and_threads, prepare_training
    from tokka.training.train import train

    data, base = load_prepared(prepared), resolve_base(params.model, work)
    with own_randomness_and_threads(params):
        setup = prepare_training(data, params, base)
        with Clock() as clock:
            trained = train(setup, work)
        facts = export(setup, trained.outputs, work / "model")
    texts, targets = texts_and_targets(data, "test")
    served = load_predictor(work / "model").predict(texts, None).scores
    plain = load_predictor(work / "model", form="fp32").predict(texts, None).scores
    seen = int(trained.facts["epochs"] * trained.facts["train_rows"])
    notes = {"fp32_accuracy": float((np.asarray(plain).argmax(axis=1) == targets).mean()), **facts}
    return clock.result(np.asarray(served), seen or data.train.num_rows, **notes)


def one(method: str, seed: int, prepared: Path, source: Path, texts: int, threads: int) -> dict[str, Any]:
    """One training in this process, and its figures on the test rows."""
    import numpy as np
    import torch
    from finetuning_peers import PEERS, texts_and_targets

    from tokka.data.preparation.prepared import load as load_prepared
    from tokka.evaluation.metrics.metrics import classification
    from tokka.model.base import resolve_base
    from tokka.training.setup.precision import has_fast_bf16

    torch.set_num_threads(threads)
    overrides = (f"finetuning.seed={seed}", f"finetuning.threads={threads}")
    params = load(source, (*overrides, *OURS.get(method, ())))
    with tempfile.TemporaryDirectory() as work:
        if method in OURS:
            result = ours(prepared, params, Path(work))
        else:
            base = resolve_base(params.model, Path(work)).path
            data, options = load_prepared(prepared), {"seed": seed, "bf16": has_fast_bf16(), "texts": texts}
            result = PEERS[NAMES[method]](data, base, Path(work), **options)
    targets = texts_and_targets(load_prepared(prepared), "test")[1]
    quality = classification(targets, np.asarray(result.scores, np.float64))
    kept = {name: quality[name] for name in ("accuracy", "f1_macro", "ece")}
    return {"method": NAMES.get(method, method), "seed": seed, **kept, **result.figures()}


def launch(method: str, seed: int, prepared: Path, arguments: argparse.Namespace, texts: int) -> dict[str, Any] | None:
    """`one` in a process of its own; None, and a line, when it failed."""
    command = [sys.executable, __file__, "--one", method, "--seeds", str(seed), "--prepared", str(prepared)]
    command += ["--source", str(arguments.source), "--texts", str(texts), "--threads", str(arguments.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{method} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    fp32 = f", as fp32 {found['notes']['fp32_accuracy']:.4f}" if "fp32_accuracy" in found["notes"] else ""
    print(
        f"{found['method']} (seed {seed}): accuracy {found['accuracy']:.4f}{fp32}, "
        f"{found['cpu_seconds']:.0f} CPU-s, {found['seconds']:.0f} s",
        flush=True,
    )
    return found


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median over the seeds of one method's figures."""
    names = ("accuracy", "f1_macro", "ece", "cpu_seconds", "seconds", "seen", "memory_mb")
    return {"method": runs[0]["method"], **{name: statistics.median(run[name] for run in runs) for name in names}}


def show(rows: list[dict[str, Any]]) -> None:
    """Both tables, as Markdown."""
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        speed, thrift = row["seen"] / row["seconds"], row["seen"] / row["cpu_seconds"]
        print(
            f"| {row['method']} | {row['accuracy']:.4f} | {row['f1_macro']:.4f} | {row['ece']:.3f} "
            f"| {row['cpu_seconds']:.0f} | {row['seconds']:.0f} | {speed:.0f} | {thrift:.0f} | {row['memory_mb']:.0f} |"
        )
    first = rows[0]
    print(f"\n{first['method']} against:\n\n| {' | '.join(RATIOS)} |\n|{'---|' * len(RATIOS)}")
    for row in rows[1:]:
        thrift = (first["seen"] / first["cpu_seconds"]) / (row["seen"] / row["cpu_seconds"])
        print(
            f"| {row['method']} | {100 * (first['accuracy'] - row['accuracy']):+.2f} "
            f"| {first['cpu_seconds'] / row['cpu_seconds']:.2f} x | {first['seconds'] / row['seconds']:.2f} x "
            f"| {thrift:.2f} x | {first['memory_mb'] / row['memory_mb']:.2f} x |"
        )


def parse() -> argparse.Namespace:
    """The command line."""
    shared = Path(os.environ.get("TOKKA_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["peers"], help=f"peers, strategies, or of {[*OURS, *NAMES]}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[7])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--source", type=Path, default=shared / "banking77", help="folder with train.csv and test.csv")
    parser.add_argument("--prepared", type=Path, help="a prepared folder, to skip that step")
    parser.add_argument("--texts", type=int, default=36_000, help="texts that SetFit's pairs are made of")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(names: list[str]) -> list[str]:
    """The methods that are meant, ours first."""
    groups = {"peers": PEER_SET, "strategies": tuple(name for name in OURS if "budget" not in name)}
    found = [method for name in names for method in groups.get(name, (name,))]
    if importlib.util.find_spec("setfit") is None and "setfit" in found:
        print("SetFit is not installed: left out (pip install setfit)")
        found.remove("setfit")
    return found


def main() -> None:
    """Run the methods and print both tables."""
    arguments = parse()
    sys.path.insert(0, str(Path(__file__).parent))
    if arguments.one:
        places = (arguments.prepared, arguments.source, arguments.texts, arguments.threads)
        print(json.dumps(one(arguments.one, arguments.seeds[0], *places)))
        return
    if not (arguments.source / "train.csv").is_file():
        print(f"{arguments.source}: no train.csv and test.csv of BANKING77 here: left out (set TOKKA_SHARED_DATA)")
        return
    with tempfile.TemporaryDirectory() as home:
        prepared = arguments.prepared or prepare(Path(home), arguments.source.resolve())
        runs: dict[str, list[dict[str, Any]]] = {}
        for seed in arguments.seeds:
            for method in chosen(arguments.methods):
                texts = next((run["seen"] for run in runs.get("tokka", [])), arguments.texts)
                if found := launch(method, seed, prepared, arguments, texts):
                    runs.setdefault(method, []).append(found)
    if runs:
        print(f"\nMedians over the seeds {', '.join(map(str, arguments.seeds))}; {arguments.threads} threads.")
        show([medians(found) for found in runs.values()])


if __name__ == "__main__":
    main()
