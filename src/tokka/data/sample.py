"""A synthetic help-desk corpus: invented messages, honest about what makes real ones hard.

They have names, amounts, typos, mixed languages, near-duplicates, wrong labels and messages that no one could tell
apart, so that no honest model reaches 100 %. One seed gives one file, byte for byte.
"""

import csv
import functools
import io
import random
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tokka import files

START = datetime(2026, 1, 5)
WEEKS = 12
DRIFT_WEEK = 8
COLUMNS = ("text", "label", "time", "channel", "product")
CHANNELS = {"email": 0.35, "chat": 0.4, "app": 0.25}
DRIFTED_CHANNELS = {"email": 0.15, "chat": 0.35, "app": 0.2, "voice": 0.3}
TYPO_SHARE = {"email": 0.12, "chat": 0.35, "app": 0.25, "voice": 0.05}

AMBIGUOUS_SHARE = 0.08
WRONG_LABEL_SHARE = 0.025
NEAR_DUPLICATE_SHARE = 0.05
FOREIGN_SHARE = 0.08
NEW_WORD_SHARE = 0.7

ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")
ABOUT = """# {name} is synthetic

Tokka wrote it (`tokka sample --rows {rows} --seed {seed}{drift}`): {rows} invented help-desk messages with {intents}
intents. No person wrote them; products, names and orders do not exist. On purpose about {wrong:.1%} of the labels are
wrong and {ambiguous:.0%} of the messages fit two intents, so a perfect score would be a fault.
"""


class Message(NamedTuple):
    """One row of the corpus; `time` is ISO 8601 without a zone."""

    text: str
    label: str
    time: str
    channel: str
    product: str


def make_sample(path: Path, rows: int = 6000, seed: int = 7, drift: bool = False) -> None:
    """Write the corpus over twelve weeks as CSV (text, label, time, channel, product), and a note that says so.

    `drift`: from the ninth week on two new intents, other words, other shares, and a new channel.
    """
    messages = _Desk(seed).messages(rows, _times(rows, seed), drift_from=DRIFT_WEEK if drift else None)
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([COLUMNS, *messages])
    files.write_text(path, file.getvalue())
    facts = {"name": path.name, "rows": rows, "seed": seed, "drift": " --drift" if drift else ""}
    intents = len({message.label for message in messages})
    about = ABOUT.format(**facts, intents=intents, wrong=WRONG_LABEL_SHARE, ambiguous=AMBIGUOUS_SHARE)
    files.write_text(path.with_name(path.name + ".md"), about)


def is_sample(path: Path) -> bool:
    """Whether a file lies beside the note that `make_sample` writes."""
    note = path.with_name(path.name + ".md")
    return note.is_file() and note.read_text(encoding="utf-8").startswith(f"# {path.name} is synthetic")


def make_traffic(rows: int, seed: int, drift: bool) -> list[dict[str, str]]:
    """Messages (text, label, time, channel) of the weeks after the sample, all before the drift or all after it."""
    times = [START + timedelta(weeks=WEEKS, minutes=3 * number) for number in range(rows)]
    messages = _Desk(seed).messages(rows, times, drift_from=0 if drift else None)
    return [{name: getattr(message, name) for name in ("text", "label", "time", "channel")} for message in messages]


def _times(rows: int, seed: int) -> list[datetime]:
    clock = random.Random(f"times-{seed}")
    moments = []
    for _ in range(rows):
        day = clock.choices(range(7), (20, 18, 17, 16, 15, 8, 6))[0]
        hour = min(23.9, max(0.0, clock.gauss(14, 4)))
        moments.append(START + timedelta(weeks=clock.randrange(WEEKS), days=day, seconds=int(hour * 3600)))
    return sorted(moments)


@functools.cache
def _texts() -> dict[str, Any]:  # what PyYAML reads: the shapes of sample.yaml, which is ours
    text = package_files("tokka.data").joinpath("sample.yaml").read_text(encoding="utf-8")
    return dict(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


class _Desk:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"desk-{seed}")
        self.texts = _texts()
        self.written: list[Message] = []

    def messages(self, rows: int, times: Sequence[datetime], drift_from: int | None) -> list[Message]:
        for moment in times[:rows]:
            drifted = drift_from is not None and (moment - START).days // 7 >= drift_from
            self.written.append(self._message(moment.isoformat(), drifted))
        return self.written

    def _message(self, time: str, drifted: bool) -> Message:
        if len(self.written) > 50 and self._chance(NEAR_DUPLICATE_SHARE):
            copied = self.random.choice(self.written[-300:])
            return copied._replace(text=self._nearly(copied.text), time=time)
        channels = DRIFTED_CHANNELS if drifted else CHANNELS
        channel = self.random.choices(list(channels), list(channels.values()))[0]
        label, product, phrase = self._choose(drifted)
        text = self._dress(self._fill(phrase, product), channel, product)
        if drifted:
            text = self._new_words(text)
        return Message(self._as_typed(text, channel), self._maybe_wrong(label, drifted), time, channel, product)

    def _choose(self, drifted: bool) -> tuple[str, str, str]:
        """Label, product and phrase; an ambiguous phrase gets one of its two labels by a coin."""
        intents = self.texts["intents"] | (self.texts["new_intents"] if drifted else {})
        if self._chance(AMBIGUOUS_SHARE):
            found = self.random.choice(self.texts["ambiguous"])
            phrase, label = found["phrase"], self.random.choice(found["labels"])
        else:
            factor = self.texts["drifted_weights"] if drifted else {}
            weights = [intent["weight"] * factor.get(name, 1.0) for name, intent in intents.items()]
            label = self.random.choices(list(intents), weights)[0]
            phrases = intents[label]["phrases"]
            # Some ways to say it are rare: a model meets in the test what it has hardly seen.
            phrase = self.random.choices(phrases, [1 / (rank + 1) for rank in range(len(phrases))])[0]
        return label, self.random.choice(intents[label]["products"]), phrase

    def _pick(self, name: str) -> str:
        return str(self.random.choice(self.texts[name]))

    def _fill(self, phrase: str, product: str) -> str:
        while ALTERNATIVES.search(phrase):
            phrase = ALTERNATIVES.sub(lambda match: self.random.choice(match[1].split("|")), phrase, count=1)
        paired = "2}" in phrase
        return SLOT.sub(lambda match: self._slot(match[1], product, paired), phrase)

    def _slot(self, name: str, product: str, paired: bool) -> str:
        if name == "product":
            return product
        if name == "amount":
            amounts = str(self.random.randrange(5, 400)), f"{self.random.randrange(500, 40_000) / 100:.2f}"
            number = self.random.choice(amounts)
            return self.random.choice(("{} EUR", "€{}", "{} euros", "${}", "£{}")).format(number)
        if name == "order":
            return f"{self.random.choice(('#', 'PA-', ''))}{self.random.randrange(10_000, 99_999)}"
        values = self.texts["slots"][name.rstrip("2")]
        # Two in one phrase (`item` and `item2`) come from different halves, so that they differ.
        half = len(values) // 2
        return str(self.random.choice(values[half:] if name.endswith("2") else values[:half] if paired else values))

    def _dress(self, core: str, channel: str, product: str) -> str:
        """What stands before and after the matter; a letter has more of it than a chat."""
        letter, foreign = channel == "email", "foreign_" if self._chance(FOREIGN_SHARE) else ""
        parts = [core]
        if self._chance(0.6 if letter else 0.25):
            parts.insert(0, self._pick(f"{foreign}openers"))
        if self._chance(0.35 if letter else 0.1):
            parts.append(self._fill(self._pick("asides"), product))
        if self._chance(0.18 if letter else 0.08):
            parts.append(self._pick("distractors"))
        if self._chance(0.6 if letter else 0.2):
            parts.append(self._fill(self._pick(f"{foreign}closers"), product))
        return self._join(parts)

    def _join(self, parts: list[str]) -> str:
        text = ""
        for part in parts:
            gap = "" if not text else " " if text[-1] in ".,:!?" else self.random.choice((". ", ", ", " "))
            text += gap + part.strip()
        return re.sub(r"\s+([,.?!])", r"\1", re.sub(r" {2,}", " ", text)).strip(" ,")

    def _new_words(self, text: str) -> str:
        for old, new in self.texts["new_words"].items():
            if self._chance(NEW_WORD_SHARE):
                text = re.sub(rf"\b{re.escape(old)}(s?)\b", rf"{new}\1", text)
        return text

    def _as_typed(self, text: str, channel: str) -> str:
        if channel == "voice":
            return re.sub(r"[^\w\s@.#-]|\.(?=\s|$)", "", text).lower()
        if channel == "chat" and self._chance(0.6):
            text = text.lower()
        elif self._chance(0.8):
            text = text[:1].upper() + text[1:]
        if self._chance(0.03):
            text = text.upper()
        if channel == "chat" and self._chance(0.12):
            text += self.random.choice((" :(", " 😡", " ??", " 🙏", "!!", " :)"))
        for _ in range(2):
            if self._chance(TYPO_SHARE[channel]):
                text = self._slip(text)
        return text

    def _slip(self, text: str) -> str:
        place = self.random.randrange(1, max(2, len(text) - 1))
        before, here, after = text[:place], text[place : place + 1], text[place + 1 :]
        kind = self.random.randrange(4)
        typed = self.random.choice("aeionrst") if kind == 3 else (after[:1] + here, "", here * 2)[kind]
        return before + typed + (after if kind else after[1:])

    def _nearly(self, text: str) -> str:
        kind = self.random.randrange(4)
        if kind == 0:
            return self._slip(text)
        if kind == 1:
            return text.rstrip(".!? ") + self.random.choice(("!", "??", ".", " ..."))
        if kind == 2:
            return text.swapcase() if self._chance(0.1) else text.lower()
        return re.sub(r"\d(?=\D*$)", lambda _: str(self.random.randrange(10)), text)

    def _maybe_wrong(self, label: str, drifted: bool) -> str:
        if not self._chance(WRONG_LABEL_SHARE):
            return label
        known = [*self.texts["intents"], *(self.texts["new_intents"] if drifted else [])]
        return str(self.random.choice([name for name in known if name != label]))

    def _chance(self, share: float) -> bool:
        return self.random.random() < share
