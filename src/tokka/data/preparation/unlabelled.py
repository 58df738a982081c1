"""Texts without labels, to practise on before fine-tuning: the training split's own, and those of a further table.

No text whose normalised key stands in the test or validation split is among them: practising on the very texts that
measure a model makes it look better than it will be on new ones.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tokka import files, progress
from tokka.data import fetching, normalising, reading
from tokka.data.canonical import Unusable, to_text
from tokka.data.preparation.prepared import Prepared
from tokka.errors import TokkaError
from tokka.params import Params
from tokka.sections import Task
from tokka.settings import Settings


def unlabelled_file(params: Params, settings: Settings) -> Path | None:
    """The local file behind `adaptation.source`; None when nothing, or the training split alone, is practised on."""
    if params.adaptation.method == "none" or not params.adaptation.source:
        return None
    path = fetching.fetch(params.adaptation.source, params.data, settings)
    files.check_readable(path, field="adaptation.source")
    return path


def unlabelled_digest(params: Params, settings: Settings) -> str:
    """The sha256 of the file behind `adaptation.source`, or the empty string without one."""
    path = unlabelled_file(params, settings)
    return files.digest_file(path) if path else ""


def unlabelled_texts(prepared: Prepared, params: Params, path: Path | None) -> list[str]:
    """At most `adaptation.max_rows` different texts: of the training split, then of the table at `path`.

    More are drawn from by `finetuning.seed`, in their own order: tables are often sorted by class or time. Raises
    TokkaError for a table that holds no usable text, UsageError for one without the column `task.text`.
    """
    held_out = {normalising.key(text) for text in [*_split(prepared.test), *_split(prepared.validation)]}
    further = list(_read_texts(path, params)) if path else []
    if path and not further:
        raise TokkaError(f"{path}: no usable text in column {params.task.text!r}", "check adaptation.source")
    chosen: dict[str, str] = {}
    for text in [*_split(prepared.train), *further]:
        key = normalising.key(text)
        if key not in held_out:
            chosen.setdefault(key, text)
    texts = list(chosen.values())
    if len(texts) <= params.adaptation.max_rows:
        return texts
    generator = np.random.default_rng(params.finetuning.seed)
    drawn = np.sort(generator.choice(len(texts), params.adaptation.max_rows, replace=False))
    return [texts[index] for index in drawn]


def _read_texts(path: Path, params: Params) -> Iterator[str]:
    limits, left = params.data, 0
    # The reader requires the columns that a task names: here the text alone.
    alone = Task(text=params.task.text, target=params.task.text)
    _, found = reading.records(path, alone, limits)
    for number, record in enumerate(found, start=1):
        if number > limits.max_rows:
            raise TokkaError(f"{path}: more than data.max_rows = {limits.max_rows:,} rows", "use fewer rows")
        try:
            if record.cells is None:
                raise Unusable(record.reason)
            text = to_text(record.cells[alone.text], alone.text, limits)
        except Unusable:
            left += 1
            continue
        yield normalising.normalise(text) if params.preprocessing.normalise else text
    if left:
        progress.report("finetune", f"adaptation.source: {left:,} unusable texts are left out")


def _split(table: pa.Table) -> list[str]:
    """All texts of a split; of a pair both, each as a text of its own."""
    names = [name for name in ("text", "text_pair") if name in table.column_names]
    return [text for name in names for text in table.column(name).to_pylist() if text]
