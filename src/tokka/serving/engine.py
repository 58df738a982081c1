"""The model of one worker: verified, loaded once, warmed up, and asked in batches.

engine = Engine.load(folder, digest="…", form="int8")
engine.predict(engine.prepare([Row("where is my card?")]))      # [Result(label="card_arrival", score=0.97, …)]
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tokka.errors import Refused, TokkaError
from tokka.model.folder import Form
from tokka.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tokka.model.predictor import Predictor
    from tokka.model.tokenising import Encoded

# More of them take milliseconds to be made tokens: longer than others who ask should wait for one request's sake.
LETTERS_AT_ONCE = 4_000
_WARM_UP_TEXTS = ("a", "where is my card?", "I was charged twice for the same order last week, " * 4)


@dataclass(frozen=True, slots=True)
class Row:
    """One input: a text, its partner when the task compares pairs, and how many classes are wanted beside the best.

    `level`: of the prediction set that is wanted, as `Engine.limits` names it; empty for none.
    """

    text: str
    pair: str | None = None
    top_k: int = 0
    level: str = ""


class Prepared(NamedTuple):
    """A row and its tokens; None when those are still to be made."""

    row: Row
    tokens: "Encoded | None" = None


@dataclass(frozen=True, slots=True)
class Result:
    """One answer; `value` is set for regression, `label` and `score` for classification.

    `length` is in tokens, `unknown` the share of tokens that the vocabulary lacks. `top` holds the most probable
    classes with their probabilities, best first, as many as the row wanted; `members` the classes of its set.
    """

    label: str
    score: float | None
    value: float | None
    length: int
    unknown: float
    top: tuple[tuple[str, float], ...] = ()
    members: tuple[str, ...] = ()


class Engine:
    """A loaded predictor with the shape that serving needs."""

    def __init__(self, predictor: "Predictor", *, digest: str, pairs: bool) -> None:
        self._predictor = predictor
        self.digest = digest
        self.pairs = pairs
        self.task: str = predictor.task
        self.form: str = predictor.form
        self.labels: tuple[str, ...] = tuple(predictor.labels)
        self.limits: dict[str, float] = dict(predictor.config.conformal)

    @classmethod
    def load(
        cls, folder: Path, *, digest: str = "", form: Form | None = None, settings: Settings | None = None
    ) -> "Engine":
        """Verify a model folder and load it, on one thread.

        An empty digest accepts what is there; without settings, which say where the signer's key is, the signature is
        skipped (a folder that was just made). Raises TokkaError for a folder that is damaged or missing, Refused for
        one that is not what was promised, or not signed.
        """
        from tokka.registry import signing

        digests = signing.verify(folder, settings) if settings is not None else None
        from tokka.model.predictor import load_predictor

        predictor = load_predictor(folder, form=form, threads=1, digests=digests)
        if digest and predictor.digest != digest:
            raise Refused(
                f"{folder} holds the model {predictor.digest[:12]}, the deployment record says {digest[:12]}",
                "remove the folder: it is fetched again from the registry",
            )
        return cls(predictor, digest=predictor.digest, pairs=predictor.config.text_pair)

    def prepare(self, rows: Sequence[Row]) -> list[Prepared]:
        """Do what need not wait for the model's thread, while that one works: tokens, where it takes no time."""
        texts, pairs = self._columns(rows)
        if sum(map(len, texts)) + sum(map(len, pairs or ())) > LETTERS_AT_ONCE:
            return [Prepared(row) for row in rows]
        return list(map(Prepared, rows, self._predictor.encode(texts, pairs).by_row()))

    def predict(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Answer some rows, in order."""
        rows = [one.row for one in prepared]
        found = self._predictor.predict_encoded(self._tokens(prepared), batch=len(rows))
        lengths, unknown = found.lengths.tolist(), found.unknown.tolist()
        if self.task == "regression":
            values = found.values.tolist()
            return [Result("", None, *row) for row in zip(values, lengths, unknown, strict=True)]
        tops = [self._top(row.top_k, scores) for row, scores in zip(rows, found.scores, strict=True)]
        sets = [self._set(row.level, scores) for row, scores in zip(rows, found.scores, strict=True)]
        scores = found.confidence.tolist()
        return [
            Result(label, score, None, *rest)
            for label, score, *rest in zip(found.labels, scores, lengths, unknown, tops, sets, strict=True)
        ]

    def _tokens(self, prepared: Sequence[Prepared]) -> "Encoded":
        from tokka.model.tokenising import Encoded

        return Encoded.join([one.tokens or self._predictor.encode(*self._columns([one.row])) for one in prepared])

    def _top(self, wanted: int, scores: "NDArray[np.float32]") -> tuple[tuple[str, float], ...]:
        if not wanted:
            return ()
        # Of equal ones the first comes first, as in the choice of the label.
        best = (-scores).argsort(kind="stable")[:wanted]
        return tuple((self.labels[index], float(scores[index])) for index in best)

    def _set(self, level: str, scores: "NDArray[np.float32]") -> tuple[str, ...]:
        """Every class whose probability reaches the level's limit, the most probable first; never none."""
        if not level:
            return ()
        best = (-scores).argsort(kind="stable")
        count = max(1, int((scores >= self.limits[level]).sum()))
        return tuple(self.labels[index] for index in best[:count])

    def rows_per_run(self, batch: int) -> int:
        """How many of at most `batch` rows this form answers at once."""
        return self._predictor.rows_per_run(batch)

    def count_tokens(self, rows: Sequence[Row]) -> int:
        """Tokens of some rows, each cut to the model's longest."""
        return self._predictor.count_tokens(*self._columns(rows))

    def _columns(self, rows: Sequence[Row]) -> tuple[list[str], list[str] | None]:
        return [row.text for row in rows], [row.pair or "" for row in rows] if self.pairs else None

    def warm_up(self, batch: int) -> float:
        """Run the shapes that will come, and return seconds; raises TokkaError when no finite number comes."""
        began = time.perf_counter()
        rows = [Row(text, text if self.pairs else None) for text in _WARM_UP_TEXTS]
        for size in (1, len(rows), batch):
            results = self.predict(self.prepare((rows * size)[:size]))
        for result in results:
            number = result.value if self.task == "regression" else result.score
            if number is None or not math.isfinite(number):
                raise TokkaError(
                    f"the model {self.digest[:12]} answers {number}", "train it again: its weights are broken"
                )
        return time.perf_counter() - began
