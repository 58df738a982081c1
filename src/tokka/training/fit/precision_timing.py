"""`finetuning.precision: auto`: a few optimizer steps in bf16 and in float32 are timed once per training.

Without bf16 arithmetic it is float32. What was chosen is kept in the work folder, so that a resumed training goes on
with it, and in tokka.json, from where `tokka reproduce` takes it.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from tokka import files, progress
from tokka.training.fit.out_of_memory import OutOfMemory, translate_errors
from tokka.training.fit.trial_steps import TrialSteps, spread_batches
from tokka.training.setup.precision import PRECISIONS, Precision, choose_device
from tokka.training.setup.training_setup import TrainingSetup

KEPT = "precision.json"
# bf16 has to take less than this share of float32's time: less of a difference is noise on a shared machine.
FASTER = 0.9
BATCHES, PASSES = 3, 2
# A step may take so long, the search for the rows that it may have, and all passes: large models are timed on few rows.
STEP_SECONDS, GROWTH_SECONDS, PASSES_SECONDS = 0.5, 1.0, 3.0
Seconds = dict[Precision, float]


def resolve_precision(setup: TrainingSetup, work: Path) -> None:
    """Put bf16 or 32 in the place of `auto` in the setup's params: what was found before, or what is faster now."""
    if setup.params.finetuning.precision != "auto":
        return
    if not (work / KEPT).is_file():
        files.write_json(work / KEPT, _choose(setup))
    kept = files.read_json(work / KEPT)
    progress.report("finetune", kept["reason"])
    setup.adjust(precision=kept["precision"])


def faster(seconds: Seconds) -> Precision:
    """The precision to train in: bf16 where its steps are faster by more than the noise."""
    return "bf16" if seconds["bf16"] < FASTER * seconds["32"] else "32"


def time_steps(setup: TrainingSetup) -> Seconds:
    """Seconds of a mean optimizer step in each precision: of every batch the least over the passes.

    On a processor they are its own seconds, which say the same on a busy machine.
    """
    steps = TrialSteps(setup)
    rows = _affordable_rows(steps, setup.data.params.batch_size)
    began, batches = time.monotonic(), [batch[:rows] for batch in spread_batches(setup, BATCHES)]
    best = {(place, precision): math.inf for place in range(BATCHES) for precision in PRECISIONS}
    for number in range(PASSES):
        for place, precision in list(best)[:: -1 if number % 2 else 1]:
            best[place, precision] = min(best[place, precision], _seconds(steps, batches[place], precision))
        if time.monotonic() - began > PASSES_SECONDS:
            break
    return {one: sum(best[place, one] for place in range(BATCHES)) / BATCHES for one in PRECISIONS}


def _seconds(steps: TrialSteps, rows: Sequence[int], precision: Precision) -> float:
    clock = time.process_time if choose_device() == "cpu" else time.monotonic
    began = clock()
    steps.step(rows, precision)
    return clock() - began


def _affordable_rows(steps: TrialSteps, batch_size: int) -> int:
    """Rows with which no step takes longer than STEP_SECONDS; also the first steps, which compile kernels."""
    began, rows, order = time.monotonic(), min(4, batch_size), steps.data.train.lengths.argsort()
    middle = order[len(order) // 2 :].tolist()
    while True:
        slowest = max(_seconds(steps, middle[:rows], precision) for precision in PRECISIONS)
        late = time.monotonic() - began > GROWTH_SECONDS
        if rows == batch_size or slowest * 2 > STEP_SECONDS or late:
            return rows
        rows = min(rows * 2, batch_size)


def _choose(setup: TrainingSetup) -> dict[str, str]:
    try:
        with torch.random.fork_rng(), translate_errors(setup):
            seconds = time_steps(setup)
    except OutOfMemory:
        return {"precision": "bf16", "reason": "precision bf16: memory ran out while float32 was timed beside it"}
    chosen = faster(seconds)
    took = f"a step takes {seconds['bf16']:.3f} s in bf16 and {seconds['32']:.3f} s in float32"
    return {"precision": chosen, "reason": f"precision {chosen}: {took}"}
