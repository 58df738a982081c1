"""The behaviour file, typed and strict: which tests a model has to stand besides being right on average.

The three kinds are those of Ribeiro et al. (2020), "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tokka.errors import UsageError
from tokka.params import explain, read_yaml
from tokka.sections import Section, Share

Text = Annotated[str, Field(min_length=1, max_length=5000)]
Texts = Annotated[tuple[Text, ...], Field(max_length=500)]


class _Test(Section):
    """What every test has: a name for the report, and the share of its rows that has to pass."""

    name: Text
    minimum: Share = 0.9


class Invariance(_Test):
    """Test rows are changed in a way that must not change the answer; `where` keeps rows of these slice values."""

    kind: Literal["invariance"]
    change: Literal["typos", "upper", "lower", "punctuation", "substitute", "prefix", "suffix"]
    count: Annotated[int, Field(ge=1, le=10)] = 1
    words: Texts = ()
    text: str = ""
    where: dict[str, str] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.change == "substitute" and len(set(self.words)) < 2:
            raise ValueError("substitute needs `words`, two or more that may stand for each other")
        if self.change in ("prefix", "suffix") and not self.text.strip():
            raise ValueError(f"{self.change} needs `text`, what is added")
        return self


class Directional(_Test):
    """A phrase is added to given texts, or replaced in them, and must move the answer.

    Classification: the answer becomes `to`, or is no longer `away_from`. Regression: the value rises or falls.
    """

    kind: Literal["directional"]
    texts: Annotated[Texts, Field(min_length=1)]
    add: str = ""
    replace: dict[Text, str] = {}
    to: str | None = None
    away_from: str | None = None
    value: Literal["rises", "falls"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.add.strip() and not self.replace:
            raise ValueError("a directional test needs `add` or `replace`")
        if sum(wanted is not None for wanted in (self.to, self.away_from, self.value)) != 1:
            raise ValueError("a directional test needs exactly one of `to`, `away_from` and `value`")
        return self


class Case(Section):
    """A text and what has to come out: a label, or a value within bounds."""

    text: Text
    pair: str | None = None
    label: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        ranged = self.at_least is not None or self.at_most is not None
        if (self.label is None) != ranged:
            raise ValueError("a case needs either `label`, or `at_least` and `at_most` (one of them is enough)")
        return self


class Functionality(_Test):
    """Cases that no useful model may get wrong (CheckList calls them minimum functionality tests)."""

    kind: Literal["functionality"]
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=500)]


Test = Annotated[Invariance | Directional | Functionality, Field(discriminator="kind")]
KINDS: dict[str, type[_Test]] = {"invariance": Invariance, "directional": Directional, "functionality": Functionality}


class Behaviour(Section):
    """The whole file. `rows`: test rows that one invariance test changes at most.

    `tolerance`: what a value may change and still count as the same, in standard deviations of the targets.
    """

    rows: Annotated[int, Field(ge=1, le=2000)] = 200
    tolerance: Annotated[float, Field(gt=0.0)] = 0.1
    tests: Annotated[tuple[Test, ...], Field(min_length=1, max_length=200)]


def load_behaviour(path: Path) -> Behaviour:
    """Read and check the file.

    UsageError when it is missing or no YAML, a key is unknown (its nearest right one is named), or a value is wrong.
    """
    hint = "name your file in evaluation.behaviour, or set evaluation.behaviour=null for no such tests"
    tree = read_yaml(path, hint, "`tests:` with a list")
    try:
        found = Behaviour.model_validate(tree)
    except ValidationError as error:
        # A misspelt key often makes the right one missing too: the misspelling is what helps.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        # pydantic puts the kind between the test's number and its key.
        said = explain(first, _model(first["loc"][:-1]).model_fields, skipped=KINDS)
        raise UsageError(f"{path}: {said}", "every key is explained in data/behaviour.yaml") from None
    names = [test.name for test in found.tests]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: two tests are called {twice[0]!r}", "give each a name of its own")
    return found


def _model(place: Sequence[str | int]) -> type[Section]:
    if "cases" in place:
        return Case
    return next((KINDS[str(part)] for part in place if part in KINDS), Behaviour)
