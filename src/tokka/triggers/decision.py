"""Whether a push starts a retraining, by content alone: a pure function over the files of two commits.

What counts: params.yaml by section, dvc.lock, *.dvc, dvc.yaml, the expectation suites, the files that data names where
they are in git, and the training code. A comment in params.yaml, a README and a merge without an effect do not.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tokka import files
from tokka.params import Params
from tokka.sections_serving import Repository

PARAMS = "params.yaml"
# Of params.yaml: what is trained, measured and judged. The others are of serving, watching and starting.
DECISIVE = (
    "task", "data", "validation", "preprocessing", "model", "adaptation", "finetuning", "export", "evaluation", "gate",
    "registry",
)  # fmt: skip
SUITES = "data/expectations/*"
HEADS = "refs/heads/"

Content = Mapping[str, str]
State = Literal["queued", "started", "done", "ignored", "refused", "failed"]


class Push(BaseModel):
    """A branch that moved: commits are 40 or 64 hexadecimal digits, `before` empty where it is not known.

    `source`: who said so, which is hook, webhook, poll or person.
    """

    model_config = ConfigDict(frozen=True)

    repository: str
    ref: str
    before: str
    after: str
    source: str = "hook"

    @property
    def identity(self) -> str:
        """The same for the same move of the same branch, whoever tells it."""
        return files.digest_json([self.repository, self.ref, self.before, self.after])


class Facts(BaseModel):
    """What is known of a push when it is decided on.

    Args:
        commit: what the branch holds now: `gone` when it or the commit was taken back, `older` when a newer commit of
            the same branch was decided on before.
        before: the content of the commit that was decided on last; None when nothing is known of the branch.
        made: what came of the same content before, in words.
        fault: why the commit cannot be trained, in words.
    """

    model_config = ConfigDict(frozen=True)

    commit: Literal["there", "gone", "older"] = "there"
    before: Content | None = None
    after: Content = {}
    made: str = ""
    fault: str = ""


class Decision(BaseModel):
    """What becomes of a push, and why; `key` and `changes` are of the content, `is_news` whether people are told."""

    model_config = ConfigDict(frozen=True)

    verdict: Literal["start", "ignored", "refused"]
    reason: str
    key: str = ""
    changes: tuple[str, ...] = ()
    is_news: bool = True


def decide(facts: Facts) -> Decision:
    """Start, ignore or refuse."""
    if facts.commit == "gone":
        return Decision(verdict="ignored", reason="the commit is on the branch no more: it was deleted or forced away")
    if facts.commit == "older":
        return Decision(verdict="ignored", reason="a newer commit of the branch was decided on before")
    if facts.fault:
        return Decision(verdict="refused", reason=facts.fault)
    key, changes = content_key(facts.after), tuple(differences(facts.before, facts.after))
    if not changes:
        return Decision(verdict="ignored", reason="nothing that a training follows from has changed", key=key)
    if facts.made:
        return Decision(
            verdict="ignored", reason=f"the same content was decided on before: {facts.made}", key=key, changes=changes
        )
    return Decision(verdict="start", reason="; ".join(changes), key=key, changes=changes)


def content(blobs: Mapping[str, str], params: Params, code: Sequence[str]) -> Content:
    """What of a commit a training follows from, each part with its digest.

    `blobs`: the id of every file by its path; `code`: the patterns of `triggers.code`.
    """
    tree = params.model_dump(mode="json", include=set(DECISIVE))
    found = {f"{PARAMS} {section}": files.digest_json(tree[section]) for section in DECISIVE}
    return found | {path: blob for path, blob in blobs.items() if counts(path, params, code)}


def counts(path: str, params: Params, code: Sequence[str]) -> bool:
    """Whether a training follows from a file, params.yaml aside."""
    named = (params.data.source, params.data.validation, params.data.test, params.validation.suite)
    return (
        path in ("dvc.lock", "dvc.yaml", *named)
        or path.endswith(".dvc")
        or any(fnmatchcase(path, pattern) for pattern in (SUITES, *code))
    )


def content_key(content: Content) -> str:
    """The key under which a content is retrained once, 32 hexadecimal digits."""
    return files.digest_json(dict(content))[:32]


def differences(before: Content | None, after: Content) -> list[str]:
    """What differs, one entry a part, in words; a branch of which nothing is known differs as a whole."""
    if before is None:
        return ["nothing is known of what the branch held before"]
    names = sorted({*before, *after})
    return [
        f"{name} {'added' if name not in before else 'removed' if name not in after else 'changed'}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def allows(repository: Repository, ref: str) -> bool:
    """Whether a ref is a branch that may start a run."""
    branch = ref.removeprefix(HEADS)
    return ref.startswith(HEADS) and any(fnmatchcase(branch, pattern) for pattern in repository.branches)
