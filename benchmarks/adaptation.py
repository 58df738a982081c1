"""When does practice on unlabelled domain text help, and when not: none, contrastive and mlm on the same rows.

    python -m benchmarks.adaptation                         # every table, about 15 minutes on 2 cores
    python -m benchmarks.adaptation --quick                 # small sizes, to see that it works
    python -m benchmarks.adaptation --tables few --seeds 7 --keep figures.jsonl     # a piece of it; pieces add up

| Table   | Labelled                             | Unlabelled                          | Test                          |
|---------|--------------------------------------|-------------------------------------|-------------------------------|
| few     | banking77, 10 rows per class         | the other training texts            | the official test             |
| domains | commits of two repositories          | half of the third one's             | the other half                |
| dates   | commits before a date                | half of those since then            | the other half                |
| many    | banking77, all training rows         | the same texts                      | the official test             |

Commits: the type (fix, chore, docs or feat) is predicted from the subject, bots left out. Data: the folders
banking77 and ops_commits under TOKKA_SHARED_DATA (default ../shared/data). Each training is the pipeline's own function
on rows that the pipeline's own preprocessing has made; CPU-s is the whole training, the practice included.
"""

import argparse
import csv
import json
import os
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokka.data.preparation.preprocessing import prepare
from tokka.data.rows import Row
from tokka.params import Params, parse_params
from tokka.training.finetuning import finetune

DATA = Path(os.environ.get("TOKKA_SHARED_DATA", "../shared/data"))
METHODS = ("none", "contrastive", "mlm")
TYPES = ("fix", "chore", "docs", "feat")
SERVED, SINCE = "argoproj/argo-rollouts", "2024-01-01"
COMMITS = 3000
TITLES = {
    "few": "Few labels: banking77, 10 rows per class",
    "domains": f"Another domain: trained on two repositories, serving {SERVED}",
    "dates": f"Another time: trained on commits before {SINCE}, serving those since",
    "many": "Many labels: banking77, every training row",
}
# Few rows need more passes; the same for every method.
EPOCHS = {"few": 12, "domains": 4, "dates": 4, "many": 4}

# Labelled rows, texts without labels, test rows.
Split = tuple[list[Row], list[str], list[Row]]


def banking(name: str) -> list[Row]:
    with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [Row(text=row["text"], target=row["category"]) for row in csv.DictReader(file)]


def few(draw: random.Random) -> Split:
    by_class = defaultdict(list)
    for row in banking("train"):
        by_class[row.target].append(row)
    labelled = [row for _, rows in sorted(by_class.items()) for row in draw.sample(rows, min(10, len(rows)))]
    chosen = set(labelled)
    return labelled, [row.text for rows in by_class.values() for row in rows if row not in chosen], banking("test")


def many(draw: random.Random) -> Split:
    return banking("train"), [], banking("test")


def commits() -> list[dict[str, str]]:
    with (DATA / "ops_commits" / "commits.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["type"] in TYPES and row["bot"] == "0"]


def domains(draw: random.Random) -> Split:
    return _across(draw, lambda row: row["repo"] == SERVED)


def dates(draw: random.Random) -> Split:
    return _across(draw, lambda row: row["date"] >= SINCE)


def _across(draw: random.Random, is_new: Callable[[dict[str, str]], bool]) -> Split:
    """Labelled rows of the known side; of the new one half of the texts without labels, half to be judged on."""
    rows = commits()
    draw.shuffle(rows)
    known, new = [row for row in rows if not is_new(row)], [row for row in rows if is_new(row)][: 2 * COMMITS]
    half = len(new) // 2
    labelled = [Row(text=row["text"], target=row["type"]) for row in known[:COMMITS]]
    return (
        labelled,
        [row["text"] for row in new[:half]],
        [Row(text=row["text"], target=row["type"]) for row in new[half:]],
    )


TABLES: dict[str, Callable[[random.Random], Split]] = {"few": few, "domains": domains, "dates": dates, "many": many}


def make_params(table: str, method: str, seed: int, source: Path, overrides: dict[str, Any]) -> Params:
    """The defaults of the package, without the ONNX forms: the weights are what is compared."""
    return parse_params(
        {
            "data": {"test": "official"},
            "adaptation": {"method": method, "source": str(source), **overrides},
            "finetuning": {"seed": seed, "epochs": EPOCHS[table], "early_stopping": {"patience": 99}},
            "export": {"onnx": False, "int8": False, "serve": "torch"},
        }
    )


def measure(table: str, method: str, seed: int, quick: bool, overrides: dict[str, Any]) -> dict[str, Any]:
    """Prepare, train and answer the test rows; flat figures."""
    from sklearn.metrics import f1_score

    from tokka.data.preparation.prepared import load
    from tokka.model.predictor import load_predictor

    labelled, unlabelled, test = TABLES[table](random.Random(seed))
    if quick:
        unlabelled, test = unlabelled[:200], test[:300]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = place / "unlabelled.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in unlabelled), encoding="utf-8")
        params = make_params(table, method, seed, source, overrides)
        if not unlabelled:
            params = params.model_copy(update={"adaptation": params.adaptation.model_copy(update={"source": None})})
        prepare(labelled, test, params, place / "prepared")
        found = finetune(place / "prepared", params, place / "model", place / "work")
        rows = load(place / "prepared")
        targets = rows.test.column("target").to_pylist()
        answers = load_predictor(place / "model", threads=2).predict(rows.test.column("text").to_pylist()).labels
    metrics = found["metrics"]
    right = sum(answer == target for answer, target in zip(answers, targets, strict=True))
    return {
        "table": table,
        "method": method,
        "seed": seed,
        "labelled": rows.train.num_rows + rows.validation.num_rows,
        "texts": int(metrics.get("adaptation_texts", 0)),
        "test": len(targets),
        "accuracy": right / len(targets),
        "f1_macro": float(f1_score(targets, answers, average="macro")),
        "cpu_s": metrics["training_cpu_seconds"],
        "practice_cpu_s": metrics.get("adaptation_cpu_seconds", 0.0),
        "loss_first": metrics.get("adaptation_loss_first", 0.0),
        "loss_last": metrics.get("adaptation_loss_last", 0.0),
    }


def show(results: Sequence[dict[str, Any]]) -> None:
    """A Markdown table per scenario: means over the seeds, and what the practice gains in points on each seed."""
    for table, title in TITLES.items():
        here = [one for one in results if one["table"] == table]
        if not here:
            continue
        print(f"\n## {title}\n")
        first = here[0]
        print(f"{first['labelled']:,} labelled rows (validation included), {first['test']:,} test rows.\n")
        print(
            "| method | unlabelled texts | accuracy | macro F1 | points over none, by seed | CPU-s | of it practice |"
        )
        print("|---|---|---|---|---|---|---|")
        plain = {one["seed"]: one["accuracy"] for one in here if one["method"] == "none"}
        for method in METHODS:
            of = [one for one in here if one["method"] == method]
            if of:
                print(_line(method, of, plain))
        print(f"\n{verdict(here)}")


def _line(method: str, of: Sequence[dict[str, Any]], plain: dict[int, float]) -> str:
    mean = {
        name: statistics.mean(one[name] for one in of) for name in ("accuracy", "f1_macro", "cpu_s", "practice_cpu_s")
    }
    gains = [f"{100 * (one['accuracy'] - plain[one['seed']]):+.2f}" for one in of if one["seed"] in plain]
    told = "" if method == "none" else ", ".join(gains)
    figures = (
        f"{mean['accuracy']:.4f} | {mean['f1_macro']:.4f} | {told} | {mean['cpu_s']:.0f} | {mean['practice_cpu_s']:.0f}"
    )
    return f"| {method} | {of[0]['texts']:,} | {figures} |"


def verdict(here: Sequence[dict[str, Any]]) -> str:
    """One sentence: which method gains on every seed, and by more than the standard error of the test accuracy."""
    plain = {one["seed"]: one for one in here if one["method"] == "none"}
    said = []
    for method in METHODS[1:]:
        pairs = [(one, plain[one["seed"]]) for one in here if one["method"] == method and one["seed"] in plain]
        if not pairs:
            continue
        gains = [one["accuracy"] - other["accuracy"] for one, other in pairs]
        error = (pairs[0][1]["accuracy"] * (1 - pairs[0][1]["accuracy"]) / pairs[0][1]["test"]) ** 0.5
        dearer = statistics.mean(one["cpu_s"] / other["cpu_s"] for one, other in pairs)
        sure = "helps" if min(gains) > error else "hurts" if max(gains) < -error else "makes no sure difference"
        said.append(f"{method} {sure} ({100 * statistics.mean(gains):+.2f} points, {dearer:.1f} x the CPU seconds)")
    seeds = len(plain)
    return f"Over {seeds} seed{'s' if seeds != 1 else ''}: {'; '.join(said)}." if said else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["few", "domains", "dates"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[7, 8])
    parser.add_argument("--quick", action="store_true", help="few texts, one seed")
    parser.add_argument("--keep", type=Path, help="JSON lines with the figures: read first, and added to")
    parser.add_argument("--set", nargs="*", default=[], help="of the adaptation section, such as learning_rate=1e-5")
    given = parser.parse_args()
    overrides = {name: json.loads(value) for name, _, value in (one.partition("=") for one in given.set)}
    kept = (
        [json.loads(line) for line in given.keep.read_text().splitlines()] if given.keep and given.keep.exists() else []
    )
    done = {(one["table"], one["method"], one["seed"]) for one in kept}
    for seed in given.seeds[: 1 if given.quick else None]:
        for table in given.tables:
            for method in given.methods:
                if (table, method, seed) in done:
                    continue
                found = measure(table, method, seed, given.quick, overrides)
                print(f"{table} {method} seed {seed}: accuracy {found['accuracy']:.4f}", file=sys.stderr, flush=True)
                kept.append(found)
                if given.keep:
                    with given.keep.open("a") as file:
                        file.write(json.dumps(found) + "\n")
    show(kept)


if __name__ == "__main__":
    main()
