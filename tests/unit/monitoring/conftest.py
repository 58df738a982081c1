"""Simulated traffic: predictions of a model with many classes, their texts, and what can happen to them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokka.monitoring.drift.columns import Columns
from tokka.monitoring.drift.windows import Window
from tokka.request_log.framing import frame
from tokka.settings import Settings

CLASSES = 77
WORDS = [f"word{letter}{other}" for letter in "abcdefghijklmnopqrst" for other in "abcdefghijklmnopqrst"]
NEW_WORDS = ["solar", "panel", "inverter", "feed", "tariff"]


class Traffic:
    """Draws logged predictions; every draw continues one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.count = 0

    def rows(
        self, number: int, *, unsure: float = 0.0, new_words: float = 0.0, prior: float = 0.0, unreadable: float = 0.0
    ) -> list[dict[str, Any]]:
        return [
            self._row(
                unsure=self.random.random() < unsure,
                fresh=self.random.random() < new_words,
                shifted=self.random.random() < prior,
                unreadable=self.random.random() < unreadable,
            )
            for _ in range(number)
        ]

    def window(self, number: int, **changes: float) -> Window:
        return Window(1, tuple(self.rows(number, **changes)))

    def reference(self, number: int) -> Columns:
        rows = self.rows(number)
        return Columns(
            {
                "confidence": np.array([row["score"] for row in rows]),
                "length": np.array([row["length"] for row in rows], dtype=float),
                "unknown": np.array([row["unknown"] for row in rows]),
            },
            tuple(row["label"] for row in rows),
            tuple(row["text"] for row in rows),
        )

    def _row(self, *, unsure: bool, fresh: bool, shifted: bool, unreadable: bool) -> dict[str, Any]:
        self.count += 1
        length = int(self.random.integers(4, 14))
        chosen = self.random.zipf(1.5, length) % len(WORDS)
        words = [WORDS[index] for index in chosen]
        if fresh:
            words[: len(words) // 2] = self.random.choice(NEW_WORDS, len(words) // 2).tolist()
        return {
            "kind": "prediction",
            "prediction_id": f"p{self.count}",
            "time": 1_000_000.0 + self.count,
            "version": "1",
            "label": f"c{0 if shifted else self.random.zipf(1.3) % CLASSES}",
            "score": float(self.random.beta(3, 3) if unsure else self.random.beta(9, 1)),
            "length": length + 2,
            "unknown": 0.9 if unreadable else 0.0,
            "text": " ".join(words),
            "replayed": False,
        }


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(7)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)})


@pytest.fixture
def log(settings: Settings) -> Callable[[list[dict[str, Any]]], None]:
    """Append records to the request log as a worker does."""

    def append(records: list[dict[str, Any]]) -> None:
        folder = settings.home / "requests"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "19700112-test-1.v1.jsonl").open("ab") as file:
            file.writelines(frame(record) for record in records)

    return append


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """reference.parquet as evaluate writes it."""
    columns = Traffic(1).reference(600)
    path = tmp_path / "reference.parquet"
    table = {"prediction": list(columns.classes), "label": list(columns.classes), "text": list(columns.texts)}
    known = pa.table({**table, **columns.numbers, "embedding": [[0.0, 1.0]] * 600})
    pq.write_table(known.replace_schema_metadata({"origin": "rows of data/test.csv"}), path)
    return path


def feedback(row: dict[str, Any], label: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "feedback",
        "prediction_id": row["prediction_id"],
        "time": row["time"] + 0.5,
        "label": label,
        **more,
    }
