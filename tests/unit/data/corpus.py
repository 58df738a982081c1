"""Small made-up corpora and their params."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tokka.data.rows import Row
from tokka.params import Params, parse_params
from tokka.sections import Task

ROOT = Path(__file__).parents[3]
SHARED = Path(os.environ.get("TOKKA_SHARED_DATA", ROOT / "../shared/data")).resolve()
CLASSES = Task()
NUMBERS = Task(type="regression", target="score")
WORDS = ("red", "blue", "tall", "quick", "calm", "odd", "warm", "late", "plain", "new", "small", "grand")

# For hypothesis: words that are not empty once they are normalised, and rows of them.
words = st.text(alphabet="abcdeéAB .!?\u200b\n", min_size=1, max_size=12).filter(lambda text: text.strip(" \u200b\n"))
row = st.builds(lambda text, target: Row(text, target=target), words, st.sampled_from(["a", "b", "c"]))
rows_of = st.lists(row, min_size=1, max_size=40)

Write = Callable[[str, str | bytes], Path]


def params_for(source: Path | str, **sections: Any) -> Params:
    """Params whose data.source is the given file."""
    data = {"source": str(source), **sections.pop("data", {})}
    return parse_params({"data": data, **sections})


def texts(count: int) -> list[str]:
    """So many different messages."""
    return [
        f"{WORDS[number % 12]} {WORDS[number // 12 % 12]} {WORDS[number // 144 % 12]} thing {number * 7919 % 100_003}"
        for number in range(count)
    ]


def csv_of(count: int, labels: tuple[str, ...] = ("pay", "ship", "login")) -> str:
    """A CSV of so many different messages, evenly labelled."""
    lines = [f"{text},{labels[number % len(labels)]}" for number, text in enumerate(texts(count))]
    return "text,label\n" + "\n".join(lines) + "\n"
