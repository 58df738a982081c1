"""The seam between a rollout and what serves: a laptop's processes or an InferenceService."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel

from tokka.deployment.record.state import State


class Observed(BaseModel, frozen=True):
    """What really serves now, as seen from outside; never what was asked for.

    problems: why a revision is not ready, by its digest or version, where that is known.
    """

    generation: int = -1
    champion: str | None = None
    challenger: str | None = None
    share: float = 0.0
    ready: tuple[str, ...] = ()
    problems: dict[str, str] = {}


class Answer(BaseModel, frozen=True):
    """One prediction of one revision; `error` is empty when it succeeded. Latency in milliseconds."""

    label: str = ""
    value: float | None = None
    score: float | None = None
    latency_ms: float = 0.0
    error: str = ""


# One row to predict: its `text`, and where there is one its `text_pair`.
Question = Mapping[str, str]


class Target(Protocol):
    """Where revisions run. Every method may be called again at any time with the same effect."""

    def apply(self, state: State) -> None:
        """Bring processes and traffic split one step closer to the record."""

    def observe(self) -> Observed:
        """Say what serves now. Raises TokkaError when nothing answers."""

    def infer(self, digest: str, rows: Sequence[Question]) -> list[Answer]:
        """Ask one revision directly, off the live path."""
