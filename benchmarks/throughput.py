"""What Lightning costs over a bare loop, and how fast training is beside the Hugging Face Trainer, in one run.

    python benchmarks/throughput.py                    # 5 rounds of one epoch over 2,000 rows of BANKING77
    python benchmarks/throughput.py --rounds 3 --rows 1000

All take turns in one process, on the same rows, threads and precision. The bare loop does what the pipeline does (the
same batches, steps, validation and checkpoint) without Lightning. Figures are medians over the rounds; a ratio is the
median of the rounds' own ratios, so that a busy minute is busy for both sides.
"""

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

from finetuning import load, prepare
from finetuning_peers import trainer

HF_BATCHES = (8, 32, 64)


def lightning(prepared: Any, params: Any, base: Any, work: Path) -> Callable[[], None]:
    """The pipeline's own training, from a fresh model."""
    from tokka.training.fit.fit import fit
    from tokka.training.setup.training_setup import prepare_training

    setup = prepare_training(prepared, params, base)
    return lambda: void(fit(setup, work, time.monotonic()))


def torch_dropout(prepared: Any, params: Any, base: Any, work: Path) -> Callable[[], None]:
    """The pipeline's own training with the masks that torch draws."""
    from unittest.mock import patch

    from tokka.training.setup import augmentation

    run = lightning(prepared, params, base, work)
    return patch.object(augmentation, "QuickDropout", contextlib.nullcontext)(run)


def bare(prepared: Any, params: Any, base: Any, work: Path) -> Callable[[], None]:
    """The same steps, validation and checkpoint in a loop of torch."""
    import torch

    from tokka.training.setup.augmentation import drop_words, training_dropout
    from tokka.training.setup.datamodule import inputs_of
    from tokka.training.setup.optimisation import Schedule, make_optimizer
    from tokka.training.setup.training_setup import prepare_training

    setup = prepare_training(prepared, params, base)
    model, data, tuning = setup.model, setup.data, params.finetuning
    half = setup.precision == "bf16"

    def step(batch: Any, optimizer: Any, factor: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        mask = drop_words(batch["attention_mask"], tuning.augmentation.word_dropout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half), training_dropout():
            outputs, _ = model(**inputs_of({**batch, "attention_mask": mask}))
            loss = torch.nn.functional.cross_entropy(outputs, batch["target"], label_smoothing=tuning.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), tuning.gradient_clip)
        optimizer.step()

    def run() -> None:
        optimizer = make_optimizer(model, tuning)
        schedule = Schedule.linear(len(data.batches(0)), tuning.warmup_share)
        model.train()
        for number, rows in enumerate(data.batches(0)):
            step(data.collate(data.train, rows), optimizer, schedule.factor(number + 1))
        model.eval()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            for batch in data.val_dataloader():
                model(**inputs_of(batch))
        with (work / "bare.ckpt").open("wb") as file:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            os.fsync(file.fileno())

    return run


def hugging_face(batch: int) -> Callable[[Any, Any, Any, Path], Callable[[], None]]:
    """One epoch of the Hugging Face Trainer."""

    def make(prepared: Any, params: Any, base: Any, work: Path) -> Callable[[], None]:
        bf16 = params.finetuning.precision == "bf16"
        runner = trainer(prepared, base.path, work, batch=batch, seed=7, bf16=bf16, epochs=1)
        return lambda: void(runner.train())

    return make


def void(_: object) -> None:
    """Drop a result."""


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor seconds of a call, its chatter swallowed."""
    began, cpu_began = time.monotonic(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        run()
    return time.monotonic() - began, time.process_time() - cpu_began


def small(prepared: Any, rows: int) -> Any:
    """The first training rows, with at least one of every class, and a few validation rows."""
    import numpy as np

    _, firsts = np.unique(np.asarray(prepared.train.column("target").to_pylist()), return_index=True)
    others = np.setdiff1d(np.arange(prepared.train.num_rows), firsts)[: rows - len(firsts)]
    return replace(
        prepared, train=prepared.train.take([*firsts, *others]), validation=prepared.validation.slice(0, 100)
    )


def measure(prepared: Any, params: Any, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Each way's (wall, processor) seconds of every round; the first round warms up and is not counted."""
    from tokka.model.base import resolve_base
    from tokka.training.setup.training_setup import own_randomness_and_threads

    ways: dict[str, Any] = {
        "tokka (Lightning)": lightning, "tokka, torch's dropout": torch_dropout, "bare loop": bare,
    }  # fmt: skip
    ways |= {f"Hugging Face Trainer, batch {batch}": hugging_face(batch) for batch in HF_BATCHES}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as work, own_randomness_and_threads(params):
                run = ways[name](prepared, params, resolve_base(params.model, Path(work)), Path(work))
                found[name].append(timed(run))
    return {name: taken[1:] for name, taken in found.items()}


def show(found: dict[str, list[tuple[float, float]]], rows: int) -> None:
    """The table, and the two figures with a bar."""
    print("| way | texts/s | texts/CPU-s | wall, tokka : it | CPU-s, tokka : it |\n|---|---|---|---|---|")
    ours = found["tokka (Lightning)"]
    ratios: dict[str, tuple[float, float]] = {}
    for name, taken in found.items():
        wall, cpu = (statistics.median(part) for part in zip(*taken, strict=True))
        pairs = list(zip(ours, taken, strict=True))
        ratios[name] = tuple(statistics.median(our[place] / it[place] for our, it in pairs) for place in (0, 1))  # type: ignore[assignment]
        print(f"| {name} | {rows / wall:.0f} | {rows / cpu:.0f} | {ratios[name][0]:.3f} | {ratios[name][1]:.3f} |")
    over_wall, over_cpu = ratios["bare loop"]
    print(f"\nLightning over the bare loop: {over_wall - 1:+.1%} wall, {over_cpu - 1:+.1%} processor time (bar: 3 %)")
    for batch in HF_BATCHES:
        wall, cpu = ratios[f"Hugging Face Trainer, batch {batch}"]
        print(f"Throughput against the Trainer at batch {batch}: {1 / wall:.2f} x wall, {1 / cpu:.2f} x per CPU-second")


def main() -> None:
    """Prepare the data once, measure, and print."""
    shared = Path(os.environ.get("TOKKA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--source", type=Path, default=shared / "banking77", help="folder with train.csv and test.csv")
    parser.add_argument("--prepared", type=Path, help="a prepared folder, to skip that step")
    arguments = parser.parse_args()
    if not (arguments.source / "train.csv").is_file():
        print(f"{arguments.source}: no train.csv and test.csv of BANKING77 here: left out (set TOKKA_SHARED_DATA)")
        return
    with tempfile.TemporaryDirectory() as home:
        from tokka.data.preparation.prepared import load as load_prepared
        from tokka.training.setup.precision import has_fast_bf16

        source = arguments.source.resolve()
        data = load_prepared(arguments.prepared or prepare(Path(home), source))
        precision = "bf16" if has_fast_bf16() else "32"
        params = load(source, ("finetuning.epochs=1", f"finetuning.precision={precision}"))
        show(measure(small(data, arguments.rows), params, arguments.rounds), arguments.rows)


if __name__ == "__main__":
    main()
